"""What a stage is, and what it may rely on.

A stage is a frozen dataclass; its fields are its configuration and part of its fingerprint. It takes one clip and
yields clips or drops. It says which assets it needs and which it gives, and it writes only through `Files`. It catches
nothing that it cannot put right: the runner records exceptions with clip, stage and traceback. The same clip and the
same fields must give the same bytes, whatever machine, worker or attempt.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from dyconv.errors import StoreError
from dyconv.records import Clip, Drop, Key, Ref, dump
from dyconv.store import Store, sha256_of


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage asks of the machine. Not part of the fingerprint."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0  # bytes; 0 asks for nothing in particular


@dataclass(frozen=True)
class Limit:
    """How long a stage may work on one clip before its worker is taken to hang. Not part of the fingerprint.

    Generous: it is there for what would never end, not for what is slow.
    """

    seconds: float = 900.0
    per_media_second: float = 30.0  # more for every second of the clip

    def of(self, clip: Clip) -> float:
        """Seconds for this clip."""
        return self.seconds + self.per_media_second * float(clip.span.duration)


class Stage(ABC):
    """One step. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # raise it when the output changes for the same fields
    needs: ClassVar[frozenset[Key]] = frozenset()
    gives: ClassVar[frozenset[Key]] = frozenset()
    optional: ClassVar[frozenset[Key]] = frozenset()  # of `gives`: not on every clip
    splits: ClassVar[bool] = False  # True where one clip in may be several out
    resources: ClassVar[Resources] = Resources()  # the default; a recipe may override it
    limit: ClassVar[Limit] = Limit()  # the default; a recipe may override it

    def models(self) -> tuple[str, ...]:
        """Names in the model registry that this stage loads; their weights' hashes join the fingerprint."""
        return ()

    def setup(self) -> None:
        """Load models and heavy imports, once in each worker, before the first `process`."""

    @abstractmethod
    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        """Yield what becomes of the clip."""

    def config(self) -> dict[str, Any]:
        """The dataclass fields as JSON-ready values."""
        assert dataclasses.is_dataclass(self), f"{type(self).__name__} must be a dataclass"
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def fingerprint(self, upstream: str, weights: tuple[str, ...] = ()) -> str:
        """Hex sha256 that names this stage's output for a clip with fingerprint `upstream`.

        Args:
            upstream: fingerprint of what came before (of the source's row for the first stage).
            weights: sha256 of the weights of `models()`, in that order.
        """
        payload = [upstream, self.name, self.version, self.config(), list(weights)]
        return hashlib.sha256(dump(payload)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


class Files:
    """A stage's window on the store: reads by key, and writes that become visible only when the stage is done.

    Args:
        store: where finished assets lie.
        folder: store path under which this stage's output for this clip goes.
        scratch: a local temporary folder, empty, removed by the runner afterwards.
    """

    def __init__(self, store: Store, folder: str, scratch: Path) -> None:
        self.store = store
        self.folder = folder
        self.scratch = scratch
        self._new: dict[str, tuple[Path, str]] = {}  # by path in the store: the file, and its sha256

    def path(self, clip: Clip, key: Key) -> Path:
        """Local path of an asset the clip carries (written just now or by an earlier stage). Read only.

        Raises:
            StoreError: if the clip has no such asset.
        """
        ref = clip.assets.get(key)
        if ref is None:
            have = ", ".join(sorted(clip.assets)) or "none"
            raise StoreError(f"clip {clip.id} has no asset {key!s} (it has: {have})")
        return self._new[ref.path][0] if ref.path in self._new else self.store.local(ref.path, ref.size)

    def new(self, clip: Clip, key: Key, suffix: str = "") -> Path:
        """A local path to write an asset of the clip to, before `add`.

        `suffix` is only for `Key.MEDIA`, whose container is the host's choice (`.mp4`, `.webm`).
        """
        return self.scratch / f"{clip.id}.{key}{suffix}"

    def add(self, clip: Clip, *paths: tuple[Key, Path]) -> Clip:
        """A copy of the clip that carries files written to `new` paths, hashed."""
        assets = dict(clip.assets)
        for key, path in paths:
            ref = Ref(path=f"{self.folder}/{path.name}", sha256=sha256_of(path), size=path.stat().st_size)
            self._new[ref.path] = path, ref.sha256
            assets[key] = ref
        return replace(clip, assets=assets)

    def commit(self) -> None:
        """Move everything that was added into the store. Called by the runner, once, when the stage is through."""
        for target, (path, sha256) in self._new.items():
            # Kept, because the next stage of this clip mostly runs in this process.
            self.store.put(path, target, keep=True, sha256=sha256)
        self._new.clear()


def check_contract(stage: Stage, clip: Clip, outputs: list[Clip | Drop]) -> None:
    """Raise if the stage broke its own contract for this clip.

    Raises:
        StoreError: naming stage, clip and the missing or undeclared asset.
    """
    required = stage.gives - stage.optional
    for output in outputs:
        if isinstance(output, Drop):
            continue
        missing = required - output.assets.keys()
        if missing:
            raise StoreError(f"stage {stage.name} promised {', '.join(sorted(missing))} and did not give it ({output.id})")
        inherited = clip.assets.keys() if output.id == clip.id else set()
        foreign = output.assets.keys() - stage.gives - inherited
        if foreign:
            raise StoreError(f"stage {stage.name} gave {', '.join(sorted(foreign))} without declaring it ({output.id})")
    if not stage.splits and len(outputs) != 1:
        raise StoreError(f"stage {stage.name} must give one output for {clip.id}, gave {len(outputs)}")
