"""From rows to batches: workers make their parts of each, which are put together where they are to be used."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dyconv.errors import DyconvError, UsageError
from training.infp.plan import DataPlan

_RECENT = 0.98  # weight of what was measured before, each batch
_AHEAD = 4  # batches that each worker has ready

_Item = TypeVar("_Item")
Make = Callable[[int, range], tuple[Tensor, ...]]  # from the number of a batch and places in it; goes to workers: picklable


class _Piece(NamedTuple):
    """What one worker makes of a batch, and the seconds that it took."""

    tensors: tuple[Tensor, ...]
    seconds: float


class _Pieces(IterableDataset[_Piece | DyconvError]):
    """The part of each batch that a worker makes, from batch `start` on; or, at the end, an error meant for a person."""

    def __init__(self, make: Make, plan: DataPlan, start: int) -> None:
        self.make, self.plan, self.start = make, plan, start

    def __iter__(self) -> Iterator[_Piece | DyconvError]:
        worker = get_worker_info()
        if worker:
            import cv2

            cv2.setNumThreads(1)
        places = self.plan.places(*((worker.id, worker.num_workers) if worker else ()))
        number = self.start
        while True:
            begun = time.perf_counter()
            try:
                tensors = self.make(number, places)
            except DyconvError as error:
                yield error
                return
            yield _Piece(tensors, time.perf_counter() - begun)
            number += 1


class Batches(Generic[_Item]):
    """This rank's part of the global batches, without end, on `device`. Close it after use.

    Attributes:
        position: number of the global batch that comes next.
        clips: clips that can be drawn.
        make: what makes the rows; with workers, each has its own copy.
        folder: where copies of remote shards lie until the loader is closed; None for a folder of the user's.
        waited: share of the time since the first batch that was spent waiting for data, 0 to 1; of late.
        rate: rows a second that this rank's workers could make if nobody else kept them waiting; of late.
    """

    def __init__(
        self,
        make: Make,
        finish: Callable[..., _Item],
        plan: DataPlan,
        *,
        start: int,
        clips: int,
        device: torch.device | str,
        folder: tempfile.TemporaryDirectory[str] | None,
    ) -> None:
        if start < 0:
            raise UsageError(f"the first batch must be at least 0, found {start}")
        self.position, self.clips, self.make, self.folder = start, clips, make, folder
        self._finish, self._device = finish, torch.device(device)
        self._workers = min(plan.workers, len(plan.places()))
        self._rows = len(plan.places())
        self._busy = self._waiting = self._passed = self._made = 0.0
        loader: DataLoader[_Piece | DyconvError] = DataLoader(
            _Pieces(make, plan, start),
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=_AHEAD if self._workers else None,
            multiprocessing_context=_processes() if self._workers else None,
            pin_memory=self._device.type == "cuda",
        )
        self._pieces: Iterator[_Piece | DyconvError] | None = iter(loader)
        self._last = time.perf_counter()

    def __iter__(self) -> Iterator[_Item]:
        return self

    def __next__(self) -> _Item:
        if self._pieces is None:
            raise StopIteration
        begun = time.perf_counter()
        parts = [_good(next(self._pieces)) for _ in range(max(1, self._workers))]
        self._count(begun, parts)
        moved = [[tensor.to(self._device, non_blocking=True) for tensor in part.tensors] for part in parts]
        self.position += 1
        return self._finish(*(torch.cat(column) if len(column) > 1 else column[0] for column in zip(*moved, strict=True)))

    def _count(self, begun: float, parts: Sequence[_Piece]) -> None:
        now = time.perf_counter()
        for name, value in (
            ("_busy", sum(part.seconds for part in parts) / len(parts)),
            ("_made", self._rows),
            ("_waiting", now - begun),
            ("_passed", now - self._last),
        ):
            setattr(self, name, getattr(self, name) * _RECENT + value)
        self._last = now

    @property
    def rate(self) -> float:
        return self._made / self._busy if self._busy else 0.0

    @property
    def waited(self) -> float:
        return self._waiting / self._passed if self._passed else 0.0

    def close(self) -> None:
        """End the workers and delete temporary copies of shards. Iteration then ends."""
        pieces, self._pieces = self._pieces, None
        stop = getattr(pieces, "_shutdown_workers", None)
        if stop:
            stop()
        if self.folder is not None:
            self.folder.cleanup()


def _good(piece: _Piece | DyconvError) -> _Piece:
    if isinstance(piece, DyconvError):
        raise piece
    return piece


def _processes() -> multiprocessing.context.BaseContext:
    """Workers come from a clean process: one that has used a GPU, a remote store or threads of OpenCV must not be forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.infp.data"])
    return context
