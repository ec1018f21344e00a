"""Clips and voices in memory: what the composed training windows are cut from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.faces import unpack_points
from dyconv.models.mouth_sync_input import LIPS, lip_shapes
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.corpora import HELD_OUT_HEADS, HELD_OUT_OFFSETS, MUSIC, NOISE, PROMPTS, sounds, speakers

_DEV_EVERY = 9  # each ninth clip with sound is kept for calibration
_UTTERANCES = 5  # of each speaker
_LONGEST_S = 20
LISTENER = "msdwild__"  # faces of one room while others speak, unless the name says speaking
_SPEAKING = "speaking_mp4s"
_NOISES = 250


@dataclass
class Clip:
    """One face with its sound.

    Attributes:
        mouth: uint8 [T, 64, 64].
        shapes: float32 [T, 53].
        present: bool [T].
        sound: int16 [T * 640], or empty.
        speech: float32 [T], of the clip's own sound.
        listens: the sound is somebody else's.
        teacher: float16 [T, 128], another model's view of the face, or None.
        quiet: frames whose lips are most shut, best first.
    """

    name: str
    mouth: np.ndarray
    shapes: np.ndarray
    present: np.ndarray
    sound: np.ndarray
    speech: np.ndarray
    listens: bool
    teacher: np.ndarray | None
    quiet: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.present)

    @property
    def talks(self) -> bool:
        return len(self.sound) > 0 and not self.listens


def load_clip(path: Path, teacher: Path | None = None) -> Clip:
    """One clip as `training.active_speaker.prepare` wrote it."""
    arrays = load_arrays(path)
    landmarks = unpack_points(arrays["landmarks"])
    present = arrays["present"]
    opening = np.linalg.norm(landmarks[:, 13] - landmarks[:, 14], axis=1)
    width = np.linalg.norm(landmarks[:, 33] - landmarks[:, 263], axis=1)
    order = np.argsort(np.where(present, opening / np.maximum(width, 1.0), np.inf))
    name = path.stem
    seen = teacher / f"{name}.npy" if teacher else None
    return Clip(
        name,
        arrays["mouth"],
        lip_shapes(landmarks, present),
        present,
        arrays["sound"],
        arrays["speech"],
        name.startswith(LISTENER) and _SPEAKING not in name,
        np.load(seen) if seen and seen.is_file() else None,
        order[: max(3, len(order) // 10)],
    )


def load_clips(folder: Path, teacher: Path | None = None) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on, and those of them that are kept for calibration. Nothing that is held out."""
    out = {*HELD_OUT_HEADS, *HELD_OUT_OFFSETS}
    paths = [path for path in sorted(folder.glob("*.npz")) if path.stem not in out]
    clips = [load_clip(path, teacher) for path in paths]
    clips = [clip for clip in clips if clip.present.sum() >= 25]
    talking = [clip.name for clip in clips if clip.talks and (clip.speech > 0.5).sum() > 50]
    dev = {*talking[::_DEV_EVERY], *[clip.name for clip in clips if clip.listens][::6]}
    return [clip for clip in clips if clip.name not in dev], [clip for clip in clips if clip.name in dev]


def read_file(path: Path) -> np.ndarray:
    """A sound file as mono 16 kHz int16, its first 20 s; empty if it holds nothing."""
    from dyconv.media.sound import read_sound
    from dyconv.media.source import UnreadableSource, pick_audio, probe
    from dyconv.time import Span, seconds

    try:
        facts = pick_audio(probe(path))
    except UnreadableSource:
        return np.zeros(0, np.int16)
    if facts is None:
        return np.zeros(0, np.int16)
    samples = read_sound(path, facts, Span(facts.start, min(facts.end, facts.start + seconds(_LONGEST_S)))).samples
    return np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16)


def load_sounds(packages: Path, cache: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Voices of strangers and noises (with music), int16 each; read once, then from `cache`."""
    if cache.is_file():
        stored = load_arrays(cache)
        return _split(stored["voices"], stored["voice_ends"]), _split(stored["noises"], stored["noise_ends"])
    people = speakers(held_out=False)
    voices = [read_file(path) for paths in people.values() for path in paths[:_UTTERANCES]]
    prompts = [path for path in sounds(packages, PROMPTS) if path.stat().st_size > 40_000]
    voices += [read_file(path) for path in prompts[:: max(1, len(prompts) // 200)]]
    loud = list(sounds(packages, tuple(dict.fromkeys((*MUSIC, *NOISE)))))
    noises = [read_file(path) for path in loud[:: max(1, len(loud) // _NOISES)]]
    voices = [voice for voice in voices if len(voice) > SAMPLE_RATE // 2]
    noises = [noise for noise in noises if len(noise) > SAMPLE_RATE // 10 and np.abs(noise).max() > 300]
    np.savez(
        cache,
        voices=np.concatenate(voices),
        voice_ends=np.cumsum([len(voice) for voice in voices]),
        noises=np.concatenate(noises),
        noise_ends=np.cumsum([len(noise) for noise in noises]),
    )
    return voices, noises


def _split(joined: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    return np.split(joined, ends[:-1].tolist())


def activity(samples: np.ndarray, frames: int) -> np.ndarray:
    """A plain energy detector for clean voices: float32 [frames], 1 where somebody is heard."""
    level = np.sqrt((samples[: frames * SAMPLES_PER_FRAME].astype(np.float32).reshape(frames, -1) ** 2).mean(axis=1))
    loud = float(np.percentile(level, 95))
    return ((level > 0.08 * loud) & (level > 30.0)).astype(np.float32)


def mirrored(shapes: np.ndarray) -> np.ndarray:
    """Lip shapes [T, 53] as seen in a mirror."""
    swap = {61: 291, 37: 267, 84: 314, 82: 312, 87: 317, 78: 308}
    both = {**swap, **{right: left for left, right in swap.items()}}
    order = [LIPS.index(both.get(point, point)) for point in LIPS]
    points = shapes[:, : 3 * len(LIPS)].reshape(len(shapes), len(LIPS), 3)[:, order] * np.array([-1, 1, 1], np.float32)
    return np.concatenate([points.reshape(len(shapes), -1), shapes[:, 3 * len(LIPS) :]], axis=1)
