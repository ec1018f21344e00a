"""Small sets in the layouts that public ones are published in: a photographed face that moves, and real speech."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from dyconv.media.audio import read_audio
from dyconv.media.video import VideoWriter
from dyconv.time import SAMPLE_RATE

SECONDS = 4
SPEECH = ((10.6, 3.0), (14.75, 3.0))  # where in the conversation that pyannote.audio carries one voice is alone, and how long


@cache
def portrait() -> np.ndarray:
    """A photographed face, uint8 [200, 200, 3]."""
    from skimage import data

    return np.ascontiguousarray(np.asarray(data.astronaut())[0:200, 120:320])


def write_face(path: Path, *, mirrored: bool = False, seconds: float = SECONDS, size: int = 256) -> Path:
    """A silent video of the face, tilting and moving."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    image = cv2.resize(portrait()[:, ::-1] if mirrored else portrait(), (size, size))
    with VideoWriter(path, size, size, crf=16) as writer:
        for index in range(round(seconds * 25)):
            turn = cv2.getRotationMatrix2D((size / 2, size / 2), 7 * np.sin(index / 5 + mirrored), 1.0)
            turn[:, 2] += 6 * np.sin(index / 4), 4 * np.cos(index / 6)
            writer.write(cv2.warpAffine(np.ascontiguousarray(image), turn, (size, size), borderMode=cv2.BORDER_REPLICATE))
    return path


def write_voice(path: Path, voice: int, *, at: float, rate: int = 48000, seconds: float = SECONDS) -> Path:
    """One person's own sound: silence, with real speech from second `at` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start, _ = SPEECH[voice]
    spoken = read_audio(_conversation(), int(start * SAMPLE_RATE), int((start + seconds - at) * SAMPLE_RATE))
    samples = np.concatenate([np.zeros(int(at * SAMPLE_RATE), np.float32), spoken])
    soundfile.write(path, np.repeat(samples, rate // SAMPLE_RATE), rate, subtype="PCM_16")
    return path


def _conversation() -> Path:
    found = find_spec("pyannote.audio")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "sample" / "sample.wav"


def write_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def vico(root: Path, *, whole: bool = False) -> Path:
    """One conversation in the challenge's layout, or in that of the whole set."""
    names = ("talk-speaker", "talk-listener") if whole else ("ab12cd34ef56.speaker", "ab12cd34ef56.listener")
    sound = "vid_0_1" if whole else "ab12cd34ef56"
    for number, name in enumerate(names):
        write_face(root / "videos" / f"{name}.mp4", mirrored=bool(number))
    write_voice(root / "audios" / f"{sound}.wav", 0, at=0.5, rate=16000)
    people = {"speaker_id": "7", "listener_id": "12"}
    if whole:
        row = {
            "audio": sound,
            "listener": names[1],
            "speaker": names[0],
            **people,
            "data_split": "train",
            "attitude": "positive",
        }
        write_csv(root / "RLD_data.csv", [row])
    else:
        write_csv(root / "train.csv", [{"video_id": "vid", "uuid": "ab12cd34ef56", **people}])
    return root


def seamless(root: Path, *, by_modality: bool = False) -> Path:
    """One interaction as downloaded, or by modality."""
    home = root / "improvised" / "dev"
    for number, person in enumerate(("P0947", "P0383A")):
        name = f"V00_S0809_I00000582_{person}"
        video, audio = home / "0000" / "0005", home / "0000" / "0005"
        if by_modality:
            video, audio = home / "video", home / "audio"
        write_face(video / f"{name}.mp4", mirrored=bool(number))
        write_voice(audio / f"{name}.wav", number, at=0.4 + 1.6 * number)
        vad = [{"start": 0.4 + 1.6 * number, "end": 1.9 + 1.6 * number}]
        if by_modality:
            (home / "vad").mkdir(exist_ok=True)
            (home / "vad" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in vad))
        else:
            write_json(video / f"{name}.json", {"id": name, "metadata:vad": vad, "metadata:transcript": []})
    return root


def realtalk(root: Path) -> Path:
    """One video of two faces, with labels of who speaks."""
    home = root / "data" / "english"
    write_face(home / "videos" / "dQw4w9WgXcQ.mp4")
    boxes = {"p0": {"bbox": [20.0, 30.0, 90.0, 120.0]}, "p1": {"bbox": [130.0, 30.0, 200.0, 120.0]}}
    labels = {
        str(frame): {"current_speaker": "p0" if frame < 40 else "p1" if frame < 90 else None, "people": boxes}
        for frame in range(SECONDS * 25)
    }
    write_json(home / "speaker_labels" / "dQw4w9WgXcQ.json", labels)
    write_json(home / "transcripts" / "dQw4w9WgXcQ.json", {"segments": [{"start": 0, "end": 2, "text": "hi"}]})
    return root


def speakervid(root: Path) -> Path:
    """Annotations of two clips of one video and one of another."""
    clips = {
        "dQw4w9WgXcQ_1920x1080_full_video_001": {"video_name": "dQw4w9WgXcQ", "org_start_seconds": 12.5, "duration": 6.0},
        "dQw4w9WgXcQ_1920x1080_full_video_000": {"video_name": "dQw4w9WgXcQ", "start": 3.0, "end_seconds": 8.0},
        "-abcdefghi0_1280x720_full_video_000": {"org_start_seconds": 1, "duration": 4, "bbox": [1, 2, 30, 40]},
    }
    for name, row in clips.items():
        extra = {"speaker": ["s1"], "is_talking": 1, "clear": 0.7, "dover": 0.6, "conf": 4.2}
        write_json(root / "merged_anno" / f"{name}.json", {**row, **extra})
    write_json(root / "SFT_set.json", ["dQw4w9WgXcQ_1920x1080_full_video_001"])
    return root
