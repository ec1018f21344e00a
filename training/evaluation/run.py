"""One evaluation from its options to its report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import dyconv
from dyconv.errors import DyconvError, ModelMissing, UsageError
from training.evaluation import foreign, report, samples
from training.evaluation.baselines import NAMES, make_baseline
from training.evaluation.case import Case
from training.evaluation.catalogue import Catalogue, catalogue
from training.evaluation.distributions import distributions
from training.evaluation.engine import Engine
from training.evaluation.job import Job
from training.evaluation.metric import Choice
from training.evaluation.results import (
    GROUND_TRUTH,
    About,
    DataSet,
    Described,
    Difference,
    Report,
    SampleVideo,
    SystemInfo,
)
from training.evaluation.sets import CaseSet, open_set
from training.evaluation.spent import Spent
from training.evaluation.systems import Checkpoint, Folder, System
from training.evaluation.tally import Tally, differences
from training.evaluation.telling import Telling
from training.evaluation.videos import open_video

if TYPE_CHECKING:
    from dyconv.infp.agent import Agent

REFERENCE = "reference"
OURS = "ours"
PARTLY = 3  # exit status where some cases could not be measured


@dataclass(frozen=True)
class Means:
    """What an evaluation works with."""

    cases: CaseSet
    chosen: list[Case]
    agent: Agent | None
    systems: list[System]
    device: torch.device
    size: int


def evaluate(job: Job) -> int:
    """Make and measure what a job asks for, and write its report.

    Returns:
        Exit status: 0, or 3 where some cases could not be measured (the report names them).

    Raises:
        UsageError: where the options do not fit, or nothing can be measured.
    """
    cases = open_set(job.data, job.views, only=job.only, without=job.without, train=job.train, cache=job.cache)
    agent = agent_of(job)
    return finish(job, measured(job, cases, agent, _systems(job, cases, agent)))


def measured(job: Job, cases: CaseSet, agent: Agent | None, systems: Sequence[System]) -> Report:
    """Measure systems on a set; the report is not written yet."""
    telling = Telling()
    device = device_of(job) if agent is None else agent.device
    spent = Spent(device)
    found = catalogue(choice_of(job, agent, device), job.metrics)
    chosen = spread(cases.cases, job.limit)
    for system in systems:
        if isinstance(system, Folder):
            system.missing(chosen)  # all of them: the folder has another layout, and nothing else is worth beginning
    means = Means(cases, chosen, agent, list(systems), device, _size(job, agent, systems, chosen))
    engine = Engine(cases, chosen, systems, found, job.out, size=means.size, device=device, spent=spent)
    telling.line(f"{len(chosen)} cases of {cases.about['sources']} sources, {len(found.metrics)} metrics")
    engine.measure(telling)
    engine.fit(engine.truths)
    tallies = engine.tallies(telling)
    written = _samples(job, engine)
    with spent("intervals"):
        results = tuple(one for tally in tallies.values() for one in tally.estimates(job.draws, job.seed))
        compared = tuple(_differences(job, tallies))
    return Report(
        about=_about(job, means),
        metrics=described(found),
        results=results,
        differences=compared,
        unavailable=found.unavailable,
        problems=tuple(engine.problems),
        profile=spent.profile(),
        samples=written,
        distributions=distributions({name: tally.spread for name, tally in tallies.items()}),
    )


def finish(job: Job, told: Report) -> int:
    """Write a report and say where it is; the exit status."""
    report.write(told, job.out)
    telling = Telling()
    for problem in told.problems[:10]:
        telling.line(f"{problem.system}: {problem.message}")
    if told.problems:
        telling.line(f"{len(told.problems)} problems in all: see {job.out / 'report.md'}")
    telling.line(f"report: {job.out / 'report.html'}")
    return PARTLY if told.problems else 0


def described(found: Catalogue) -> tuple[Described, ...]:
    """The metrics, as the report tells of them."""
    return tuple(Described(one.name, one.better, one.unit, one.about, found.groups[one.name]) for one in found.metrics)


def agent_of(job: Job) -> Agent | None:
    """The weights that are measured; the packaged ones where only baselines or `infp` features need some."""
    from dyconv.infp.agent import Agent

    if job.checkpoint is None and not job.baselines and "infp" not in job.features:
        return None
    weights = None if job.checkpoint in (None, REFERENCE) else job.checkpoint
    return Agent.load(weights, device=job.device)


def device_of(job: Job) -> torch.device:
    """
    Raises:
        UsageError: where the job names a device that is not there.
    """
    from dyconv.infp.agent import device_named

    return device_named(job.device)


def _systems(job: Job, cases: CaseSet, agent: Agent | None) -> list[System]:
    """
    Raises:
        UsageError: where a folder has the name of something else.
    """
    systems: list[System] = [Folder(folder, name=name) for name, folder in job.videos.items()]
    if agent is not None:
        if job.checkpoint is not None:
            systems.insert(0, Checkpoint(agent, name=OURS, style=job.style, seed=job.seed))
        systems += [make_baseline(name, agent, cases, job.train, job.seed, cache=job.cache) for name in job.baselines]
    reserved = {GROUND_TRUTH, OURS, *NAMES}
    if taken := reserved & set(job.videos):
        raise UsageError(f"--videos: {taken.pop()} is the name of another row", hint="give NAME=FOLDER another name")
    return systems


def _size(job: Job, agent: Agent | None, systems: Sequence[System], chosen: Sequence[Case]) -> int:
    """--size, or the agent's, or the side of the first readable video of somebody else's system."""
    if job.size or agent:
        return job.size or (agent.size if agent else 0)
    for system in systems:
        files = [(system.find(case), case.frames) for case in chosen] if isinstance(system, Folder) else []
        for file, frames in files:
            with suppress(DyconvError):
                if file is not None:
                    return open_video(file, frames=frames, where=str(file)).size
    raise UsageError(
        "nothing says at which size videos are compared",
        hint="give --checkpoint, --videos with at least one video that can be read, or --size",
    )


def choice_of(job: Job, agent: Agent | None, device: torch.device) -> Choice:
    """
    Raises:
        UsageError: for weights of a network that there is not.
    """
    for name in job.weights:
        foreign.pinned(name)
    return Choice(
        device=device,
        features=job.features,
        stage1=None if agent is None else agent.stage1,
        coefficients=job.coefficients,
        clusters=job.clusters,
        weights=job.weights,
        every=job.every,
    )


def spread(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """All cases, or `limit` of them evenly spread, in order."""
    if limit is None or limit >= len(cases):
        return list(cases)
    return [cases[len(cases) * number // limit] for number in range(limit)]


def _differences(job: Job, tallies: dict[str, Tally]) -> list[Difference]:
    """What is measured, less each baseline."""
    others = [name for name in job.baselines if name in tallies]
    ours = [name for name in tallies if name != GROUND_TRUTH and name not in others]
    return [one for mine in ours for its in others for one in differences(tallies[mine], tallies[its], job.draws, job.seed)]


def _samples(job: Job, engine: Engine) -> tuple[SampleVideo, ...]:
    """Side-by-side videos of a few cases that every system has made."""
    whole = [case for case in engine.measured(GROUND_TRUTH) if all(engine.video(one.name, case) for one in engine.systems)]
    out = []
    for case in spread(whole, job.samples) if engine.systems else []:
        truth = engine.set.truth(case)
        columns: list[tuple[str, bytes | Path]] = [(GROUND_TRUTH, truth.video)]
        columns += [(one.name, video) for one in engine.systems if (video := engine.video(one.name, case)) is not None]
        path = job.out / "samples" / f"{case.view}.{case.name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with engine.spent("side by side"):
            samples.side_by_side(columns, path, frames=case.frames, sound=(truth.own, truth.partner))
        name = str(path.relative_to(job.out))
        out.append(SampleVideo(name, case.name, case.view, tuple(label for label, _ in columns), "own voice, partner's voice"))
    return tuple(out)


def _about(job: Job, means: Means) -> About:
    told = dict(means.cases.about)
    name, version = str(told.pop("name")), str(told.pop("version"))
    return About(
        command=job.command,
        dyconv=dyconv.__version__,
        torch=torch.__version__,
        device=str(means.device),
        seed=job.seed,
        data=(DataSet(name, version, told),),
        systems=tuple(SystemInfo(one.name, one.version) for one in means.systems),
        views=tuple(job.views),
        features=job.features,
        clusters=job.clusters,
        weights=_weights(job, means),
        more={"size": f"{means.size} px", "cases": len(means.chosen), "every": job.every, "style": job.style},
    )


def _weights(job: Job, means: Means) -> dict[str, str]:
    """Foreign networks that are there."""
    out, choice = {}, choice_of(job, means.agent, means.device)
    for name in foreign.MODELS:
        try:
            foreign.find(name, choice)
        except ModelMissing:
            continue
        out[name] = str(foreign.pinned(name).sha256)
    return out
