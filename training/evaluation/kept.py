"""Evidence on disk: one npz a video, to which each extractor adds its arrays once.

What is asked for again is not read again; what has changed (a video, an extractor's version) is.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.arrays import load_arrays, save_arrays
from dyconv.errors import StoreError
from dyconv.records import dump
from dyconv.store import write_atomic
from training.evaluation.evidence import Arrays

_KEY = "key/"  # before an extractor's name: the key that its arrays were made under


def key_of(*parts: Any) -> str:
    """A hash of what decides some arrays."""
    return hashlib.sha256(dump(list(parts))).hexdigest()


class Kept:
    """Arrays of one video in a file. Names of arrays are `<extractor>` or `<extractor>.<what>`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[str, np.ndarray] = {}
        if path.is_file():
            try:
                self._arrays = load_arrays(path)
            except StoreError:  # cut off by a full disk, say: it is read off the video once more
                path.unlink()

    def missing(self, wanted: Mapping[str, str]) -> set[str]:
        """Of extractors with their keys, those whose arrays are not here."""
        return {name for name, key in wanted.items() if self._key(name) != key}

    def _key(self, name: str) -> str:
        found = self._arrays.get(_KEY + name)
        return "" if found is None else bytes(found).decode()

    def add(self, arrays: Arrays, keys: Mapping[str, str]) -> None:
        """Put arrays of some extractors in the place of what they gave before, and write the file."""
        rest = {name: value for name, value in self._arrays.items() if not _of(name, keys)}
        marks = {_KEY + name: np.frombuffer(key.encode(), np.uint8) for name, key in keys.items()}
        self._arrays = {**rest, **arrays, **marks}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        held = io.BytesIO()
        save_arrays(held, self._arrays)
        write_atomic(self.path, held.getvalue())

    def arrays(self) -> Arrays:
        return {name: value for name, value in self._arrays.items() if not name.startswith(_KEY)}


def _of(name: str, extractors: Iterable[str]) -> bool:
    name = name.removeprefix(_KEY)
    return any(name == one or name.startswith(f"{one}.") for one in extractors)
