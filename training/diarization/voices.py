"""Voices to compose from: every speaker's utterances, cut where they really speak.

speechocean762 has a folder a speaker; the clips of `heads/` one person each; the spoken prompts one voice a package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyconv.errors import UsageError
from dyconv.models.silero import SileroVad
from dyconv.synth.sound import level_db, read_sound
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.corpora import PROMPTS, Head, heads, sounds, speakers

_HOP = SAMPLE_RATE // 100
_MIN_GAP = 0.2  # s: a pause shorter than this is part of an utterance
_MIN_SPEECH = 0.25  # s
_SEARCH = 0.08  # s around what the VAD says in which the level finds the edge
_QUIET_DB = 26.0  # below the loudest 10 ms of an utterance: not speech any more
_LEVEL = 0.05  # RMS every utterance is brought to
_PROMPTS_A_VOICE = 60
_NOT_ALONE = re.compile(r"msdwild__\d+$|visualvoice__noisy_restaurant")  # another person than the one seen is heard
_SAME = ("obama", "trump", "aoc", "alexandriaocasiocortez")  # one person under several names


@dataclass(frozen=True)
class Voice:
    """One speaker: utterances int16 at 16 kHz, each beginning and ending with speech, at one level."""

    name: str
    utterances: list[np.ndarray]

    @property
    def seconds(self) -> float:
        return sum(map(len, self.utterances)) / SAMPLE_RATE


def spoken(samples: np.ndarray, vad: SileroVad) -> list[tuple[int, int]]:
    """Stretches `[start, stop)` of samples in which one voice speaks: VAD, its edges moved to where the level rises."""
    speech = vad.speech(samples) > 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], speech, [False]]).astype(int))).reshape(-1, 2)
    level = level_db(samples)
    found: list[list[int]] = []
    for start, stop in edges:
        low = max(int(start) * SAMPLES_PER_FRAME // _HOP - int(_SEARCH * 100), 0)
        high = min(int(stop) * SAMPLES_PER_FRAME // _HOP + int(_SEARCH * 100), len(level))
        loud = np.flatnonzero(level[low:high] > level[low:high].max() - _QUIET_DB)
        begin, end = (low + int(loud[0])) * _HOP, (low + int(loud[-1]) + 1) * _HOP
        if found and begin - found[-1][1] < _MIN_GAP * SAMPLE_RATE:
            found[-1][1] = max(end, found[-1][1])
        else:
            found.append([begin, end])
    return [(start, min(stop, len(samples))) for start, stop in found if stop - start >= _MIN_SPEECH * SAMPLE_RATE]


def _voice(name: str, files: list[Path], vad: SileroVad) -> Voice | None:
    utterances = []
    for path in files:
        try:
            samples = read_sound(path)
        except UsageError:  # a clip without sound, or an empty prompt
            continue
        for start, stop in spoken(samples, vad):
            piece = samples[start:stop]
            scale = _LEVEL / max(float(np.sqrt(np.mean(np.square(piece)))), 1e-5)
            utterances.append((np.clip(piece * scale, -1, 1) * 32767).astype(np.int16))
    return Voice(name, utterances) if utterances else None


def _person(head: Head) -> str:
    """Clips of one person carry one name."""
    for name in _SAME:
        if name in head.name.lower().replace("-", ""):
            return name
    return re.sub(r"_clip_?\d.*$", "", head.name)


def voices(packages: Path, *, held_out: bool) -> list[Voice]:
    """Every voice of one side of the split, in order of name.

    Args:
        packages: folder the Debian packages were unpacked into; their voices are for training only.
        held_out: the side.
    """
    vad = SileroVad()
    files: dict[str, list[Path]] = {f"so762_{name}": paths for name, paths in speakers(held_out=held_out).items()}
    for head in heads(held_out=held_out):
        if not _NOT_ALONE.search(head.name):
            files.setdefault(f"head_{_person(head)}", []).append(head.sound)
    if not held_out:
        for package in PROMPTS:
            spread = list(sounds(packages, (package,)))
            files[package] = spread[:: max(1, len(spread) // _PROMPTS_A_VOICE)]
    made = (_voice(name, paths, vad) for name, paths in sorted(files.items()))
    return [voice for voice in made if voice is not None]


def save(path: Path, made: list[Voice]) -> None:
    """Keep decoded voices in one file, so that composing again needs no decoding."""
    arrays = {f"{voice.name}/{index:03d}": piece for voice in made for index, piece in enumerate(voice.utterances)}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[Voice]:
    """What `save` wrote."""
    found: dict[str, list[np.ndarray]] = {}
    with np.load(path) as kept:
        for key in kept.files:
            found.setdefault(key.rsplit("/", 1)[0], []).append(kept[key])
    return [Voice(name, pieces) for name, pieces in found.items()]
