"""What a training can go on from. Files are complete or absent, and hold nothing but tensors and plain values.

DIR/checkpoints/step-00000500.pt
    run        `runs.Run.to_json`: sizes and hyper-parameters
    data       fingerprints of the builds it learns from
    position   global batches consumed: what the data go on from, and what all chance of a step comes from (with the seed)
    learner    weights, their running mean, optimisers
    versions   of torch and of dyconv
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import dyconv
from dyconv.errors import StoreError, UsageError
from dyconv.store import write_atomic
from training.infp.runs import Run

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8})\.pt")
_FIELDS = ("run", "data", "position", "learner", "versions")
_LOG = logging.getLogger(__name__)


def checkpoints(out: Path) -> list[Path]:
    """Those of a training's folder, oldest first."""
    folder = out / FOLDER
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name)) if folder.is_dir() else []


def write_checkpoint(
    out: Path, run: Run, data: Sequence[str], position: int, learner: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write one, and remove all but the newest `keep`."""
    versions = {"torch": str(torch.__version__), "dyconv": dyconv.__version__}
    held = {"run": run.to_json(), "data": list(data), "position": position, "learner": dict(learner), "versions": versions}
    buffer = io.BytesIO()
    torch.save(held, buffer)
    path = out / FOLDER / f"step-{position:08d}.pt"
    write_atomic(path, buffer.getvalue())
    for old in checkpoints(out)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """
    Raises:
        StoreError: where it is cut off, damaged or of something else.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file brings about
        raise StoreError(f"{path} is no readable checkpoint: {str(error).splitlines()[0]}", hint="delete it") from error
    if not isinstance(held, dict) or any(name not in held for name in _FIELDS):
        raise StoreError(f"{path}: expected a checkpoint with {', '.join(_FIELDS)}, found something else", hint="delete it")
    return held


def newest(out: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None where there is none at all. One that cannot is told of and passed over.

    Raises:
        StoreError: where none of several can be read.
    """
    found = checkpoints(out)
    problem: StoreError | None = None
    for path in reversed(found):
        try:
            return read_checkpoint(path)
        except StoreError as error:
            _LOG.warning("%s; an older one is tried", error.message)
            problem = problem or error
    if problem is not None:
        raise StoreError(
            f"none of {len(found)} checkpoints in {out / FOLDER} can be read; the newest: {problem.message}",
            hint="train into another folder, or begin anew with --no-resume, which deletes them",
        )
    return None


def check_same(held: Mapping[str, Any], run: Run, data: Sequence[str], out: Path) -> None:
    """
    Raises:
        UsageError: naming what is not as it was, where a checkpoint is not of this run and these data.
    """
    hint = "choose another --out, go on with what it was, or begin anew with --no-resume, which deletes its checkpoints"
    if other := run.differences(held["run"]):
        raise UsageError(f"{out} holds a training with another config: this one has {'; '.join(other)}", hint=hint)
    if list(data) != list(held["data"]):
        raise UsageError(
            f"{out} holds a training on other data: {len(held['data'])} builds of other content or order",
            hint="give the same --data, or fine-tune in a new --out with --init on the weights of this one",
        )


def delete_all(out: Path) -> None:
    for path in checkpoints(out):
        path.unlink(missing_ok=True)
