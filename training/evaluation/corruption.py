"""Does each metric move the right way? True videos are made worse by degrees, and measured as a system's videos are.

    python -m training.evaluation.corruption --data BUILD --out DIR

writes DIR/corruption.png, one row a corruption, and the usual report of all of them. A build of conversations shows most.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import typer

from dyconv.cli import run_alone
from dyconv.infp.agent import Agent
from training.evaluation.case import ALL, Truth
from training.evaluation.clock import Clock
from training.evaluation.job import Job
from training.evaluation.results import GROUND_TRUTH, Report, Result
from training.evaluation.run import finish, measured
from training.evaluation.sets import open_set
from training.evaluation.systems import Maker, fingerprint, subject_of, true_pictures
from training.evaluation.tables import ARROWS
from training.evaluation.videos import resized


class Corrupted(Maker):
    """A true video made worse.

    Args:
        size: pixels of the videos written.

    Attributes:
        kind: of corruption.
        grade: how much, from 0, the truth itself (encoded again; for `Calmed` drawn by the renderer), to 1.
        grades: those that are shown.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]
    grades: ClassVar[tuple[float, ...]]

    def __init__(self, grade: float, size: int, *, told: object = None) -> None:
        super().__init__(f"{self.kind.replace(' ', '-')}-{grade:g}", [self.kind, grade, size, told])
        self.grade, self.size = grade, size

    def pictures(self, truth: Truth) -> Generator[np.ndarray]:
        """The true frames at the size that videos are written in."""
        for picture in true_pictures(truth):
            yield resized(picture, self.size)


class Blurred(Corrupted):
    """A Gaussian over each picture; the grade is its sigma in percent of the picture's side."""

    kind, unit, grades = "blur", "sigma, % of the side", (0.0, 0.5, 1.0, 2.0)

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        import cv2

        for picture in self.pictures(truth):
            sigma = self.grade / 100 * len(picture)
            yield np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma)) if sigma else picture


class Late(Corrupted):
    """The picture comes later than it should; the first is held until then."""

    kind, unit, grades = "shift", "frames too late", (0, 2, 5, 12)

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        pictures = self.pictures(truth)
        first = next(pictures)
        late = min(int(self.grade), truth.case.frames - 1)
        for _ in range(late + 1):
            yield first
        yield from islice(pictures, truth.case.frames - late - 1)


class Calmed(Corrupted):
    """Motion is made smaller: latents are drawn towards their mean, and rendered again from the portrait."""

    kind, unit, grades = "amplitude", "share of the motion taken away", (0.0, 0.3, 0.6, 1.0)

    def __init__(self, grade: float, agent: Agent) -> None:
        super().__init__(grade, agent.size, told=fingerprint(agent))
        self.agent = agent

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        subject = subject_of(self.agent, truth, clock)
        latents = torch.cat(list(self.agent.encode(true_pictures(truth), truth.landmarks)))
        middle = latents.mean(dim=0, keepdim=True)
        yield from self.agent.render(subject, middle + (1 - self.grade) * (latents - middle))


class Swapped(Corrupted):
    """The person moves as at another time, as if they talked with another partner: their motion is rolled round in the clip.

    The distribution of the motion stays as it is, to the frame; only that it answers this partner, and this voice, is lost.
    """

    kind, unit, grades = "swapped partner", "seconds rolled", (0.0, 0.5, 1.0, 3.0)

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        count = truth.case.frames
        roll = round(self.grade * 25) % count
        yield from islice(self.pictures(truth), count - roll, None)
        yield from islice(self.pictures(truth), count - roll)


class Frozen(Corrupted):
    """A listener freezes: in a share of the frames in which the person does not speak, the last picture is held."""

    kind, unit, grades = "frozen listener", "share of listening that is frozen", (0.0, 0.3, 0.6, 1.0)

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        held: np.ndarray | None = None
        for picture, frozen in zip(self.pictures(truth), self._frozen(truth), strict=True):
            held = held if frozen and held is not None else picture
            yield held

    def _frozen(self, truth: Truth) -> np.ndarray:
        """Bool [T]: the first share of each stretch without own speech."""
        speaks = np.zeros(truth.case.frames, bool)
        for name in ("state=speaking", "state=both"):
            speaks |= truth.slices.get(name, np.zeros_like(speaks))
        out = np.zeros_like(speaks)
        for start, stop in _stretches(~speaks):
            out[start : start + round(self.grade * (stop - start))] = True
        return out


def _stretches(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """First frame and end of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def corrupted(agent: Agent) -> list[Corrupted]:
    """All corruptions in all their grades."""
    kinds: tuple[type[Corrupted], ...] = (Blurred, Late, Swapped, Frozen)
    out = [kind(grade, agent.size) for kind in kinds for grade in kind.grades]
    return [*out, *(Calmed(grade, agent) for grade in Calmed.grades)]


# By corruption, metrics that have to notice it, and one or two that must not (they come last).
SHOWN: Mapping[str, Sequence[str]] = {
    "blur": ("ssim", "psnr", "lpips.alex", "fid", "csim.arcface", "var.mesh.pose"),
    "shift": ("lmd.mouth_shape", "mse.mesh.expression", "sync.mouth_sync.lag", "lse-d", "ssim", "var.mesh.pose"),
    "swapped partner": (
        "rpcc.mesh.expression",
        "pfd.mesh.expression",
        "align.energy",
        "sync.mouth_sync.confidence",
        "fd.mesh.expression",
    ),
    "frozen listener": ("var.mesh.pose", "head.speed", "mouth.listening", "sid.mesh.pose.k9", "ssim"),
    "amplitude": ("var.mesh.expression", "sid.mesh.expression.k15", "head.range", "mouth.speed", "fd.mesh.expression", "ssim"),
}


def draw(told: Report, systems: Sequence[Corrupted], path: Path) -> None:
    """One row a corruption: each metric by grade, dashed the ground truth's own number. Metrics not measured are left out."""
    from matplotlib.figure import Figure

    found = {(result.system, result.metric): result for result in told.results if result.slice == ALL}
    known = {metric.name: metric for metric in told.metrics}
    kinds = {system.kind: [one for one in systems if one.kind == system.kind] for system in systems}
    shown = {kind: [name for name in SHOWN[kind] if name in known] for kind in kinds}
    columns = max(map(len, shown.values()))
    figure = Figure(figsize=(2.6 * columns, 2.3 * len(kinds)), dpi=110, layout="constrained")
    grid = figure.subplots(len(kinds), columns, squeeze=False)
    for row, (kind, graded) in zip(grid, kinds.items(), strict=True):
        for axes, metric in zip_longest(row, shown[kind]):
            if metric is None:
                axes.set_axis_off()
                continue
            points = [(one.grade, result) for one in graded if (result := found.get((one.name, metric)))]
            _curve(axes, points, found.get((GROUND_TRUTH, metric)))
            axes.set_title(f"{metric} {ARROWS[known[metric].better]}", fontsize=8)
            axes.set_xlabel(graded[0].unit, fontsize=7)
        row[0].set_ylabel(kind, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _curve(axes: Any, points: Sequence[tuple[float, Result]], truth: Result | None) -> None:
    points = [(grade, result) for grade, result in points if result.value is not None]
    grades, values = [grade for grade, _ in points], [result.value for _, result in points]
    ends = [(result.low, result.high) for _, result in points]
    axes.plot(grades, values, marker="o", markersize=3, color="C0")
    if ends and all(low is not None for low, _ in ends):
        axes.fill_between(grades, *zip(*ends, strict=True), color="C0", alpha=0.15, linewidth=0)
    if truth is not None and truth.value is not None:
        axes.axhline(truth.value, color="0.4", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.tick_params(labelsize=7)


def command(
    data: Annotated[str, typer.Option(help="build of conversations")],
    out: Annotated[Path, typer.Option(help="folder to write")],
    limit: Annotated[int, typer.Option(min=1, help="cases at most")] = 8,
) -> None:
    """Draw how each metric moves when true videos are made worse by degrees."""
    agent = Agent.load()
    job = Job(data=data, out=out, command=shlex.join(["python", "-m", "training.evaluation.corruption", *sys.argv[1:]]))
    job = replace(job, limit=limit, samples=0, draws=200)
    systems = corrupted(agent)
    told = measured(job, open_set(data, job.views), agent, systems)
    draw(told, systems, out / "corruption.png")
    raise typer.Exit(finish(job, told))


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
