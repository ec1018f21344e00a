"""Runs an evaluation: videos are made, evidence is read, sums are added up, the report is written.

Everything that was finished is kept on disk, so that the same command goes on where it was stopped, and another metric or
baseline costs only what it adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dyconv.errors import DyconvError, UsageError
from training.evaluation.case import Case, Truth
from training.evaluation.catalogue import Catalogue
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Replay
from training.evaluation.notes import told
from training.evaluation.reader import Reader
from training.evaluation.results import GROUND_TRUTH, Problem
from training.evaluation.sets import CaseSet
from training.evaluation.spent import Spent
from training.evaluation.systems import System
from training.evaluation.tally import Tally
from training.evaluation.telling import Telling

MAKING = "making videos"


class Engine:
    """One set, and systems that are measured on it.

    Args:
        out: folder for videos and evidence.
        cases: of the set that are measured, in the set's order.

    Attributes:
        problems: what could not be made or measured so far.
    """

    def __init__(
        self,
        cases: CaseSet,
        chosen: Sequence[Case],
        systems: Sequence[System],
        catalogue: Catalogue,
        out: Path,
        *,
        size: int,
        device: torch.device,
        spent: Spent,
    ) -> None:
        self.set, self.cases, self.systems, self.catalogue, self.out = cases, list(chosen), list(systems), catalogue, out
        self.spent = spent
        self.problems: list[Problem] = []
        self.reader = Reader(
            out / "evidence",
            size,
            catalogue.extractors,
            catalogue.comparisons,
            set_key=str(cases.about["version"]),
            device=device,
            spent=spent,
        )
        self._videos: dict[tuple[str, Case], Path] = {}
        self._true: list[Case] = []

    def measure(self, telling: Telling) -> None:
        """Make what is not made and read what is not read, case by case. A case that fails is told of, and the others go on."""
        for case in telling.each(self.cases, "measuring"):
            try:
                with self.spent("reading the set"):
                    truth = self.set.truth(case)
                self.reader.read_truth(truth)
            except DyconvError as error:
                self._problem(error, case, GROUND_TRUTH)
                continue
            self._true.append(case)
            for system in self.systems:
                self._measure(system, truth)

    def _measure(self, system: System, truth: Truth) -> None:
        case = truth.case
        try:
            with self.spent(MAKING):
                video = system.make(truth, self.video_path(system.name, case))
            self.reader.read_made(truth, system.name, video)
        except DyconvError as error:
            self._problem(error, case, system.name)
            return
        self._videos[system.name, case] = video

    def fit(self, truths: Replay) -> None:
        """Fit what metrics fit on the ground truth (SID's clusters).

        Raises:
            UsageError: where not a single case could be read.
        """
        if not self._true:
            first = self.problems[0]
            raise UsageError(f"none of the {len(self.cases)} cases could be read: {first.message}", hint=first.hint)
        with self.spent("fitting"):
            for metric in self.catalogue.metrics:
                metric.prepare(truths)

    def tallies(self, telling: Telling) -> dict[str, Tally]:
        """Sums of all that was measured, the ground truth first, by system. Metrics have to be fitted before."""
        units = {case.unit for case in self._true}
        out = {}
        for name in (GROUND_TRUTH, *(system.name for system in self.systems)):
            out[name] = Tally(self.catalogue.metrics, name, units=units)
            for case in telling.each(self.measured(name), f"adding up {name}"):
                with self.spent("adding up"):
                    self.problems += out[name].add(self.evidence(name, case))
        return out

    def truths(self) -> Iterator[Evidence]:
        """The ground truth, each person once whatever the views."""
        seen: set[str] = set()
        for case in self._true:
            if case.name not in seen:
                seen.add(case.name)
                yield self.evidence(GROUND_TRUTH, case)

    def measured(self, system: str) -> list[Case]:
        """Cases of which a system's video was read."""
        return [case for case in self._true if system == GROUND_TRUTH or (system, case) in self._videos]

    def evidence(self, system: str, case: Case) -> Evidence:
        """Everything read of a case of `measured`."""
        if system == GROUND_TRUTH:
            return self.reader.evidence(case, None)
        return self.reader.evidence(case, system, told(self._videos[system, case]))

    def video(self, system: str, case: Case) -> Path | None:
        """A system's video of a case, None where there is none."""
        return self._videos.get((system, case))

    def video_path(self, system: str, case: Case) -> Path:
        """Where a system may write its video of a case."""
        return self.out / "videos" / system / case.view / f"{case.name}.mp4"

    def _problem(self, error: DyconvError, case: Case, system: str) -> None:
        self.problems.append(Problem(error.message, error.hint or "", case.name, system, case.view))
