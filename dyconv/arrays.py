"""Arrays on disk: npz files with the same bytes for the same data, read without pickle."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dyconv.bounds import ARRAY_BYTES
from dyconv.errors import StoreError

_CHUNK = 1 << 20
# What zipfile, zlib and numpy's parser of headers raise for bytes that are not theirs.
_DAMAGE: tuple[type[Exception], ...] = (ValueError, OSError, EOFError, KeyError, TypeError, OverflowError, RuntimeError)
_DAMAGE += (MemoryError, SyntaxError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError)


def save_arrays(path: Path | BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed npz to a path or an open file; sorted members with a fixed date: bytes depend on the data alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(arrays[name]), allow_pickle=False)


def load_arrays(path: Path | BinaryIO) -> dict[str, np.ndarray]:
    """Read every array of an npz, a file or an open one.

    What the zip's directory says of a member's size is compared with what the array's own header says before anything is
    unpacked, and no more than that is.

    Raises:
        StoreError: if it is damaged, holds anything but plain arrays, or more than is read.
    """
    where = path if isinstance(path, Path) else "the member"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if ARRAY_BYTES.passed_by(total := sum(entry.file_size for entry in entries)):
                raise StoreError(f"{where}: {total} bytes of arrays, at most {ARRAY_BYTES.now} are read", hint=ARRAY_BYTES.hint)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except _DAMAGE as error:
        raise StoreError(f"{where} is not a readable npz of plain arrays: {error}") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One member. Raises ValueError for one that is no array as large as its header says."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{entry.filename[:60]} has a header of version {version}")
        shape, fortran, kind = readers[version](file)
        if kind.hasobject or kind.itemsize == 0:
            raise ValueError(f"{entry.filename[:60]} holds objects of Python, which are not read")
        size = math.prod(shape) * kind.itemsize
        if file.tell() + size != entry.file_size or min(shape, default=0) < 0:
            raise ValueError(f"{entry.filename[:60]} says it has {shape} numbers, {entry.file_size} bytes are there")
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size and (count := file.readinto(view[done : done + _CHUNK])):  # type: ignore[attr-defined]
            done += count
        if done != size or file.read(1):
            raise ValueError(f"{entry.filename[:60]} ends after {done} of {size} bytes")
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
