"""What one evaluation is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dyconv.errors import UsageError
from training.evaluation.case import View

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Job:
    """The options of `python -m training.evaluate`, as plain values.

    Attributes:
        data: build, or BUILD@split.
        out: folder of the report, the videos and the evidence.
        command: as it was typed, for the report.
        checkpoint: folder of INFP weights, "reference" for the packaged ones, None where no INFP is measured.
        videos: folder of another system's videos, by the system's name.
        baselines: static, mirror, random-train, role-switch.
        against: a second build, for the comparison of data sets.
        train: builds that the system was trained on: for `identity=` and random-train.
        size: pixels that videos are looked at; by default the checkpoint's, or that of the first video.
        limit: cases at most, spread over the set.
        weights: files of foreign networks by name.
        coefficients: folders of 3DMM coefficients: of the truth and of the system.
        style: "own" gives the system the true face's manner of moving, "none" nothing.
        samples: side-by-side videos to write.
    """

    data: str
    out: Path
    command: str = ""
    checkpoint: str | None = None
    videos: Mapping[str, Path] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    against: str | None = None
    views: tuple[View, ...] = (View.INTERACTIVE,)
    metrics: tuple[str, ...] = ()
    features: tuple[str, ...] = ("mesh",)
    clusters: tuple[tuple[int, int], ...] = ((40, 20), (15, 9))
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    size: int | None = None
    limit: int | None = None
    every: int = 1
    seed: int = 0
    draws: int = 1000
    samples: int = 3
    style: str = "none"
    device: str | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    coefficients: tuple[Path, Path] | None = None
    cache: Path | None = None


def named(values: Sequence[str] | None, option: str) -> dict[str, Path]:
    """Paths by name of NAME=PATH.

    Raises:
        UsageError: where one is not of that form, or a name stands twice.
    """
    out: dict[str, Path] = {}
    for value in values or ():
        name, equals, path = value.partition("=")
        if not equals or not path or not _NAME.fullmatch(name):
            raise UsageError(f"expected {option} NAME=PATH, found {value!r}", hint="a name has letters, digits, - and _")
        if name in out:
            raise UsageError(f"{option} names {name} twice", hint="give each a name of its own")
        out[name] = Path(path)
    return out


def pair(value: str, option: str) -> tuple[int, int]:
    """Two numbers of "40,20".

    Raises:
        UsageError: where they are not two whole numbers from 2 on.
    """
    parts = value.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 1 for part in parts):
        raise UsageError(f"expected {option} EXPRESSION,POSE such as 40,20, found {value!r}")
    return int(parts[0]), int(parts[1])
