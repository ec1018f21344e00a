"""Tars with the same bytes for the same members, and a reader that trusts none of them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from dyconv.bounds import MEMBER_BYTES
from dyconv.errors import ShardError, StoreError
from dyconv.records import check_id
from dyconv.shards.hashing import Digest, Hashed

_PIECE = 1 << 20  # bytes that are copied at once
_AHEAD = 4  # members whose hashes may come later

# What tarfile raises for bytes that are no tar.
TAR_DAMAGE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, IndexError, MemoryError)


@dataclass(frozen=True)
class Member:
    """One file for a tar: its bytes, or the path they are copied from; with a sha256, of what they must be."""

    name: str
    content: bytes | Path
    sha256: str | None = None


class TarWriter:
    """Writes a tar whose bytes depend on names and contents alone: fixed date, owner and mode, USTAR headers.

    Use as a context manager: the tar is complete and on disk once the block is left without an error; `sha256` and `size` say
    then what it is. They and the members' hashes are taken while the bytes are copied: nothing is read twice.

    Raises:
        StoreError: on leaving the block, for a member that is not what its sha256 says.
    """

    def __init__(self, path: Path) -> None:
        self.sha256, self.size = "", 0
        self._threads = ThreadPoolExecutor(1, "sha256"), ThreadPoolExecutor(1, "sha256")
        self._file = path.open("wb")
        self._digest = Digest(self._threads[0])
        self._members: list[tuple[Member, Digest]] = []
        hashed: Any = Hashed(self._file, self._digest)
        tar: Any = tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        tar.copybufsize = _PIECE
        self._tar = tar

    def add(self, member: Member) -> None:
        header = tarfile.TarInfo(member.name)
        header.mode, header.mtime, header.uid, header.gid = 0o444, 0, 0, 0
        if isinstance(member.content, bytes):
            header.size = len(member.content)
            self._tar.addfile(header, io.BytesIO(member.content))
        else:
            with member.content.open("rb", buffering=0) as file:
                header.size = os.fstat(file.fileno()).st_size
                source: Any = file
                if member.sha256 is not None:
                    self._members.append((member, Digest(self._threads[1])))
                    source = Hashed(file, self._members[-1][1])
                self._tar.addfile(header, source)
        self._tar.members = []  # or headers pile up with the size of the shard
        self._check(_AHEAD)

    def _check(self, left: int) -> None:
        """Compare members with what they must be, all but the last `left`, which may still be being hashed."""
        while len(self._members) > left:
            member, digest = self._members.pop(0)
            if digest.hexdigest() != member.sha256:
                raise StoreError(f"{member.content!s} is not what was written", hint="delete it and run again")

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._file:
                if kind is None:
                    self._tar.close()
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    self._check(0)
                    self.sha256, self.size = self._digest.hexdigest(), self._digest.size
        finally:
            for thread in self._threads:
                thread.shutdown(cancel_futures=True)


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
        # A stream is read in blocks that are joined again; a file is read member by member.
        with tarfile.open(fileobj=file, mode="r:" if _seekable(file) else "r|") as tar:
            for header in tar:
                check_plain(header, where)
                body = tar.extractfile(header)
                data = body.read() if body else b""
                if len(data) != header.size:
                    raise ShardError(f"{where} ends inside member {header.name[:120]!r}")
                yield header.name, data
                tar.members = []  # type: ignore[attr-defined]  # or headers pile up with the size of the shard
    except TAR_DAMAGE as error:
        raise ShardError(f"{where} is cut off or damaged: {error}", hint="run `dyconv check` on the build") from error


def _seekable(file: BinaryIO) -> bool:
    return bool(getattr(file, "seekable", bool)())


def check_plain(header: tarfile.TarInfo, where: str) -> None:
    """A member must be a file with its bytes in the tar: no link, no device, and none with holes, which can be of any size.

    Raises:
        ShardError: naming it.
    """
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or header.issparse():
        raise ShardError(f"{where}: member {header.name[:120]!r} is not a plain file")
    if header.size < 0 or MEMBER_BYTES.passed_by(header.size):
        raise ShardError(
            f"{where}: member {header.name[:120]!r} has {header.size} bytes, at most {MEMBER_BYTES.now} are read",
            hint=MEMBER_BYTES.hint,
        )
