"""Where assets lie: a folder, or any file-system URI that fsspec knows (`s3://`, `memory://`, ...).

Two promises. An object that exists is a finished object: writes go to a temporary name, are synced, and are renamed
(on object stores one `put` is already atomic). And a path from a record, a manifest or a tar never leads out of the
store's root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from dyconv.errors import StoreError
from dyconv.records import Ref

SCRATCH = ".scratch"  # below a local store's root: unfinished files, which a run sweeps when their process is gone
_CHUNK = 1 << 20


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


def safe_path(path: str) -> str:
    """Return a relative POSIX path that stays inside its root.

    Raises:
        StoreError: for an absolute path, a drive, a `..` or an empty name.
    """
    pure = PurePosixPath(path)
    parts = pure.parts
    if not parts or pure.is_absolute() or any(part in ("..", ".") or "\\" in part or "\0" in part for part in parts):
        raise StoreError(f"path {path!r} does not stay inside its folder", hint="the record or tar is damaged or hostile")
    return str(pure)


class Store:
    """A root on a file system. Picklable: workers make their own connection.

    Args:
        root: a local path, or a URI with a protocol fsspec knows.
        cache: local folder for copies of remote objects; a temporary one if not given.
    """

    def __init__(self, root: str | Path, *, cache: str | Path | None = None) -> None:
        text = str(root).removeprefix("file://")
        self.remote = "://" in text
        self.root = text.rstrip("/") if self.remote else str(Path(text).absolute())
        self._cache = Path(cache) if cache else None

    def __str__(self) -> str:
        return self.root

    @property
    def _fs(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.root.split("://", 1)[0])

    def _url(self, path: str) -> str:
        return f"{self.root}/{safe_path(path)}"

    def local(self, path: str) -> Path:
        """A readable local path of an object: itself on a local store, else a copy fetched once.

        Raises:
            StoreError: if it is not there.
        """
        if not self.remote:
            found = Path(self._url(path))
            if not found.is_file():
                raise StoreError(f"{path} is not in {self.root}", hint="run the same command again to rebuild it")
            return found
        if self._cache is None:
            self._cache = Path(tempfile.mkdtemp(prefix="dyconv-cache-"))
        copy = self._cache / safe_path(path)
        if not copy.is_file():
            if not self.exists(path):
                raise StoreError(f"{path} is not in {self.root}", hint="run the same command again to rebuild it")
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
            self._fs.get_file(self._url(path), str(temporary))
            os.replace(temporary, copy)
        return copy

    def verified(self, ref: Ref) -> Path:
        """Like `local`, after comparing size and sha256 with the reference."""
        path = self.local(ref.path)
        if path.stat().st_size != ref.size or sha256_of(path) != ref.sha256:
            raise StoreError(f"{ref.path} in {self.root} is not what was written", hint="delete it and run again")
        return path

    def exists(self, path: str) -> bool:
        return bool(self._fs.exists(self._url(path))) if self.remote else Path(self._url(path)).exists()

    def size(self, path: str) -> int:
        """Bytes of an object that is there."""
        if self.remote:
            return int(self._fs.size(self._url(path)))
        return Path(self._url(path)).stat().st_size

    def put(self, local: Path, path: str) -> Ref:
        """Move a finished local file into the store under `path` (replacing what was there)."""
        ref = Ref(path=safe_path(path), sha256=sha256_of(local), size=local.stat().st_size)
        if self.remote:
            self._fs.makedirs(self._url(path).rsplit("/", 1)[0], exist_ok=True)
            self._fs.put_file(str(local), self._url(path))
            local.unlink()
            return ref
        target = Path(self._url(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        fsync_path(local)
        try:
            os.replace(local, target)
        except OSError:  # another file system: copy beside the target first, so that the rename is atomic
            temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            shutil.copyfile(local, temporary)
            fsync_path(temporary)
            os.replace(temporary, target)
            local.unlink()
        fsync_path(target.parent)
        return ref

    def upload(self, local: Path, path: str) -> None:
        """Copy a local file to an object of a remote store; the file stays."""
        self._fs.makedirs(self._url(path).rsplit("/", 1)[0], exist_ok=True)
        self._fs.put_file(str(local), self._url(path))

    def open(self, path: str) -> BinaryIO:
        """An object to read from and to seek in; of a remote one only what is asked for is transferred."""
        if self.remote:
            return cast(BinaryIO, self._fs.open(self._url(path), "rb"))
        return Path(self._url(path)).open("rb")

    def read_bytes(self, path: str) -> bytes:
        if self.remote:
            return bytes(self._fs.cat_file(self._url(path)))
        try:
            return Path(self._url(path)).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"{path} is not in {self.root}") from error

    def write_bytes(self, path: str, data: bytes) -> None:
        if self.remote:
            self._fs.makedirs(self._url(path).rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(self._url(path), data)
        else:
            write_atomic(Path(self._url(path)), data, scratch=Path(self.root) / SCRATCH)

    def remove(self, path: str) -> None:
        """Remove an object or a folder with all that is in it; nothing happens where there is none."""
        if self.remote:
            if self.exists(path):
                self._fs.rm(self._url(path), recursive=True)
            return
        target = Path(self._url(path))
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def walk(self) -> Iterator[str]:
        """Paths of all files below the root, sorted."""
        if self.remote:
            root = str(self._fs._strip_protocol(self.root)).rstrip("/") + "/"
            yield from sorted(str(path).removeprefix(root) for path in self._fs.find(self.root))
            return
        top = Path(self.root)
        yield from sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file() or path.is_symlink())

    def list(self, path: str = "") -> Iterator[str]:
        """Names directly under a folder, the root if not given, sorted; temporary files are not shown."""
        url = self._url(path) if path else self.root
        if self.remote:
            found = self._fs.ls(url, detail=False) if self._fs.exists(url) else []
            names = [str(item).rstrip("/").rsplit("/", 1)[-1] for item in found]
        else:
            folder = Path(url)
            names = os.listdir(folder) if folder.is_dir() else []
        yield from sorted(name for name in names if not name.startswith("."))
