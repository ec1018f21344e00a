"""Normalized sound: mono 16 kHz, 16-bit, FLAC (lossless)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from dyconv.errors import StoreError
from dyconv.time import SAMPLE_RATE


def read_audio(path: Path | BinaryIO, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples float32 [N] in -1 to 1 of a normalized sound file, or of an open one.

    Raises:
        StoreError: if it is not mono 16 kHz.
    """
    samples, rate = soundfile.read(path, start=start, stop=stop, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE or samples.shape[1] != 1:
        raise StoreError(f"{path}: expected mono {SAMPLE_RATE} Hz, found {samples.shape[1]} channels at {rate} Hz")
    return samples[:, 0]


def read_channels(path: Path | BinaryIO, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples float32 [C, N] of a normalized sound file with any number of channels.

    Raises:
        StoreError: if it is not 16 kHz.
    """
    samples, rate = soundfile.read(path, start=start, stop=stop, dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise StoreError(f"{path}: expected {SAMPLE_RATE} Hz, found {rate} Hz")
    return np.ascontiguousarray(samples.T)


def write_audio(path: Path, samples: np.ndarray) -> None:
    """Write float32 [N] or [C, N] in -1 to 1 (clipped) as 16-bit FLAC, or WAV where the name ends so."""
    pcm = np.clip(np.rint(samples.T * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE, subtype="PCM_16", format="WAV" if path.suffix == ".wav" else "FLAC")
