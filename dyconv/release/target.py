"""Where releases go: a folder, an object store, or a dataset repository of the Hugging Face Hub.

A release is there once its `release.json` is. On a disk the finished folder is renamed into place; on an object store the
files go up one by one, `release.json` last, and a broken-off upload goes on where it stopped; the Hub takes them as one
commit and one tag.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dyconv.bounds import parse_json
from dyconv.errors import DyconvError, StorageDown, StoreError, UsageError
from dyconv.processes import alive
from dyconv.records import dump
from dyconv.release.checksums import read_checksums
from dyconv.release.model import CHECKSUMS, RELEASE, is_version, version_key
from dyconv.store import Store, fsync_path, scratch_prefix

_STAGING = ".staging-"
_UPLOADING = "UPLOADING.json"  # on an object store: what of an unfinished upload is there, as path -> sha256
_NOTED_EVERY = 256 << 20  # bytes between two notes of how far an upload has come; a small file counts as _SMALL more
_SMALL = 4 << 20


class Target(ABC):
    """A place that holds releases of one dataset by version."""

    def __init__(self, to: str) -> None:
        self.to = to

    @property
    def name(self) -> str:
        """What the place is called: its last folder."""
        return self.to.rstrip("/").rsplit("/", 1)[-1]

    @abstractmethod
    def versions(self) -> list[str]:
        """Finished releases, oldest version first."""

    @abstractmethod
    def store(self, version: str) -> Store:
        """A finished release, to read."""

    @abstractmethod
    def publish(self, staging: Path, version: str) -> None:
        """Put a finished staging folder in place.

        Raises:
            StoreError: if it cannot be; what is left of it is no release, and publishing again goes on.
        """

    def where(self, version: str) -> str:
        """How to name the release to other commands."""
        return f"{self.to}/{version}"

    def staging_parent(self) -> Path | None:
        """Folder for the staging folder; None for the system's temporary one."""
        return None

    def refuse_existing(self, version: str) -> None:
        """Raises UsageError if the version is there."""
        there = self.versions()
        if version in there:
            raise UsageError(
                f"{self.where(version)} exists: a version never changes once it is out",
                hint=f"give a version after {there[-1]}",
            )


class LocalTarget(Target):
    """A folder."""

    def __init__(self, to: str) -> None:
        super().__init__(str(Path(to.removeprefix("file://")).absolute()))

    def versions(self) -> list[str]:
        folder = Path(self.to)
        names = [name for name in os.listdir(folder) if is_version(name)] if folder.is_dir() else []
        return sorted((name for name in names if (folder / name / RELEASE).is_file()), key=version_key)

    def store(self, version: str) -> Store:
        return Store(self.where(version))

    def staging_parent(self) -> Path | None:
        try:
            Path(self.to).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.to} cannot be made: {error.strerror}", hint="give another folder with --to") from error
        return Path(self.to)

    def refuse_existing(self, version: str) -> None:
        super().refuse_existing(version)
        if (Path(self.to) / version).exists():
            raise UsageError(
                f"{self.where(version)} exists and is no finished release", hint="remove it, or give another version"
            )

    def publish(self, staging: Path, version: str) -> None:
        for path in sorted(staging.rglob("*")):
            fsync_path(path)
        staging.chmod(0o755)
        try:
            os.rename(staging, self.where(version))
        except OSError as error:
            raise StoreError(f"{self.where(version)}: {error.strerror}", hint="somebody else has just written it") from error
        fsync_path(Path(self.to))


class RemoteTarget(Target):
    """A folder of an object store, by a URI fsspec knows."""

    def versions(self) -> list[str]:
        root = Store(self.to)
        names = sorted((name for name in root.list() if is_version(name)), key=version_key)
        return [name for name in names if root.exists(f"{name}/{RELEASE}")]

    def store(self, version: str) -> Store:
        return Store(self.where(version))

    def publish(self, staging: Path, version: str) -> None:
        store = self.store(version)
        wanted = {**read_checksums(staging), CHECKSUMS: ""}
        done = self._done(store)
        order = sorted(wanted, key=lambda name: (name == RELEASE, name))
        sent = noted = 0
        try:
            try:
                for name in order:
                    size = (staging / name).stat().st_size
                    if name in done and done[name] == wanted[name] and store.exists(name) and store.size(name) == size:
                        continue
                    store.upload(staging / name, name)
                    done[name] = wanted[name]
                    sent += size + _SMALL
                    if sent - noted > _NOTED_EVERY:
                        noted = sent
                        store.write_bytes(_UPLOADING, dump(done))
            except BaseException:
                store.write_bytes(_UPLOADING, dump(done))
                raise
            for name in set(done) - set(wanted):
                store.remove(name)
            store.remove(_UPLOADING)
        except transport_errors(StorageDown) as error:
            told = error.message if isinstance(error, StorageDown) else error
            raise StoreError(f"{store}: the upload broke off: {told}", hint="the same command goes on from there") from error

    def _done(self, store: Store) -> dict[str, str]:
        if not store.exists(_UPLOADING):
            return {}
        try:
            return {str(name): str(sha256) for name, sha256 in parse_json(store.read_bytes(_UPLOADING)).items()}
        except (ValueError, AttributeError):
            return {}


def transport_errors(*more: type[Exception]) -> tuple[type[BaseException], ...]:
    """What may be raised while files are read from or written to somewhere else, of the clients that are loaded; and more."""
    clients = (("httpx2", "HTTPError"), ("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    loaded = [(sys.modules.get(module), name) for module, name in clients]
    return (OSError, *more, *(getattr(module, name) for module, name in loaded if module is not None))


@contextmanager
def reachable(where: str) -> Iterator[None]:
    """Turn what a disk or a client of an object store raises into an error for a person.

    Raises:
        StoreError: naming the place.
    """
    try:
        yield
    except DyconvError:
        raise
    except transport_errors() as error:
        raise StoreError(f"{where} cannot be reached: {error}", hint="run the same command again once it can be") from error


def open_target(to: str) -> Target:
    """The place `to` names.

    Raises:
        UsageError: if it is none.
    """
    if to.startswith("hf://"):
        from dyconv.release.hub import HubTarget

        return HubTarget(to)
    if "://" in to and not to.startswith("file://"):
        import fsspec

        try:
            fsspec.filesystem(to.split("://", 1)[0])
        except (ValueError, ImportError) as error:
            raise UsageError(f"{to}: {error}", hint="s3:// needs `pip install dyconv[s3]`") from error
        return RemoteTarget(to.rstrip("/"))
    return LocalTarget(to)


def make_staging(target: Target, version: str) -> Path:
    """A new folder to write a release into; beside the others on a disk, so that a rename puts it in place."""
    return Path(tempfile.mkdtemp(prefix=f"{_STAGING}{scratch_prefix()}{version}-", dir=target.staging_parent()))


def sweep_staging(target: Target) -> None:
    """Remove staging folders of processes of this machine that are gone."""
    parent = target.staging_parent()
    mine = re.compile(re.escape(f"{_STAGING}{socket.gethostname()}-") + r"(\d+)-.*")
    for left in sorted(parent.iterdir()) if parent else []:
        found = mine.fullmatch(left.name)
        if found and not alive(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)
