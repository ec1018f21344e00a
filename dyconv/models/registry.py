"""Every model by name: its slot, how it is made, where its weights come from, and under which licence.

Adding a model is a wrapper file and one `ModelSpec` here. Weights lie in a cache folder (`DYCONV_CACHE`, default
`~/.cache/dyconv`), are checked against a pinned sha256 where one is known, and are fetched only by
`dyconv models pull`, never in the middle of a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dyconv.errors import ModelMissing, UsageError
from dyconv.store import sha256_of

_PACKAGED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class Weight:
    """One file of weights.

    Attributes:
        path: where it lies below the model cache, `/`-separated.
        sha256: what it must be; None where the publisher gives no fixed file.
        origin: for a person: where it comes from.
        fetch: `module:function` called as function(weight, target) by `dyconv models pull`; None if only by hand.
        member: for a wheel or archive: the file inside it.
        packaged: it is part of this project: `path` is below `dyconv/weights`, and nothing is to be fetched.
    """

    path: str
    sha256: str | None
    origin: str
    fetch: str | None = None
    member: str | None = None
    packaged: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the registry. `factory` is `module:attribute`, called with the local weight paths in order."""

    name: str
    slot: str
    factory: str
    licence: str
    about: str
    weights: tuple[Weight, ...] = ()
    default: bool = False
    extra: str | None = None  # what else must be installed or set, for a person


def cache_dir() -> Path:
    """The folder weights lie in."""
    return Path(os.environ.get("DYCONV_CACHE") or Path.home() / ".cache" / "dyconv") / "models"


def weight_path(weight: Weight) -> Path:
    return (_PACKAGED if weight.packaged else cache_dir()) / weight.path


def missing(spec: ModelSpec) -> list[Weight]:
    """Weights of the model that are not in the cache (presence only; `load` checks the bytes)."""
    return [weight for weight in spec.weights if not weight_path(weight).exists()]


def presence(spec: ModelSpec) -> str:
    """For a table: `none needed`, `present` or `missing` weights."""
    if not spec.weights:
        return "none needed"
    return "missing" if missing(spec) else "present"


def get(name: str) -> ModelSpec:
    """The entry called `name`.

    Raises:
        UsageError: naming what there is.
    """
    from dyconv.models.catalogue import MODELS
    from dyconv.models.metric_networks import METRIC_NETWORKS

    specs = (*MODELS, *METRIC_NETWORKS)
    for spec in specs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in specs)
    raise UsageError(f"no model called {name!r}", hint=f"known models: {known}")


def weight_hashes(name: str) -> tuple[str, ...]:
    """Hashes that stand for the model in a fingerprint: pinned ones, else of the file on this machine."""
    hashes = [name]
    for weight in get(name).weights:
        path = weight_path(weight)
        hashes.append(weight.sha256 or (sha256_of(path) if path.is_file() else "absent"))
    return tuple(hashes)


def require(name: str) -> ModelSpec:
    """The entry called `name`, if its weights are here (presence only).

    Raises:
        ModelMissing: with the exact command that brings what is missing.
    """
    spec = get(name)
    absent = missing(spec)
    if absent:
        files = ", ".join(str(weight_path(weight)) for weight in absent)
        if all(weight.packaged for weight in absent):
            raise ModelMissing(f"model {name} needs {files}, which come with this project", hint=_restore(absent))
        how = f"dyconv models pull {name}" if all(weight.fetch for weight in absent) else _by_hand(absent)
        raise ModelMissing(f"model {name} needs {files}", hint=f"run: {how}")
    return spec


def load(name: str) -> Any:
    """Make the model. Checks every weight against its pinned hash first.

    Raises:
        ModelMissing: with the exact command that brings what is missing, or names the damaged file.
    """
    spec = require(name)
    paths = []
    for weight in spec.weights:
        path = weight_path(weight)
        if weight.sha256 and path.is_file() and sha256_of(path) != weight.sha256:
            raise ModelMissing(
                f"{path} is not the file that model {name} was made with",
                hint=_restore([weight]) if weight.packaged else f"run: dyconv models pull --force {name}",
            )
        paths.append(path)
    model = _resolve(spec.factory)(*paths)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # a worker has one core, and sums in another order would be other bytes
    return model


def _restore(weights: list[Weight]) -> str:
    """How to get back files that are part of the project."""
    return f"bring them back: git checkout -- {' '.join(str(weight_path(weight)) for weight in weights)}, or install again"


def _by_hand(weights: list[Weight]) -> str:
    return "; ".join(f"get {weight.origin} and put it at {weight_path(weight)}" for weight in weights)


def _resolve(dotted: str) -> Callable[..., Any]:
    module, _, attribute = dotted.partition(":")
    return getattr(import_module(module), attribute)


def pull(name: str, *, force: bool = False) -> list[Path]:
    """Fetch the model's missing weights into the cache and check them. Returns what was fetched.

    Raises:
        ModelMissing: where a file can only be brought by hand, or what came is not what was expected.
    """
    spec = get(name)
    wanted = [weight for weight in spec.weights if not weight.packaged] if force else missing(spec)
    fetched = []
    for weight in wanted:
        target = weight_path(weight)
        if weight.packaged:
            raise ModelMissing(f"{target} of model {name} comes with this project and is gone", hint=_restore([weight]))
        if weight.fetch is None:
            raise ModelMissing(f"{weight.path} of model {name} cannot be fetched by a program", hint=_by_hand([weight]))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            _resolve(weight.fetch)(weight, temporary)
            if weight.sha256 and temporary.is_file() and sha256_of(temporary) != weight.sha256:
                raise ModelMissing(
                    f"what came for {weight.path} is not the pinned file", hint=f"expected sha256 {weight.sha256}"
                )
            os.replace(temporary, target)
        finally:
            if temporary.is_file():
                temporary.unlink()
        fetched.append(target)
    return fetched
