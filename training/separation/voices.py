"""Voices to compose overlaps from: `python -m training.separation.voices --corpora FOLDER --out FILE` decodes them once.

Each voice is one person's utterances end to end, pauses cut to a fifth of a second, int16 at 16 kHz. Recordings with
little distance between speech and background are left out: what is not the voice cannot be a voice's truth.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from dyconv.arrays import load_arrays, save_arrays
from dyconv.media.sound import read_sound
from dyconv.media.source import pick_audio, probe
from dyconv.speech.turns import close_gaps, runs
from dyconv.time import SAMPLE_RATE, Span
from training.corpora import PROMPTS, data_dir, heads, speakers

_LOG = logging.getLogger(__name__)
_FRAME = 320  # samples, 20 ms
_PAUSE = 10  # frames of silence that stay in a voice
_LEAST_S = 5.0  # of speech a voice must have
_DISTANCE_DB = 30.0  # between loud and quiet frames of footage
_PROMPTS = 150  # of one prompt voice


@dataclass(frozen=True, eq=False)
class Voice:
    """One person's speech.

    Attributes:
        name: corpus and person: `ocean/0001`, `heads/lia__obama`, `prompt/fr`.
        samples: int16 [N].
        sex: `m`, `f` or empty where it is not known.
    """

    name: str
    samples: np.ndarray
    sex: str


def talking(samples: np.ndarray) -> np.ndarray:
    """Which 20 ms frames are within 35 dB of the loud ones, pauses below 0.2 s filled; bool [N // 320]."""
    energy = _levels(samples)
    if not len(energy):
        return np.zeros(0, bool)
    return close_gaps(energy > np.percentile(energy, 95) - 35.0, _PAUSE)


def _levels(samples: np.ndarray) -> np.ndarray:
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float32) / 32768
    return np.asarray(10 * np.log10((frames**2).mean(axis=1) + 1e-8))


def _speech_only(samples: np.ndarray) -> np.ndarray:
    """Samples int16 without their pauses."""
    parts = [samples[max(0, (start - 1) * _FRAME) : (end + 1) * _FRAME] for start, end in runs(talking(samples))]
    return np.concatenate(parts) if parts else samples[:0]


def read_voices(corpora: Path | None, *, held_out: bool) -> Iterator[Voice]:
    """Voices of all corpora; prompts only to train on, and only with a folder of unpacked packages."""
    listed = (data_dir() / "speech" / "speechocean762" / "spk2gender").read_text().split()
    sex = dict(zip(listed[::2], listed[1::2], strict=True))
    for name, paths in speakers(held_out=held_out).items():
        yield _voice(f"ocean/{name}", [_file(path) for path in paths], sex.get(name, ""))
    for head in heads(held_out=held_out):
        if head.name.startswith("msdwild__") and not head.name.startswith("msdwild__speaking"):
            continue  # several people share one sound there
        samples = _head(head.sound)
        levels = _levels(samples)
        if len(levels) and np.percentile(levels, 90) - np.percentile(levels, 8) > _DISTANCE_DB:
            yield _voice(f"heads/{head.name}", [samples], "")
    for package in PROMPTS if corpora and not held_out else ():
        found = sorted((corpora or Path()).joinpath(package).rglob("*.wav"))
        long = [samples for samples in map(_file, found) if len(samples) > SAMPLE_RATE]
        yield _voice(f"prompt/{package.split('-')[3]}", long[:: max(1, len(long) // _PROMPTS)], "")


def _voice(name: str, parts: list[np.ndarray], sex: str) -> Voice:
    return Voice(name, np.concatenate([_speech_only(part) for part in parts]), sex)


def _file(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        from scipy.signal import resample_poly

        mono = resample_poly(mono, SAMPLE_RATE, rate)
    return _int16(mono)


def _head(path: Path) -> np.ndarray:
    track = pick_audio(probe(path))
    if track is None:
        return np.zeros(0, np.int16)
    return _int16(read_sound(path, track, Span(track.start, track.end)).samples)


def _int16(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def save_voices(path: Path, voices: list[Voice]) -> None:
    save_arrays(path, {f"{voice.name}|{voice.sex}".replace("/", ":"): voice.samples for voice in voices})


def load_voices(path: Path) -> list[Voice]:
    """Voices of a cache, in order of name."""
    out = []
    for key, samples in sorted(load_arrays(path).items()):
        name, sex = key.replace(":", "/").split("|")
        out.append(Voice(name, samples, sex))
    return out


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, help="folder of unpacked Debian packages (training.corpora.fetch_packages)")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.npz and held_out.npz")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, held_out in (("train", False), ("held_out", True)):
        found = [
            voice for voice in read_voices(given.corpora, held_out=held_out) if len(voice.samples) > _LEAST_S * SAMPLE_RATE
        ]
        save_voices(given.out / f"{name}.npz", found)
        minutes = sum(len(voice.samples) for voice in found) / SAMPLE_RATE / 60
        _LOG.info("%s: %d voices, %.0f minutes", name, len(found), minutes)


if __name__ == "__main__":
    main()
