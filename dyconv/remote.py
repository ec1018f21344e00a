"""Remote file systems through fsspec: bounded waiting, bounded retries, errors that say what to do.

Three layers try again. botocore repeats a single request that met a 5xx, a throttle or a broken connection; s3fs goes
on where the body of an answer broke off; and `Remote` repeats the whole operation with growing pauses until its
patience is used up. A missing object is never tried again.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dyconv.disk import FULL
from dyconv.errors import StorageDown, StoreError, UsageError

T = TypeVar("T")

PATIENCE = "DYCONV_STORE_PATIENCE"  # environment: seconds until a storage that fails stops the run
TIMEOUT = "DYCONV_STORE_TIMEOUT"  # environment: seconds without a byte until a request counts as failed
_S3 = ("s3", "s3a")
_FLAT = (*_S3, "gs", "gcs", "az", "abfs", "abfss", "memory")  # no folders to make before writing
_OURS = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENAMETOOLONG, errno.EMSGSIZE)  # asked for what cannot be
_NO_LOGIN = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "TokenRetrievalError",
)


@dataclass(frozen=True)
class Patience:
    """How long a remote store may fail. Pauses double from `first_s` to `most_s`, each shortened by chance to a half at most.

    Attributes:
        seconds: no new try begins later than this after the first one.
        timeout_s: of one request, without a byte.
    """

    seconds: float = 180.0
    timeout_s: float = 20.0
    first_s: float = 0.2
    most_s: float = 20.0

    @classmethod
    def of_environment(cls) -> Patience:
        """Raises `UsageError` where a variable is no positive number."""
        return cls(_number(PATIENCE, cls.seconds), _number(TIMEOUT, cls.timeout_s))

    def pause(self, tries: int) -> float:
        """Seconds to wait after so many tries. By chance, so that many workers do not come back at the same moment."""
        return float(min(self.most_s, self.first_s * 2 ** (tries - 1)) * random.SystemRandom().uniform(0.5, 1.0))


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise UsageError(f"{name} must be a number of seconds above 0, is {text!r}")
    return value


class Remote:
    """One file system, by the protocol of a URI. Methods take whole URIs.

    Every method raises `StorageDown` when the storage cannot be reached or refuses, after the patience of `ask`, and lets
    `FileNotFoundError` and `FileExistsError` through.
    """

    def __init__(self, root: str) -> None:
        self.protocol = root.split("://", 1)[0]
        self._patience = Patience.of_environment()

    @property
    def fs(self) -> Any:
        """The file system of this process and thread (fsspec keeps it)."""
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False}  # others write there too
        if self.protocol in _S3:
            # A user's own fsspec configuration goes before ours.
            theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = {
                "connect_timeout": min(10.0, self._patience.timeout_s),
                "read_timeout": self._patience.timeout_s,
                "retries": {"mode": "standard", "total_max_attempts": 3},
                **theirs,
            }
        try:
            fs = fsspec.filesystem(self.protocol, **options)
        except (ImportError, ValueError) as error:
            hint = "install the package it names" if isinstance(error, ImportError) else "give a folder, or s3://bucket/folder"
            raise UsageError(f"cannot write to {self.protocol}:// addresses: {error}", hint=hint) from error
        if self.protocol in _S3:
            fs.retries = 2  # what s3fs repeats on top of botocore; `ask` does the rest
        return fs

    def ask(self, what: str, url: str, call: Callable[[Any], T]) -> T:
        """Do something with the file system, again and again while that may help.

        Args:
            what: the operation, for the message.
            call: gets the file system; must be harmless to repeat.

        Raises:
            StorageDown: it fails for longer than the patience, refuses this machine, or the local disk is full.
            StoreError: the request itself cannot be met.
        """
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                return call(self.fs)
            except (FileNotFoundError, FileExistsError, StoreError, StorageDown, UsageError):
                raise
            except Exception as error:  # each file system has its own classes; `_final` knows those that no retry mends
                if final := _final(error, what, url):
                    raise final from error
                pause = self._patience.pause(tries)
                spent = time.monotonic() - began
                if spent + pause > self._patience.seconds:
                    raise StorageDown(
                        f"{what} {url} failed {tries} times in {spent:.0f} s; last: {type(error).__name__}: {error}",
                        hint=f"finished work stays: when the storage answers again, run the same command ({PATIENCE}="
                        "seconds waits longer)",
                    ) from error
                time.sleep(pause)

    def read(self, url: str) -> bytes:
        """A whole object, in one request."""
        one = {"max_concurrency": 1} if self.protocol in _S3 else {}  # s3fs would ask for the size first
        return bytes(self.ask("reading", url, lambda fs: fs.cat_file(url, **one)))

    def read_many(self, urls: Sequence[str]) -> list[bytes]:
        """Whole objects, fetched at the same time."""
        one = {"max_concurrency": 1} if self.protocol in _S3 else {}

        def read(fs: Any) -> list[bytes]:
            found = fs.cat(list(urls), **one)
            return [bytes(found[fs._strip_protocol(url)]) for url in urls]

        return self.ask("reading", f"{urls[0]} and others", read) if urls else []

    def write(self, url: str, data: bytes) -> None:
        self._into(url, lambda fs: fs.pipe_file(url, data))

    def create(self, url: str, data: bytes) -> bool:
        """Write an object that must not be there; False if it is. Of two that try, one succeeds.

        A first try may have come through though its answer was lost: who gets False looks whether the object is its own.
        """
        try:
            self._into(url, lambda fs: fs.pipe_file(url, data, mode="create"))
        except FileExistsError:
            return False
        return True

    def replace(self, url: str, data: bytes, tag: str | None) -> str | None:
        """Write an object anew if it is still the one with this tag; unconditionally with no tag.

        Returns:
            The tag of what was written; None where the object was another or is gone, and where the storage has no tags.
        """
        if self.protocol not in _S3:
            self.write(url, data)
            return None
        still = {"IfMatch": tag} if tag else {}

        def put(fs: Any) -> str | None:
            try:
                return str(fs.pipe_file(url, data, **still)["ETag"])
            except FileNotFoundError:
                return None
            except OSError as error:
                if getattr(error.__cause__, "response", {}).get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
                    return None
                raise

        return self.ask("writing", url, put)

    def upload(self, local: Path, url: str) -> None:
        """Copy a local file to an object, and see that it is there whole."""
        size = local.stat().st_size
        self._into(url, lambda fs: fs.put_file(str(local), url))
        if self.protocol not in _S3 or size >= 100 * 2**20:
            # A single S3 request carries a checksum that the server compares; one of many parts, or another store, does not.
            found = self.size(url)
            if found != size:
                raise StorageDown(f"{url} has {found} bytes after {size} were written", hint="run the same command again")

    def _into(self, url: str, call: Callable[[Any], object]) -> None:
        folder = url.rsplit("/", 1)[0]
        try:
            if self.protocol not in _FLAT:
                self.ask("making", folder, lambda fs: fs.makedirs(folder, exist_ok=True))
            self.ask("writing", url, call)
        except FileNotFoundError as error:
            raise StorageDown(f"cannot write {url}: {error}", hint="make the bucket first, and mind its name") from error

    def download(self, url: str, local: Path) -> None:
        """Fetch an object into a new local file, which has all its bytes or is not there."""
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f".{local.name}.{os.getpid()}.tmp")
        try:
            self.ask("fetching", url, lambda fs: _fetch(fs, url, temporary))
            os.replace(temporary, local)
        finally:
            temporary.unlink(missing_ok=True)

    def size(self, url: str) -> int:
        return int(self.ask("looking at", url, lambda fs: fs.size(url)))

    def exists(self, url: str) -> bool:
        return bool(self.ask("looking for", url, lambda fs: fs.exists(url)))

    def discard(self, url: str) -> None:
        """Remove one object, in one request; nothing happens where there is none."""
        try:
            self.ask("removing", url, lambda fs: fs.rm_file(url))
        except FileNotFoundError:
            return

    def remove(self, url: str) -> None:
        """Remove an object and all below it, and see that they are gone: S3 tells of a refusal only in the answer's body."""
        paths = self.find(url)
        if not paths:
            self.discard(url)
            return
        self.ask("removing", url, lambda fs: fs.rm(paths))
        if left := self.find(url):
            raise StorageDown(
                f"{len(left)} objects below {url} were not removed, one is {left[0]}", hint="may it delete there?"
            )

    def find(self, url: str) -> list[str]:
        """Paths of all objects below a folder, as the file system writes them, sorted."""
        try:
            return sorted(str(path) for path in self.ask("listing", url, lambda fs: fs.find(url)))
        except FileNotFoundError:
            return []

    def sizes(self, url: str) -> dict[str, int | None]:
        """Names directly under a folder with their bytes (None of a folder); empty where there is no such folder."""
        try:
            found = self.ask("listing", url, self._listed(url))
        except FileNotFoundError:
            return {}
        return {
            str(item["name"]).rstrip("/").rsplit("/", 1)[-1]: None if item["type"] == "directory" else int(item["size"])
            for item in found
        }

    def _listed(self, url: str) -> Callable[[Any], list[dict[str, Any]]]:
        if self.protocol not in _S3:
            return lambda fs: list(fs.ls(url, detail=True))
        from fsspec.asyn import sync

        # `ls` of what is not there lists the folder above it too, which may hold very much.
        return lambda fs: list(sync(fs.loop, fs._lsdir, fs._strip_protocol(url)))


def _fetch(fs: Any, url: str, local: Path) -> None:
    from fsspec.callbacks import Callback

    told = Callback()
    fs.get_file(url, str(local), callback=told)
    found = local.stat().st_size
    if told.size is not None and found != told.size:
        raise OSError(errno.EIO, f"{found} bytes came of {told.size}")


def _final(error: Exception, what: str, url: str) -> Exception | None:
    """The error to raise at once, or None where another try may help."""
    told = f"{what} {url} failed: {type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in FULL:
        return StorageDown(told, hint="make room on this machine's disk (TMPDIR says where copies go), then run again")
    if isinstance(error, PermissionError) or type(error).__name__ in _NO_LOGIN:
        return StorageDown(told, hint="mind the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...), the rights and the clock")
    if isinstance(error, (TypeError, ValueError, AttributeError)) or (isinstance(error, OSError) and error.errno in _OURS):
        return StoreError(told, hint="the storage does not do this; mind the address")
    return None
