"""A stage that spends a fixed amount of processor time on a clip, and waits for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from dyconv.records import Clip, Drop, Key
from dyconv.stages.base import Files
from tests.fakes import Cut, Mark, recipe

BUSY_S = 0.04


@dataclass(frozen=True)
class Busy(Mark):
    """`Mark` after `BUSY_S` seconds of the processor."""

    name: ClassVar[str] = "busy"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        end = time.process_time() + BUSY_S
        while time.process_time() < end:
            pass
        yield from super().process(clip, files)


RECIPE = recipe(cut=Cut(pieces=10), mark=Busy())
