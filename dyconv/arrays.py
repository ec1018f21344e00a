"""Arrays on disk: npz files with the same bytes for the same data, read without pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dyconv.errors import StoreError


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

    Raises:
        StoreError: if it is damaged or holds anything but plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError, zlib.error) as error:
        raise StoreError(f"{path} is not a readable npz of plain arrays: {error}") from error
