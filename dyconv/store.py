"""Where assets lie: a folder, or any file-system URI that fsspec knows (`s3://`, `memory://`, ...).

Two promises. An object that exists is a finished object: writes go to a temporary name, are synced, and are renamed
(on object stores one `put` is already atomic). And a path from a record, a manifest or a tar never leads out of the
store's root.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from dyconv.copies import Copies
from dyconv.errors import StoreError
from dyconv.records import Ref
from dyconv.remote import Remote

REBUILD = "run `dyconv run` again as before: what lacks is made anew"
SCRATCH = ".scratch"  # below a local store's root: unfinished files, which a run sweeps when their process is gone
_LONGEST_NAME = 255  # bytes of a name, on every file system in use
_CHUNK = 1 << 20
_TOGETHER = 32  # small objects read at once from a remote store


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def scratch_prefix() -> str:
    """How names in a scratch folder begin, so that a sweep can tell whose they are: `<host>-<process>-`."""
    return f"{socket.gethostname()}-{os.getpid()}-"


def fsync_path(path: Path) -> None:
    """Force a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Write a whole local file so that it is either absent, as before, or complete.

    Args:
        scratch: folder on the same disk for the unfinished file; beside the file if not given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    prefix = f"{scratch_prefix()}{path.name}." if scratch is not None else f".{path.name}."
    handle, temporary = tempfile.mkstemp(dir=scratch or path.parent, prefix=prefix, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        fsync_path(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _unsafe(part: str) -> bool:
    try:
        size = len(os.fsencode(part))
    except UnicodeEncodeError:  # half a character
        return True
    return part in ("..", ".") or "\\" in part or "\0" in part or size > _LONGEST_NAME


def safe_path(path: str) -> str:
    """Return a relative POSIX path that stays inside its root.

    Raises:
        StoreError: for an absolute path, a drive, a `..`, an empty name or one that is too long for a file.
    """
    pure = PurePosixPath(path)
    parts = pure.parts
    if not parts or pure.is_absolute() or any(map(_unsafe, parts)):
        raise StoreError(f"path {path!r} does not stay inside its folder", hint="the record or tar is damaged or hostile")
    return str(pure)


class Store:
    """A root on a file system. Picklable: workers make their own connection.

    Storage that does not answer is a `StorageDown`, after the retries of `dyconv.remote`; what lacks an object is a
    `StoreError`.

    Args:
        root: a local path, or a URI with a protocol fsspec knows.
        cache: local folder for copies of remote objects, which is its owner's to clear; a temporary one if not given, see
            `trim`.
    """

    def __init__(self, root: str | Path, *, cache: str | Path | None = None) -> None:
        text = str(root).removeprefix("file://")
        self.remote = "://" in text
        self.root = text.rstrip("/") if self.remote else str(Path(text).absolute())
        self._files = Remote(self.root) if self.remote else None
        self._copies = Copies(Path(cache) if cache else None)

    def __str__(self) -> str:
        return self.root

    @property
    def files(self) -> Remote:
        """The file system of a remote store."""
        assert self._files is not None
        return self._files

    def url(self, path: str) -> str:
        """Where an object lies: a local path, or a URI."""
        return f"{self.root}/{safe_path(path)}"

    def local(self, path: str, size: int | None = None) -> Path:
        """A readable local path of an object: itself on a local store, else a copy fetched once.

        Args:
            size: bytes it must have, if known; a copy of another size is fetched anew.

        Raises:
            StoreError: if it is not there, or not of this size.
            StorageDown: if the storage fails, or the local disk is full.
        """
        if not self.remote:
            found = Path(self.url(path))
            if not found.is_file():
                raise self._lacking(path)
        else:
            found = self._copies.path(safe_path(path))
            if not found.is_file() or (size is not None and found.stat().st_size != size):
                try:
                    self.files.download(self.url(path), found)
                except FileNotFoundError as error:
                    raise self._lacking(path) from error
        if size is not None and (has := found.stat().st_size) != size:
            raise StoreError(f"{path} in {self.root} has {has} bytes, not {size}", hint="delete it and run again")
        return found

    def _lacking(self, path: str) -> StoreError:
        return StoreError(f"{path} is not in {self.root}", hint=REBUILD)

    def verified(self, ref: Ref) -> Path:
        """Like `local`, after comparing size and sha256 with the reference."""
        path = self.local(ref.path)
        if path.stat().st_size != ref.size or sha256_of(path) != ref.sha256:
            raise StoreError(f"{ref.path} in {self.root} is not what was written", hint="delete it and run again")
        return path

    def trim(self) -> None:
        """Remove copies of remote objects until what is left is bounded, the longest unused first.

        To be called between two tasks: paths that `local` gave before may be gone.
        """
        self._copies.trim()

    def exists(self, path: str) -> bool:
        return self.files.exists(self.url(path)) if self.remote else Path(self.url(path)).exists()

    def size(self, path: str) -> int:
        """Bytes of an object that is there."""
        return self.files.size(self.url(path)) if self.remote else Path(self.url(path)).stat().st_size

    def sizes(self, path: str = "") -> dict[str, int | None]:
        """Names directly under a folder, the root if not given, with their bytes (None of a folder). One request.

        Temporary files are not shown; of a folder that is not there it is empty.
        """
        url = self.url(path) if path else self.root
        if self.remote:
            found = self.files.sizes(url)
        else:
            try:
                with os.scandir(url) as entries:
                    found = {entry.name: None if entry.is_dir() else entry.stat().st_size for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return {name: found[name] for name in sorted(found) if not name.startswith(".")}

    def put(self, local: Path, path: str, *, keep: bool = False, sha256: str | None = None) -> Ref:
        """Move a finished local file into the store under `path` (replacing what was there).

        Args:
            keep: of a remote store, the file becomes the local copy, for whoever reads it next in this process.
            sha256: of the file, where it is known; it is read for it otherwise.
        """
        ref = Ref(path=safe_path(path), sha256=sha256 or sha256_of(local), size=local.stat().st_size)
        if self.remote:
            self.files.upload(local, self.url(path))
            self._copies.take(local, ref.path, keep=keep)
            return ref
        target = Path(self.url(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        fsync_path(local)
        try:
            os.replace(local, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Another file system: copy beside the target first, so that the rename is atomic.
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                shutil.copyfile(local, temporary)
                fsync_path(temporary)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            local.unlink()
        fsync_path(target.parent)
        return ref

    def upload(self, local: Path, path: str) -> None:
        """Copy a local file to an object of a remote store; the file stays."""
        self.files.upload(local, self.url(path))

    def open(self, path: str) -> BinaryIO:
        """An object to read from and to seek in; of a remote one only what is asked for is transferred.

        Raises:
            FileNotFoundError: if it is not there.
        """
        if self.remote:
            return cast(BinaryIO, self.files.ask("opening", self.url(path), lambda fs: fs.open(self.url(path), "rb")))
        return Path(self.url(path)).open("rb")

    def read_bytes(self, path: str) -> bytes:
        try:
            if self.remote:
                return self.files.read(self.url(path))
            found = Path(self.url(path))
            if found.exists() and not found.is_file():  # of a pipe or a device there is no end
                raise StoreError(f"{path} in {self.root} is no file")
            return found.read_bytes()
        except FileNotFoundError as error:
            raise self._lacking(path) from error

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes]:
        """The contents of several objects, in their order. Remote ones are fetched some at a time, not one after the other."""
        if not self.remote:
            yield from map(self.read_bytes, paths)
            return
        for begin in range(0, len(paths), _TOGETHER):
            try:
                yield from self.files.read_many([self.url(path) for path in paths[begin : begin + _TOGETHER]])
            except FileNotFoundError as error:
                raise StoreError(f"{error} is not in {self.root}", hint=REBUILD) from error

    def write_bytes(self, path: str, data: bytes) -> None:
        if self.remote:
            self.files.write(self.url(path), data)
            self._copies.drop(safe_path(path))
        else:
            write_atomic(Path(self.url(path)), data, scratch=Path(self.root) / SCRATCH)

    def discard(self, path: str) -> None:
        """Remove one object, no folder; nothing happens where there is none."""
        if self.remote:
            self.files.discard(self.url(path))
            self._copies.drop(safe_path(path))
        else:
            Path(self.url(path)).unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Remove an object or a folder with all that is in it; nothing happens where there is none."""
        if self.remote:
            self.files.remove(self.url(path))
            self._copies.drop(safe_path(path))
            return
        target = Path(self.url(path))
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def walk(self) -> Iterator[str]:
        """Paths of all files below the root, sorted."""
        if self.remote:
            root = str(self.files.fs._strip_protocol(self.root)).rstrip("/") + "/"
            yield from (path.removeprefix(root) for path in self.files.find(self.root))
            return
        top = Path(self.root)
        yield from sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file() or path.is_symlink())

    def list(self, path: str = "") -> Iterator[str]:
        """Names directly under a folder, the root if not given, sorted; temporary files are not shown."""
        if self.remote:
            yield from self.sizes(path)
            return
        folder = Path(self.url(path) if path else self.root)
        yield from sorted(name for name in (os.listdir(folder) if folder.is_dir() else []) if not name.startswith("."))
