"""What a training tells while it runs: `log.jsonl`, TensorBoard, pictures, and a line or bar for who watches."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dyconv.store import write_atomic

LOG = "log.jsonl"
SAMPLES = "samples"
_LOGGER = logging.getLogger(__name__)


class Monitor:
    """Use as a context manager.

    Args:
        out: the training's folder.
        position: global batches consumed so far; what was told of later ones, before a break, is taken back.
        steps: of the whole training.
        quiet: show nothing and write nothing: for processes that only compute.
    """

    def __init__(self, out: Path, position: int, steps: int, *, quiet: bool = False) -> None:
        self.out, self.quiet = out, quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        shown = sys.stderr.isatty() and not quiet
        self._progress = Progress(*columns, console=self.console, disable=not shown)
        self._task = self._progress.add_task("training", total=steps, completed=position)
        self._lines = not shown
        if not quiet:
            _cut_log(out / LOG, position)
        self._board = None if quiet else _board(out, position)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def advance(self, position: int) -> None:
        self._progress.update(self._task, completed=position)

    def tell(self, text: str) -> None:
        """A line for who watches."""
        self.console.print(text, soft_wrap=True, markup=False)

    def log(self, position: int, values: Mapping[str, float], *, under: str = "train") -> None:
        """Numbers of a step."""
        if self.quiet:
            return
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps({"step": position, "kind": under, **rounded}) + "\n")
        if self._board is not None:
            for name, value in rounded.items():
                self._board.add_scalar(f"{under}/{name}", value, position)
        shown = " ".join(f"{name} {value:.4g}" for name, value in rounded.items() if "/" not in name)
        if under == "train":
            self._progress.update(self._task, description=f"loss {rounded.get('loss', float('nan')):.4g}")
        if self._lines or under != "train":
            self.tell(f"{under} {position}: {shown}")

    def picture(self, position: int, name: str, pixels: np.ndarray) -> Path:
        """Write uint8 RGB [H, W, 3] as DIR/samples/NAME-POSITION.png."""
        import cv2

        path = self.sample(position, name, ".png")
        written, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if not written:
            raise ValueError(f"cannot encode {pixels.shape} as PNG")
        write_atomic(path, data.tobytes())
        if self._board is not None:
            self._board.add_image(name, pixels, position, dataformats="HWC")
        return path

    def sample(self, position: int, name: str, suffix: str) -> Path:
        """Where a sample of a step is to be written."""
        folder = self.out / SAMPLES
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}-{position:08d}{suffix}"


def _board(out: Path, position: int) -> Any:
    """TensorBoard's writer, where it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _LOGGER.warning("no TensorBoard here (pip install tensorboard): numbers go to %s only", out / LOG)
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=position + 1)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off in writing is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _cut_log(path: Path, position: int) -> None:
    """Take back lines of steps that will be taken again."""
    rows = read_log(path)
    kept = [row for row in rows if row["step"] <= position]
    if path.is_file():
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
