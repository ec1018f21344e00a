"""Measure active speaker models on held-out people: `python -m training.active_speaker.evaluate --data FOLDER`.

`--data` is what `training.active_speaker.prepare --held-out` wrote. Per frame, area under the curve: (a) a face that
speaks against a face at rest (its own shut mouth, or a real listener) while somebody else is heard; (b) the right voice
against another voice with lips that move; (c) share of shifts put in by hand that are found within a frame, and how often the
offset's confidence is above one half for right and for wrong voices.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.faces import unpack_points
from dyconv.models import registry
from dyconv.models.mouth_sync_input import THUMB
from dyconv.models.slots import ActiveSpeaker, FaceTrack
from dyconv.time import SAMPLES_PER_FRAME
from training.active_speaker.prepare import LISTENERS
from training.corpora import HELD_OUT_HEADS, HELD_OUT_OFFSETS

_LOG = logging.getLogger(__name__)
_LONGEST = 300  # frames of a clip
_TALKS, _QUIET = 0.6, 0.2
_OTHERS = 3  # wrong voices for each face
_INJECTED = (-12, -7, -3, -1, 1, 2, 5, 8, 12)
_MIN_SPEECH = 75  # frames, for shifts


@dataclass(frozen=True)
class Face:
    name: str
    landmarks: np.ndarray
    present: np.ndarray
    mouth: np.ndarray
    face: np.ndarray
    sound: np.ndarray
    speech: np.ndarray

    def track(self, model: ActiveSpeaker) -> FaceTrack:
        edge = (self.mouth.shape[1] - THUMB) // 2
        thumbs = {0: None, THUMB: self.mouth[:, edge:-edge, edge:-edge]}.get(model.thumb_px, self.face)
        return FaceTrack(self.landmarks, self.present, thumbs)


def load(path: Path) -> Face:
    arrays = load_arrays(path)
    count = min(len(arrays["present"]), _LONGEST)
    sound = arrays["sound"].astype(np.float32)[: count * SAMPLES_PER_FRAME] / 32768
    present, mouth, face, speech = (arrays[name][:count] for name in ("present", "mouth", "face", "speech"))
    return Face(path.stem, unpack_points(arrays["landmarks"][:count]), present, mouth, face, sound, speech)


def at_rest(face: Face) -> Face:
    """The same face shown at its most shut, swinging over a few frames, as composed conversations show a listener."""
    opening = np.linalg.norm(face.landmarks[:, 13] - face.landmarks[:, 14], axis=1)
    smooth = np.convolve(np.where(face.present, opening, opening.max()), np.ones(5) / 5, "same")
    middle = int(np.clip(smooth[2:-2].argmin() + 2, 2, len(smooth) - 3))
    swing = np.abs((np.arange(len(opening)) % 8) - 4) - 2
    index = middle + swing
    return replace(
        face, landmarks=face.landmarks[index], present=face.present[index], mouth=face.mouth[index], face=face.face[index]
    )


def voices_for(number: int, faces: list[Face]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Other people's sound and speech, repeated to the face's length."""
    out = []
    count = len(faces[number].present)
    for step in range(1, _OTHERS + 1):
        other = faces[(number + 4 * step) % len(faces)]
        sound = np.resize(other.sound, count * SAMPLES_PER_FRAME)
        out.append((sound, np.resize(other.speech, count)))
    return out


def auc(right: list[np.ndarray], wrong: list[np.ndarray]) -> float:
    """Chance that a frame of the first kind scores above one of the second (Mann and Whitney)."""
    from scipy.stats import rankdata

    first, second = np.concatenate(right), np.concatenate(wrong)
    ranks = rankdata(np.concatenate([first, second]))[: len(first)]
    return float((ranks.sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second)))


def verdicts(model: ActiveSpeaker, faces: list[Face], listeners: list[Face]) -> dict[str, float]:
    own, rest, real, swapped, mute = [], [], [], [], []
    for number, face in enumerate(faces):
        track, resting = face.track(model), at_rest(face).track(model)
        own.append(model.score(track, face.sound, face.speech)[face.present & (face.speech > _TALKS)])
        mute.append(model.score(track, face.sound * 0, face.speech * 0)[face.present])
        for place, (sound, speech) in enumerate(voices_for(number, faces)):
            heard = speech > _TALKS
            swapped.append(model.score(track, sound, speech)[face.present & heard])
            if place == 0:
                rest.append(model.score(resting, sound, speech)[resting.present & heard])
    for face in listeners:
        real.append(model.score(face.track(model), face.sound, face.speech)[face.present & (face.speech > _TALKS)])
    both = [*rest, *real]
    joined = np.concatenate(own), np.concatenate(both), np.concatenate(swapped)
    return {
        "a: speaking or at rest": auc(own, both),
        "a: speaking or a real listener": auc(own, real),
        "b: right or wrong voice": auc(own, swapped),
        "moving lips, sound off": auc(own, mute),
        "log odds above 0: speaking": float((joined[0] > 0).mean()),
        "log odds above 0: at rest": float((joined[1] > 0).mean()),
        "log odds above 0: wrong voice": float((joined[2] > 0).mean()),
    }


def shifts(model: ActiveSpeaker, faces: list[Face]) -> dict[str, float]:
    found: list[bool] = []
    sure: list[float] = []
    wrong: list[float] = []
    own: dict[str, float] = {}
    talking = [face for face in faces if (face.speech * face.present).sum() >= _MIN_SPEECH]
    for number, face in enumerate(talking):
        track = face.track(model)
        base = model.offset(track, face.sound, face.speech)
        if base is None:
            return {}
        own[face.name] = round(base.frames, 2)
        before = len(found)
        for shift in _INJECTED:
            moved = np.roll(face.sound, shift * SAMPLES_PER_FRAME)
            offset = model.offset(track, moved, np.roll(face.speech, shift))
            if offset is not None and abs(base.frames + shift) <= 14:
                found.append(abs(offset.frames - base.frames - shift) <= 1.0)
                sure.append(offset.confidence)
        _LOG.info("%s: %.2f of the shifts found", face.name, np.mean(found[before:]))
        for sound, speech in voices_for(number, talking):
            offset = model.offset(track, sound, speech)
            if offset is not None:
                wrong.append(offset.confidence)
    _LOG.info("own offsets: %s", own)
    near = [abs(value) <= 1.0 for value in own.values()]
    confident = np.array(sure) > 0.5
    return {
        "c: shifts found": float(np.mean(found)),
        "c: shifts found where confident": float(np.mean(np.array(found)[confident])) if confident.any() else 0.0,
        "c: offset of the clip as it is within a frame": float(np.mean(near)),
        "c: confident, right voice": float(confident.mean()),
        "c: confident, wrong voice": float((np.array(wrong) > 0.5).mean()),
        "c: tracks": float(len(talking)),
    }


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["lip_motion", "mouth_sync"])
    parser.add_argument("--out", type=Path, default=None, help="JSON of the numbers")
    given = parser.parse_args()
    faces = [load(given.data / f"{name}.npz") for name in HELD_OUT_HEADS if (given.data / f"{name}.npz").exists()]
    faces = [face for face in faces if len(face.sound) and (face.speech > _TALKS).sum() > 10]
    listeners = [load(given.data / f"{name}.npz") for name in LISTENERS]
    copies = [load(given.data / f"{name}.npz") for name in HELD_OUT_OFFSETS]
    results = {}
    for name in given.models:
        model = registry.load(name)
        results[name] = {**verdicts(model, faces, listeners), **shifts(model, faces)}
        for face in copies:
            offset = model.offset(face.track(model), face.sound, face.speech)
            if offset:
                results[name][face.name] = offset.frames
        for key, value in results[name].items():
            _LOG.info("%-14s %-50s %.3f", name, key, value)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
