"""Measure INFP, or what any other system made, against real conversations; or compare two data sets.

python -m training.evaluate --checkpoint reference --data BUILD[@split] --out DIR [--baseline static] [--view interactive]
python -m training.evaluate --videos NAME=FOLDER --data BUILD --out DIR
python -m training.evaluate --data A --against B --out DIR
"""

from __future__ import annotations

import logging
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dyconv.cli import run_alone


class Baseline(StrEnum):
    STATIC = "static"
    MIRROR = "mirror"
    RANDOM_TRAIN = "random-train"
    ROLE_SWITCH = "role-switch"


class Looked(StrEnum):
    INTERACTIVE = "interactive"
    TALKING = "talking"
    LISTENING = "listening"
    VIDEO = "video"


class Style(StrEnum):
    NONE = "none"
    OWN = "own"


_Data = Annotated[str, typer.Option(help="folder or URI of a build, or BUILD@split of a release")]
_Out = Annotated[Path, typer.Option(help="folder of the report, the videos and the evidence; gone on with if it is there")]
_Against = Annotated[str | None, typer.Option(help="a second build: the two data sets are compared, nothing is generated")]
_Train = Annotated[list[str] | None, typer.Option(help="build that the system was trained on; may be given again")]
_Features = Annotated[list[str] | None, typer.Option(help="how motion is told: mesh, infp, files; may be given again")]
_Clusters = Annotated[list[str] | None, typer.Option(help="K of SID, EXPRESSION,POSE; default: 40,20 and 15,9")]
_Coefficients = Annotated[
    tuple[Path, Path] | None, typer.Option(help="for --features files: folders of the truth's and the system's coefficients")
]


def command(
    data: _Data,
    out: _Out,
    checkpoint: Annotated[str | None, typer.Option(help="folder of INFP weights; `reference`: the packaged ones")] = None,
    videos: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER of another system's videos; may be given again")] = None,
    baseline: Annotated[list[Baseline] | None, typer.Option(help="measured as well; may be given again")] = None,
    against: _Against = None,
    view: Annotated[list[Looked] | None, typer.Option(help="default: interactive; may be given again")] = None,
    metrics: Annotated[list[str] | None, typer.Option(help="name or pattern (fd.*); may be given again; default: all")] = None,
    features: _Features = None,
    clusters: _Clusters = None,
    coefficients: _Coefficients = None,
    train: _Train = None,
    only: Annotated[list[str] | None, typer.Option(help="pattern of source ids to measure on; may be given again")] = None,
    without: Annotated[list[str] | None, typer.Option(help="pattern of source ids to leave out; may be given again")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="cases at most, spread over the set")] = None,
    size: Annotated[int | None, typer.Option(min=32, help="pixels that videos are looked at; default: as made")] = None,
    every: Annotated[int, typer.Option(min=1, help="each n-th frame goes to the large networks (FID, CSIM)")] = 1,
    style: Annotated[Style, typer.Option(help="own: give the system frames of the true face as its style")] = Style.NONE,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=FILE of a foreign network; may be given again")] = None,
    samples: Annotated[int, typer.Option(min=0, help="side-by-side videos to write")] = 3,
    draws: Annotated[int, typer.Option(min=1, help="of the bootstrap")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of generation, baselines and draws")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is one")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder for copies of remote shards; else a temporary one")] = None,
) -> None:
    """Write OUT/report.html, report.md and report.json: metrics of a system, of baselines and of the ground truth.

    The same command goes on where it stopped. Exit status: 0 all was measured, 3 a report was written but some cases could
    not be measured (it names them), 130 interrupted, 2 wrong usage, 1 other errors.
    """
    from training.evaluation.case import View
    from training.evaluation.job import Job, named, pair

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    job = Job(
        data=data,
        out=out,
        command=shlex.join(["python", "-m", "training.evaluate", *sys.argv[1:]]),
        checkpoint=checkpoint,
        videos=named(videos, "--videos"),
        baselines=tuple(str(one) for one in dict.fromkeys(baseline or ())),
        against=against,
        views=tuple(View(one) for one in dict.fromkeys(view or (Looked.INTERACTIVE,))),
        metrics=tuple(metrics or ()),
        features=tuple(dict.fromkeys(features or ("mesh",))),
        clusters=tuple(pair(one, "--clusters") for one in clusters or ("40,20", "15,9")),
        coefficients=coefficients,
        train=tuple(train or ()),
        only=tuple(only or ()),
        without=tuple(without or ()),
        limit=limit,
        size=size,
        every=every,
        style=str(style),
        weights=named(weights, "--weights"),
        samples=samples,
        draws=draws,
        seed=seed,
        device=device,
        cache=cache,
    )
    if job.against is not None:
        from training.evaluation.datasets import compare

        raise typer.Exit(compare(job))
    from training.evaluation.run import evaluate

    raise typer.Exit(evaluate(job))


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
