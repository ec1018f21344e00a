"""What is fuzzed: a reader, valid bytes for it, and which errors are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyconv.errors import DyconvError

_LONGEST = 4100  # characters of an error


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        kind: of format, see `tests.fuzz.mutate.STRUCTURAL`.
        make: puts what the reader needs into an empty folder, and returns valid bytes of the file that is made wrong.
        read: reads such bytes, in that folder.
        right: errors with which a reader may answer a damaged file.
        seeds: mutations tried in `make test`.
    """

    name: str
    kind: str
    make: Callable[[Path], bytes]
    read: Callable[[Path, bytes], object]
    right: tuple[type[Exception], ...] = (DyconvError,)
    seeds: int = 150

    def check(self, folder: Path, data: bytes) -> bool:
        """Whether the bytes were taken. Any error but a right one comes through; a right one must be fit to be shown."""
        try:
            self.read(folder, data)
        except self.right as error:
            told = str(error)
            assert told.strip(), f"{type(error).__name__} without a word"
            if isinstance(error, DyconvError):
                assert len(told) < _LONGEST, f"an error of {len(told)} characters"
                assert all(sign.isprintable() or sign in "\n\t" for sign in told), ascii(told)
            return False
        return True


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
