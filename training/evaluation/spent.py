"""Where an evaluation's time goes: seconds by what they are spent on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import torch

_Value = TypeVar("_Value")


class Spent:
    """Adds up seconds by name. On a GPU it waits for what was begun, so that time stands where it belongs."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._begun = perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = perf_counter()
        try:
            yield
        finally:
            if self._cuda:
                torch.cuda.synchronize()
            self._seconds[name] += perf_counter() - begin

    def each(self, name: str, values: Iterator[_Value]) -> Iterator[_Value]:
        """The values of an iterator; the time that they take counts."""
        while True:
            with self(name):
                value = next(values, None)
            if value is None:
                return
            yield value

    def profile(self) -> dict[str, float]:
        """Seconds by name, the most first, and as `other` what is in none of them since this was made."""
        other = perf_counter() - self._begun - sum(self._seconds.values())
        return {**dict(sorted(self._seconds.items(), key=lambda item: -item[1])), "other": max(other, 0.0)}
