"""How long the making of a video takes, and how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_MB = 1e6
_STATM = Path("/proc/self/statm")


class Clock:
    """Measures one making, from before the portrait is encoded to the last frame in main memory.

    Not counted: reading the truth, and writing the film. Memory is the weights, and what was held at most on top of what was
    held before: on CUDA as PyTorch allocated it, elsewhere resident memory of the process (Linux), looked at after each frame.
    There, what earlier makings left free is used again: the largest of several makings tells.

    Args:
        device: that frames are made on; None for the CPU.
        held: bytes of the weights.

    Attributes:
        latency_s: of the method, where it has one.
    """

    def __init__(self, device: torch.device | None = None, held: int = 0) -> None:
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._held = held
        self.latency_s: float | None = None
        self.seconds, self.count, self._paused = 0.0, 0, 0.0
        self.first_frame_s: float | None = None
        self._before, self._most = 0, 0

    def timed(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same frames, each waited for on the clock."""
        self._begin()
        while True:
            begin, self._paused = perf_counter(), 0.0
            frame = next(frames, None)
            self.seconds += perf_counter() - begin - self._paused
            if frame is None:
                return
            self.count += 1
            if self.first_frame_s is None:
                self.first_frame_s = self.seconds
            if self._cuda is None:
                self._most = max(self._most, _resident())
            yield frame

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time that is not counted."""
        begin = perf_counter()
        try:
            yield
        finally:
            self._paused += perf_counter() - begin

    def paused(self, pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same pictures; waiting for them is not counted."""
        while True:
            with self.waiting():
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    def told(self) -> dict[str, Any]:
        """What stands beside a video; `memory` says what `peak_mb` is of."""
        if self._cuda is not None:
            import torch

            self._most = torch.cuda.max_memory_allocated(self._cuda)
        memory = {} if not self._most else {"peak_mb": (max(0, self._most - self._before) + self._held) / _MB}
        return {
            "seconds": self.seconds,
            "frames": self.count,
            **({} if self.first_frame_s is None else {"first_frame_s": self.first_frame_s}),
            **({} if self.latency_s is None else {"latency_s": self.latency_s}),
            **memory,
            "memory": "CUDA, allocated" if self._cuda is not None else "resident",
        }

    def _begin(self) -> None:
        if self._cuda is None:
            self._before = _resident()
            return
        import torch

        torch.cuda.synchronize(self._cuda)
        torch.cuda.reset_peak_memory_stats(self._cuda)
        self._before = torch.cuda.memory_allocated(self._cuda)


def _resident() -> int:
    """Bytes of main memory that this process holds; 0 where the system does not say."""
    import resource

    if not _STATM.is_file():
        return 0
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
