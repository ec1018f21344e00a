"""Faces and sounds of single-person clips, cut out once: `python -m training.active_speaker.prepare --out FOLDER`.

Each clip becomes one npz: `mouth` uint8 [T, 64, 64] (wider than the network's own picture, to be shifted and scaled in
training), `face` uint8 [T, 112, 112] (what LR-ASD looks at), `landmarks` int16 [T, 478, 3] (see `dyconv.faces`), `present`
bool [T], `sound` int16 [T * 640] (empty for a clip without sound) and `speech` float32 [T] (silero).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import pack_points
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.sound import read_sound
from dyconv.media.source import VideoFacts, pick_audio, probe
from dyconv.models import registry
from dyconv.models.lr_asd import face_thumb
from dyconv.models.mouth_crop import mouth_picture
from dyconv.models.mouth_sync_input import REACH, THUMB
from dyconv.models.slots import Vad
from dyconv.time import FRAME, Span, frame_samples, nearest_frame
from dyconv.tracking.follow import Follower, Rules
from dyconv.tracking.smooth import to_arrays
from training.corpora import HELD_OUT_OFFSETS, Head, data_dir, heads

LISTENERS = ("msdwild__11", "msdwild__3", "msdwild__9")  # held out: they listen to held-out speakers
WIDE = 64  # side of the mouth pictures kept
_LOG = logging.getLogger(__name__)
_RULES = Rules(detect_every=12, iris_every=10**6, max_gap=10, min_length=12, min_presence=0.5)
_HEIGHT = 480


def pictures(path: Path, video: VideoFacts) -> Iterator[np.ndarray]:
    """uint8 RGB at 25 fps: frame k is what is on screen at (k + 1/2) / 25 s."""
    upright = Upright(display_size(video, _HEIGHT), "rgb24")
    total = nearest_frame(video.end - video.start)
    shown: np.ndarray | None = None
    index = 0
    for frame in PictureReader(path, video):
        while shown is not None and index < total and video.start + (index + 0.5) * FRAME < frame.time:
            yield shown
            index += 1
        shown = upright(frame.picture).to_ndarray()
    for _ in range(index, total):
        if shown is not None:
            yield shown


def read_head(head: Head, models: tuple[Any, ...], vad: Vad) -> dict[str, np.ndarray] | None:
    """The arrays of one clip, or None where no face is found."""
    info = probe(head.video)
    if info.video is None:
        return None
    images = list(pictures(head.video, info.video))
    follower = Follower(models[0], models[1], _RULES, lambda path, image: None)
    for index, image in enumerate(images):
        follower.feed(index, image)
    paths = follower.finish()
    if not paths:
        return None
    track = to_arrays(max(paths, key=lambda path: len(path.frames) * np.ptp(path.points[0][:468, 0])))
    count = len(images)
    landmarks, present = track.dense(count)
    mouth = np.zeros((count, WIDE, WIDE), np.uint8)
    face = np.zeros((count, 112, 112), np.uint8)
    for frame, box in zip(track.frames.tolist(), track.boxes, strict=True):
        mouth[frame] = mouth_picture(images[frame], landmarks[frame], WIDE, REACH * WIDE / THUMB)
        face[frame] = face_thumb(images[frame], box)
    sound = _sound(head, info.video, count)
    speech = vad.speech(sound) if len(sound) else np.zeros(count, np.float32)
    return {
        "mouth": mouth,
        "face": face,
        "landmarks": pack_points(landmarks),
        "present": present,
        "sound": np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16),
        "speech": speech,
    }


def _sound(head: Head, video: VideoFacts, count: int) -> np.ndarray:
    info = probe(head.sound)
    facts = pick_audio(info)
    if facts is None:
        return np.zeros(0, np.float32)
    start = video.start if head.sound == head.video else facts.start
    return read_sound(head.sound, facts, Span(start, start + count * FRAME)).samples[: frame_samples(count)]


def held_out() -> list[Head]:
    """Held-out speakers, the copies with known shifts, and listeners beside held-out speakers."""
    folder = data_dir() / "heads"
    more = (*HELD_OUT_OFFSETS, *LISTENERS)
    return [*heads(held_out=True), *(Head(name, folder / f"{name}.mp4", folder / f"{name}.mp4") for name in more)]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="k/n: only every nth clip, beginning with the kth")
    parser.add_argument("--held-out", action="store_true", help="only the clips that are held out, for the evaluation")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    models = (registry.load("mediapipe_face"), registry.load("mediapipe_mesh"))
    vad = registry.load("silero")
    first, step = (int(number) for number in given.part.split("/"))
    for head in (held_out() if given.held_out else heads(held_out=False))[first::step]:
        target = given.out / f"{head.name}.npz"
        if target.exists():
            continue
        arrays = read_head(head, models, vad)
        if arrays is None:
            _LOG.info("%s: no face", head.name)
            continue
        save_arrays(target, arrays)
        _LOG.info("%s: %d frames, %d with a face", head.name, len(arrays["present"]), arrays["present"].sum())


if __name__ == "__main__":
    main()
