"""A metric: sums of a case that add up over cases, and a number made of sums.

That is all the report needs: slices and bootstrap draws are other sums of the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from training.evaluation.evidence import Comparison, Evidence, Extractor
from training.evaluation.results import Unavailable

if TYPE_CHECKING:
    from dyconv.infp.stage1 import Stage1

Sums = Mapping[str, np.ndarray]  # float64 arrays that are added up
Replay = Callable[[], Iterator[Evidence]]  # all cases of the ground truth, any number of times


class Metric(Protocol):
    """
    Attributes:
        name: with everything that numbers must agree on to be compared: `ssim`, `fd.mesh.expression`, `sid.mesh.pose.k20`.
        better: `higher`, `lower`, or `truth` where the ground truth's own number is the aim.
        unit: of the number, "" for none.
        about: what it is and where it comes from, in one sentence.
        needs: names of the extractors and comparisons whose arrays it reads.
        heavy: sums are megabytes: they are kept for few groups of units only.

    A metric may also have `limits`, the least and the largest number it can be: no interval goes beyond them; and `values`, see
    `FrameMean.values`.
    """

    name: str
    better: str
    unit: str
    about: str
    needs: frozenset[str]
    heavy: bool

    def prepare(self, truths: Replay) -> None:
        """What has to be fitted on the ground truth before (SID's clusters); the same for every system."""
        ...

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        """Of the frames in a mask, bool [T]; None where the case has nothing to measure (no frame, no partner, no voice)."""
        ...

    def value(self, sums: Sums) -> float:
        """Of added sums; NaN where they do not suffice."""
        ...


@dataclass(frozen=True)
class Choice:
    """What a family of metrics is made for.

    Attributes:
        device: of networks.
        features: `mesh`, `infp`, `files`: how expression and pose are told.
        stage1: whose encoder makes `infp` features.
        coefficients: folders of 3DMM coefficients for `files`: of the ground truth, and of the system.
        clusters: (expression, pose) numbers K of SID.
        weights: files of foreign networks by name, in place of the model cache.
        every: each n-th frame goes to the networks of FID and CSIM.
    """

    device: torch.device
    features: tuple[str, ...] = ("mesh",)
    stage1: Stage1 | None = None
    coefficients: tuple[Path, Path] | None = None
    clusters: tuple[tuple[int, int], ...] = ((40, 20), (15, 9))
    weights: Mapping[str, Path] | None = None
    every: int = 1


@dataclass(frozen=True)
class Family:
    """Metrics that belong together, and what reads their evidence."""

    metrics: tuple[Metric, ...]
    extractors: tuple[Extractor, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()


class FrameMean:
    """The mean over frames of the comparison of the same name: what most picture metrics are."""

    heavy = False

    def __init__(self, name: str, *, better: str, unit: str = "", about: str, needs: frozenset[str] | None = None) -> None:
        self.name, self.better, self.unit, self.about = name, better, unit, about
        self.needs = needs if needs is not None else frozenset({name})

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        values = evidence.frames[self.name][mask].astype(np.float64)
        values = values[~np.isnan(values)]
        return {"sum": np.asarray(values.sum()), "count": np.asarray(float(len(values)))} if len(values) else None

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["count"]) if sums["count"] else float("nan")

    def values(self, sums: Sums) -> np.ndarray:
        """`value` of many sums at once, float64 [n]: a metric may have this beside `value`, for bootstrap draws."""
        known = sums["count"] != 0
        return np.where(known, sums["sum"] / np.where(known, sums["count"], 1.0), np.nan)
