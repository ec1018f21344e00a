"""Do a sample's members decode, and do their lengths agree? Headers and packets, or every frame."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from dyconv.arrays import load_arrays
from dyconv.errors import StoreError
from dyconv.media.audio import read_audio, sound_frames
from dyconv.media.video import frame_count, read_frames
from dyconv.records import Clip
from dyconv.time import frame_samples


def clip_problems(clip: Clip, members: Mapping[str, bytes], *, deep: bool) -> Iterator[str]:
    """What is wrong with video, sound and crops of a sample, in words.

    Every video must have `clip.frames` frames, every sound 640 samples a frame, every crop a row a frame.
    """
    frames = clip.frames
    for name, data in sorted(members.items()):
        if name.endswith(".mp4"):
            yield from _video(name, data, frames, deep=deep)
        elif name.endswith(".flac"):
            yield from _sound(name, data, frames, deep=deep)
        elif name.endswith(".npz"):
            yield from _rows(name, data, frames, ("present", "landmarks") if name.endswith(".crop.npz") else ())


def motion_problems(members: Mapping[str, bytes], frames: int) -> Iterator[str]:
    """What is wrong with a sample's latents, in words; `frames` is the length of its clip."""
    for name, data in sorted(members.items()):
        yield from _rows(name, data, frames, ("present", "latents"))


def _video(name: str, data: bytes, frames: int, *, deep: bool) -> Iterator[str]:
    try:
        found = sum(1 for _ in read_frames(io.BytesIO(data))) if deep else frame_count(io.BytesIO(data))
    except StoreError as error:
        yield f"{name} does not decode: {error.message}"
        return
    if found != frames:
        yield f"{name} has {found} frames, its record says {frames}"


def _sound(name: str, data: bytes, frames: int, *, deep: bool) -> Iterator[str]:
    try:
        found = len(read_audio(io.BytesIO(data))) if deep else sound_frames(io.BytesIO(data))
    except StoreError as error:
        yield f"{name} does not decode: {error.message}"
        return
    if found != frame_samples(frames):
        yield f"{name} has {found} samples, {frames} frames want {frame_samples(frames)}"


def _rows(name: str, data: bytes, frames: int, arrays: tuple[str, ...]) -> Iterator[str]:
    """An npz must be readable, and each of the named arrays must be there with one row a frame."""
    try:
        content = load_arrays(io.BytesIO(data))
    except StoreError as error:
        yield f"{name} does not decode: {error.message}"
        return
    for array in arrays:
        if array not in content:
            yield f"{name} has no array {array!r}"
        elif not content[array].ndim:
            yield f"{name}: {array} is one number, its record says {frames} frames"
        elif len(content[array]) != frames:
            yield f"{name}: {array} has {len(content[array])} rows, its record says {frames} frames"
