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
from dyconv.stages.base import Files, Limit, Stage
from pipelines.cuts import RECIPE as CUTS

MIB = 2**20
ORDERS = "DYCONV_ORDERS"


@dataclass(frozen=True)
class Misbehave(Stage):
    """Passes clips on, and does something else on those that the orders of this run name.

    The orders come in a file that a variable names: they must not be part of what the stage makes.
    """

    name: ClassVar[str] = "misbehave"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        orders = Path(os.environ.get(ORDERS, "/nowhere"))
        if orders.is_file():
            how, on, megabytes = orders.read_text().split()
            if on in clip.id:
                getattr(self, f"_{how}")(int(megabytes))
        yield clip

    def _sleep(self, megabytes: int) -> None:
        time.sleep(1e6)

    def _nap(self, megabytes: int) -> None:
        """Once, for half of its limit, and say so."""
        said = Path(f"{os.environ[ORDERS]}.napping")
        if not said.exists():
            said.touch()
            time.sleep(2)

    def _loop(self, megabytes: int) -> None:
        while True:
            pass

    def _native(self, megabytes: int) -> None:
        """Hang in native code with the interpreter's lock held: no Python thread of this process can run."""
        library = ctypes.PyDLL(None)
        while True:  # a signal ends a sleep
            library.sleep(1_000_000)

    def _deaf(self, megabytes: int) -> None:
        """Hang and ignore what can be ignored."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._native(megabytes)

    def _segfault(self, megabytes: int) -> None:
        """A real access to address 0 in native code."""
        ctypes.string_at(0)

    def _exit(self, megabytes: int) -> None:
        os._exit(7)

    def _kill(self, megabytes: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _leak(self, megabytes: int) -> None:
        """Keep memory for ever, touched so that it counts."""
        _leaked.append(bytearray(os.urandom(1)) * (megabytes * MIB))

    def _greedy(self, megabytes: int) -> None:
        """Take more and more, 50 MB at a time."""
        kept = []
        for _ in range(megabytes // 50):
            kept.append(bytearray(b"x") * (50 * MIB))
            time.sleep(0.05)
        time.sleep(2)

    def _error(self, megabytes: int) -> None:
        raise ValueError("expected something else")


_leaked: list[bytearray] = []


FILMS = Recipe(
    "films",
    "cuts, and a stage that may misbehave",
    (*CUTS.stages, Misbehave()),
    pack=(Key.VIDEO, Key.MIX),
    limits={"misbehave": Limit(seconds=5.0, per_media_second=0.0)},
)
