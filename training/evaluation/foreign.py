"""Files of networks that others trained and metrics are defined by: found, checked against their pinned hash, opened safely."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from dyconv.errors import ModelMissing, UsageError
from dyconv.models import registry
from dyconv.store import sha256_of
from training.evaluation.metric import Choice
from training.evaluation.results import Unavailable

MODELS: Mapping[str, str] = {
    "alexnet": "alexnet",
    "inception_fid": "inception_fid",
    "i3d": "i3d",
    "syncnet": "syncnet",
    "arcface": "insightface_buffalo_l",
}  # names of networks here, and of their entries in the registry of models


def find(name: str, choice: Choice) -> Path:
    """The file of a network: the one that `choice.weights` names, else the one in the model cache.

    Args:
        name: alexnet, inception_fid, i3d, syncnet or arcface.

    Raises:
        ModelMissing: where it is not there or is another file than the published one. The hint is the command that brings it.
        UsageError: for another name.
    """
    weight, pull = pinned(name), f"dyconv models pull {MODELS[name]}"
    given = (choice.weights or {}).get(name)
    path = given if given is not None else registry.weight_path(weight)
    if not path.is_file():
        where = "given for it" if given is not None else "in the model cache"
        raise ModelMissing(f"{path}, {where}, is not there: the weights of {name}", hint=f"run: {pull}")
    if (found := sha256_of(path)) != weight.sha256:
        fix = f"run: {pull}, and give no path" if given is not None else f"run: {pull.replace('pull', 'pull --force')}"
        raise ModelMissing(
            f"{path} is not the published {name}: expected sha256 {weight.sha256} ({weight.origin}), found {found}", hint=fix
        )
    return path


def pinned(name: str) -> registry.Weight:
    """The registry's entry of a network's file.

    Raises:
        UsageError: for a name that is none of `MODELS`.
    """
    if name not in MODELS:
        raise UsageError(f"no foreign network called {name!r}", hint=f"known are: {', '.join(MODELS)}")
    (weight,) = registry.get(MODELS[name]).weights
    return weight


def unavailable(metric: str, error: ModelMissing) -> Unavailable:
    """What a report says of a metric whose network is missing."""
    return Unavailable(metric, why=error.message, fix=(error.hint or "").removeprefix("run: "))


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a file of weights, on the CPU. Nothing in it is executed.

    Raises:
        ModelMissing: where it is no such file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelMissing(
            f"{path} is no file of weights: {reason}", hint="bring it again: dyconv models pull --force"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelMissing(f"{path} is no dict of tensors by name", hint="bring it again: dyconv models pull --force")
    return dict(state)


def in_parts(*frames: Tensor, at_once: int) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of the same length together, `at_once` rows on a GPU. On a CPU row by row: what one makes stays in its cache."""
    count = at_once if frames[0].is_cuda else 1
    return zip(*(one.split(count) for one in frames), strict=True)


@contextmanager
def exact() -> Iterator[None]:
    """No gradients, and float32 that is float32: a GPU's shorter TF32 products would move metrics in the third digit."""
    short = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = short
