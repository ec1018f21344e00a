"""What `dyconv animate` and `dyconv talk` say while they work, and what of it a person should know."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dyconv.errors import UsageError
from dyconv.infp.driver import Driver
from dyconv.infp.film import check_target
from dyconv.infp.films import Made
from dyconv.infp.portraits import FaceCrop
from dyconv.time import FPS

_console = Console(stderr=True, soft_wrap=True, highlight=False)


class Telling:
    """A progress bar in frames, on standard error, that goes away when it is done."""

    def __init__(self, what: str) -> None:
        rate = TextColumn("{task.fields[rate]}")
        columns = (BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), rate, TimeRemainingColumn())
        self._bar = Progress(
            TextColumn("{task.description}"), *columns, console=_console, transient=True, disable=not _console.is_terminal
        )
        self._task = self._bar.add_task(what, total=None, rate="")
        self._done = 0

    def __call__(self, done: int, total: int) -> None:
        self._done = done
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, completed=done, total=total, rate=f"{speed:.1f} fps" if speed else "")

    def step(self, total: int) -> None:
        """One frame more."""
        self(self._done + 1, total)

    def __enter__(self) -> Telling:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


def check_files(out: Path | None, *inputs: Path | None) -> Path:
    """Where the film goes: what was asked for, or a name in this folder made of the first inputs' names.

    Raises:
        UsageError: where an input is not there, or no film can be written there.
    """
    given = [path for path in inputs if path is not None]
    for path in given:
        if not path.is_file():
            raise UsageError(f"no such file: {path}", hint="check the path")
    target = Path("-".join(path.stem for path in given[:3]) + ".mp4") if out is None else out
    check_target(target)
    if any(target.exists() and target.samefile(path) for path in given):
        raise UsageError(f"{target} is one of the inputs, and would be replaced", hint="give another --out")
    return target


def about_face(crop: FaceCrop, path: Path) -> None:
    """Say what of a portrait is not as one may expect."""
    if crop.faces > 1:
        _console.print(
            f"{path}: {crop.faces} faces found, face {crop.face} from the left is taken (another one: --face N)", markup=False
        )
    side = round(float(crop.box[2] - crop.box[0]))
    if side < len(crop.image):
        _console.print(
            f"{path}: the face with its surroundings is {side} pixels wide, enlarged to {len(crop.image)}", markup=False
        )


def about_driver(driver: Driver) -> None:
    """Say what of a driver is not as one may expect."""
    if driver.people > 1:
        _console.print(f"{driver.path}: {driver.people} people seen, the one longest in the picture drives", markup=False)
    if (seen := float(driver.present.mean())) < 0.95:
        _console.print(f"{driver.path}: the face is seen in {seen:.0%} of the frames, and held in between", markup=False)


def about_film(made: Made, side: int) -> None:
    """Say what was made, and how fast."""
    _console.print(
        f"{made.path}: {made.frames} frames ({made.frames / FPS:.2f} s) of {side} x {side}, {made.rate:.1f} fps, "
        "marked as synthetic",
        markup=False,
    )
