"""Simulated faces over real speech: what `people` is given of a conversation whose turns are known.

The speech is pyannote.audio's packaged two-speaker telephone sample with its reference turns. A face is 478 points whose
mouth opens by the sound while its owner speaks, on a head that nods and turns, seen through noisy landmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from dyconv.faces import FaceArrays, save_faces
from dyconv.media.audio import write_audio
from dyconv.models.lip_motion import RIGID
from dyconv.records import Clip, Key, Source, Track
from dyconv.speech.voice import loudness
from dyconv.stages.base import Files
from dyconv.store import Store
from dyconv.time import FPS, SAMPLES_PER_FRAME, Span

_EYE_DISTANCE = 90.0  # pixels
_UPPER, _LOWER = [13, 82, 312, 81, 311], [14, 87, 317, 178, 402]
_PLACES = {10: (0, -0.9), 151: (0, -0.7), 9: (0, -0.5), 8: (0, -0.35), 168: (0, -0.15), 6: (0, 0), 197: (0, 0.15),
           195: (0, 0.25), 67: (-0.4, -0.75), 297: (0.4, -0.75), 54: (-0.6, -0.6), 284: (0.6, -0.6), 127: (-0.85, 0),
           356: (0.85, 0), 33: (-0.5, 0), 133: (-0.2, 0), 362: (0.2, 0), 263: (0.5, 0), 1: (0, 0.45), 152: (0, 1.35),
           61: (-0.3, 0.85), 291: (0.3, 0.85)}  # fmt: skip


@dataclass(frozen=True)
class Speech:
    """Mono 16 kHz samples and bool [T] per speaker, from the reference turns."""

    samples: np.ndarray
    spoken: Mapping[str, np.ndarray]

    @property
    def frames(self) -> int:
        return len(self.samples) // SAMPLES_PER_FRAME


def telephone() -> Speech:
    """30 s, speakers `a` and `b`, from the files inside the installed pyannote.audio (which is not imported)."""
    import importlib.util

    found = importlib.util.find_spec("pyannote.audio")
    assert found and found.origin
    folder = Path(found.origin).parent / "sample"
    samples, rate = soundfile.read(folder / "sample.wav", dtype="float32")
    assert rate == 16_000
    names = {"speaker90": "a", "speaker91": "b"}
    spoken = {name: np.zeros(len(samples) // SAMPLES_PER_FRAME, bool) for name in names.values()}
    for line in (folder / "sample.rttm").read_text().splitlines():
        parts = line.split()
        start, length = float(parts[3]), float(parts[4])
        spoken[names[parts[7]]][round(start * FPS) : round((start + length) * FPS)] = True
    return Speech(samples, spoken)


def face_points(opening: np.ndarray, seed: int, *, noise_px: float = 0.3, yaw: float = 0.0) -> np.ndarray:
    """Landmarks float32 [T, 478, 3] in pixels of a nodding head with the mouth open by `opening` (eye distances).

    `yaw` in radians turns the whole head away.
    """
    random = np.random.default_rng(seed)
    shape = np.zeros((478, 3))
    shape[:, :2] = random.uniform(-0.8, 0.8, (478, 2))
    for index, place in _PLACES.items():
        shape[index, :2] = place
    for offset, (upper, lower) in enumerate(zip(_UPPER, _LOWER, strict=True)):
        shape[[upper, lower], 0] = (offset - 2) * 0.08
        shape[[upper, lower], 1] = 0.85
    shape[:, 2] = 0.5 * (shape[:, 0] ** 2)
    assert set(RIGID) <= set(_PLACES)
    moving = np.repeat(shape[None], len(opening), axis=0)
    moving[:, _LOWER, 1] += opening[:, None]
    moving[:, 152, 1] += 0.7 * opening
    time = np.arange(len(opening)) / FPS
    nod = 0.12 * np.sin(2 * np.pi * (0.9 * time + random.random()))
    turn = yaw + 0.2 * np.sin(2 * np.pi * (0.23 * time + random.random()))
    roll = 0.1 * np.sin(2 * np.pi * (0.4 * time + random.random()))
    points = _turned(moving, nod, turn, roll) * _EYE_DISTANCE
    points += random.normal(0, noise_px, points.shape)
    return (points + 300.0).astype(np.float32)


def _turned(points: np.ndarray, nod: np.ndarray, turn: np.ndarray, roll: np.ndarray) -> np.ndarray:
    for first, second, angle in ((1, 2, nod), (0, 2, turn), (0, 1, roll)):
        cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
        moved = points.copy()
        moved[..., first] = cosine * points[..., first] - sine * points[..., second]
        moved[..., second] = sine * points[..., first] + cosine * points[..., second]
        points = moved
    return points


def opening_of(samples: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """How far a mouth opens, in eye distances, while its owner speaks what is heard."""
    loud = loudness(samples, len(spoken))
    high, low = np.percentile(loud[spoken], [95, 10]) if spoken.any() else (1.0, 0.0)
    level = np.clip((loud - low) / max(high - low, 1e-6), 0.0, 1.2)
    return np.asarray(0.12 * np.convolve(level * spoken, [0.25, 0.5, 0.25], mode="same"))


def write_segment(
    folder: Path,
    speech: Speech,
    shots: Sequence[tuple[float, float, str]],
    mouths: Mapping[str, np.ndarray],
    *,
    yaw: float = 0.0,
    channels: np.ndarray | None = None,
) -> tuple[Clip, Files]:
    """A segment as it stands before `people`.

    Args:
        shots: start and end in seconds, and the letters of who is on screen, from the left.
        mouths: for each letter the opening [T] of its mouth.
        yaw: radians by which every head is turned away.
        channels: float32 [2, N], where the source has two.
    """
    span = Span(Fraction(0), Fraction(speech.frames, FPS))
    clip = Clip(
        id="talk_00000000_00030000",
        source=Source("talk", "file:///talk.mp4", licence="CC0-1.0"),
        span=span,
        shots=tuple(Span.of(start, end) for start, end, _ in shots),
    )
    tracks, arrays = [], {}
    for index, (shot, (_, _, letters)) in enumerate(zip(clip.shots, shots, strict=True)):
        for place, letter in enumerate(letters):
            frames = np.arange(shot.frames.start, min(shot.frames.stop, speech.frames))
            points = face_points(mouths[letter][frames], seed=100 * index + ord(letter), yaw=yaw)
            points[..., 0] += 500 * place
            corners = np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1)
            name = f"s{index}t{place}"
            arrays[name] = FaceArrays(frames.astype(np.int32), corners, np.ones(len(frames), np.float32), points)
            tracks.append(Track(name, index, int(frames[0]), int(frames[-1]) + 1, 140.0, 1.0, identity=letter))
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    files = Files(Store(folder / "store"), "work/talk", scratch)
    clip = Clip(**{**vars(clip), "tracks": tuple(tracks)})
    mix, faces = files.new(clip, Key.MIX), files.new(clip, Key.FACES)
    write_audio(mix, speech.samples)
    save_faces(faces, arrays)
    clip = files.add(clip, (Key.MIX, mix), (Key.FACES, faces))
    if channels is not None:
        path = files.new(clip, Key.CHANNELS)
        write_audio(path, channels)
        clip = files.add(clip, (Key.CHANNELS, path))
    return clip, files


def confusion(clip: Clip, spoken: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Share of reference solo speech given to the wrong person, and share given to nobody.

    Args:
        spoken: reference by identity; the clip's people tell which identity is which person.
    """
    from dyconv.speech.turns import activity

    given = activity(clip.turns, clip.frames) > 0
    names = [next((p.identity for p in clip.people if p.id == person), None) for person in ("p0", "p1")]
    unseen = [name for name in spoken if name not in names]
    names = [name if name is not None else unseen[0] for name in names]
    wrong = missed = total = 0
    for person, name in enumerate(names):
        alone = spoken[name] & ~spoken[names[1 - person]]
        total += int(alone.sum())
        wrong += int((alone & given[1 - person] & ~given[person]).sum())
        missed += int((alone & ~given.any(axis=0)).sum())
    return wrong / total, missed / total
