"""Recipes over real media with a last stage that misbehaves on a clip, natively where that matters."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, Key
from dyconv.stages.base import Files, Stage
from pipelines.cuts import RECIPE as CUTS

MIB = 2**20


@dataclass(frozen=True)
class Misbehave(Stage):
    """Passes clips on, and does `how` on those whose id contains `on`.

    Attributes:
        there: only while this file is there; empty is always.
        megabytes: how much memory is taken where it is about memory.
    """

    how: str = "nothing"
    on: str = "-none-"
    there: str = ""
    megabytes: int = 50

    name: ClassVar[str] = "misbehave"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if self.on in clip.id and (not self.there or Path(self.there).exists()):
            getattr(self, f"_{self.how}")()
        yield clip

    def _nothing(self) -> None:
        pass

    def _sleep(self) -> None:
        time.sleep(1e6)

    def _loop(self) -> None:
        while True:
            pass

    def _native(self) -> None:
        """Hang in native code with the interpreter's lock held: no Python thread of this process can run."""
        ctypes.PyDLL(None).sleep(1_000_000)

    def _deaf(self) -> None:
        """Hang and ignore what can be ignored."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ctypes.PyDLL(None).sleep(1_000_000)

    def _segfault(self) -> None:
        """A real access to address 0 in native code."""
        ctypes.string_at(0)

    def _exit(self) -> None:
        os._exit(7)

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _leak(self) -> None:
        """Keep memory for ever, touched so that it counts."""
        _leaked.append(bytearray(os.urandom(1)) * (self.megabytes * MIB))

    def _greedy(self) -> None:
        """Take more and more, 50 MB at a time."""
        kept = []
        for _ in range(self.megabytes // 50):
            kept.append(bytearray(b"x") * (50 * MIB))
            time.sleep(0.05)
        time.sleep(2)

    def _error(self) -> None:
        raise ValueError("expected something else")


_leaked: list[bytearray] = []


def films(last: Misbehave | None = None, **more: object) -> Recipe:
    """The `cuts` recipe, with a stage behind it."""
    stages = (*CUTS.stages, last or Misbehave())
    return Recipe("films", "cuts, and a stage that may misbehave", stages, pack=(Key.VIDEO, Key.MIX), **more)  # type: ignore[arg-type]


FILMS = films()
