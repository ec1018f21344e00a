"""Tars with the same bytes for the same members, and a reader that trusts none of them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dyconv.errors import ShardError
from dyconv.records import check_id


@dataclass(frozen=True)
class Member:
    """One file for a tar: its bytes, or the path they are copied from."""

    name: str
    content: bytes | Path


class TarWriter:
    """Writes a tar whose bytes depend on names and contents alone: fixed date, owner and mode, USTAR headers.

    Use as a context manager: the tar is complete and on disk once the block is left without an error.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, member: Member) -> None:
        header = tarfile.TarInfo(member.name)
        header.mode, header.mtime, header.uid, header.gid = 0o444, 0, 0, 0
        if isinstance(member.content, bytes):
            header.size = len(member.content)
            self._tar.addfile(header, io.BytesIO(member.content))
            return
        with member.content.open("rb") as file:
            header.size = os.fstat(file.fileno()).st_size
            self._tar.addfile(header, file)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._tar.close()
                self._file.flush()
                os.fsync(self._file.fileno())


def split_name(name: str, where: str) -> tuple[str, str]:
    """`<clip id>.<field>` as (clip id, field).

    Raises:
        ShardError: for any other name, such as one with a folder or `..` in it.
    """
    stem, _, suffix = name.partition(".")
    try:
        check_id(stem)
    except ValueError as error:
        raise ShardError(f"{where}: member {name[:120]!r} is not named <clip id>.<field>: {error}") from error
    if not suffix or any(sign in suffix for sign in "/\\\0") or ".." in suffix:
        raise ShardError(f"{where}: member {name[:120]!r} is not named <clip id>.<field>")
    return stem, suffix


def read_members(file: BinaryIO, where: str) -> Iterator[tuple[str, str, bytes]]:
    """(clip id, field, bytes) of every member of an uncompressed tar, in order.

    Raises:
        ShardError: naming the tar, if it is cut off, damaged, holds anything but plain files, or has an unsafe name.
    """
    for name, data in _plain_files(file, where):
        stem, suffix = split_name(name, where)
        yield stem, suffix, data


def _plain_files(file: BinaryIO, where: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for header in tar:
                if not header.isreg():
                    raise ShardError(f"{where}: member {header.name[:120]!r} is not a plain file")
                body = tar.extractfile(header)
                data = body.read() if body else b""
                if len(data) != header.size:
                    raise ShardError(f"{where} ends inside member {header.name[:120]!r}")
                yield header.name, data
                tar.members = []  # type: ignore[attr-defined]  # or headers pile up with the size of the shard
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{where} is cut off or damaged: {error}") from error
