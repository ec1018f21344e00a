"""Normalized sound: mono 16 kHz, 16-bit, FLAC (lossless)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from dyconv.bounds import MEDIA_SECONDS
from dyconv.errors import StoreError
from dyconv.media.own import named
from dyconv.time import SAMPLE_RATE

_BLOCK = 600 * SAMPLE_RATE  # samples that are made room for at a time


def read_audio(path: Path | BinaryIO, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples float32 [N] in -1 to 1 of a normalized sound file, or of an open one.

    Raises:
        StoreError: if it is not readable as sound, or not mono 16 kHz.
    """
    return _read(path, start, stop, channels=1)[:, 0]


def read_channels(path: Path | BinaryIO, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples float32 [C, N] of a normalized sound file with any number of channels.

    Raises:
        StoreError: if it is not readable as sound, or not 16 kHz.
    """
    return np.ascontiguousarray(_read(path, start, stop).T)


def sound_frames(path: Path | BinaryIO) -> int:
    """Samples in each channel, as the file's header says.

    Raises:
        StoreError: if it is not readable as sound.
    """
    with _opened(path) as file:
        return int(file.frames)


@contextmanager
def _opened(path: Path | BinaryIO) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise StoreError(f"{named(path)} is not readable as sound: {error}") from error


def _read(path: Path | BinaryIO, start: int, stop: int | None, channels: int | None = None) -> np.ndarray:
    """Samples float32 [N, C]. In blocks where there are many: a header can claim more than there is memory for."""
    with _opened(path) as file:
        if file.samplerate != SAMPLE_RATE or (channels or file.channels) != file.channels:
            wanted = "mono " if channels == 1 else ""
            found = f"{file.channels} channels at {file.samplerate} Hz"
            raise StoreError(f"{named(path)}: expected {wanted}{SAMPLE_RATE} Hz, found {found}")
        if MEDIA_SECONDS.passed_by(file.frames / SAMPLE_RATE):
            raise StoreError(f"{named(path)} says that it lasts {file.frames / SAMPLE_RATE:.0f} s", hint=MEDIA_SECONDS.hint)
        begin, end, _ = slice(start, stop).indices(file.frames)
        left = max(end - begin, 0)
        file.seek(begin)
        blocks: list[np.ndarray] = []
        while left and len(block := file.read(min(left, _BLOCK), dtype="float32", always_2d=True)):
            blocks.append(block)
            left -= len(block)
        return blocks[0] if len(blocks) == 1 else np.concatenate([*blocks, np.zeros((0, file.channels), np.float32)])


def write_audio(path: Path, samples: np.ndarray) -> None:
    """Write float32 [N] or [C, N] in -1 to 1 (clipped) as 16-bit FLAC, or WAV where the name ends so."""
    pcm = np.clip(np.rint(samples.T * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE, subtype="PCM_16", format="WAV" if path.suffix == ".wav" else "FLAC")
