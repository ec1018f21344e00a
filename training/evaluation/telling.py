"""How far an evaluation has got, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_Value = TypeVar("_Value")


class Telling:
    """Progress bars and lines for a person; off a terminal only the lines."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    def each(self, values: Sequence[_Value], what: str) -> Iterator[_Value]:
        """The values, and how many of them are done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield from progress.track(values, description=what)

    def line(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)
