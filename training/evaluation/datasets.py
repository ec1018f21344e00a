"""Two data sets beside each other: `python -m training.evaluate --data A --against B`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch

import dyconv
from training.evaluation.bootstrap import total
from training.evaluation.case import ALL, View
from training.evaluation.catalogue import DATASET, Catalogue, catalogue
from training.evaluation.distributions import distributions
from training.evaluation.engine import Engine
from training.evaluation.evidence import Evidence
from training.evaluation.job import Job
from training.evaluation.metric import Metric, Sums
from training.evaluation.results import GROUND_TRUTH, About, DataSet, Report, Result, number
from training.evaluation.run import agent_of, choice_of, described, device_of, finish, spread
from training.evaluation.sets import CaseSet, open_set
from training.evaluation.spent import Spent
from training.evaluation.tally import Tally
from training.evaluation.telling import Telling
from training.evaluation.versus import unpaired
from training.evaluation.videos import open_video

_MADE, _TRUTH = "made_", "truth_"  # in the names of a Frechet distance's sums


def compare(job: Job) -> int:
    """Measure two sets alike, and say in what they differ.

    What is fitted (SID's clusters) is fitted on both together. The Frechet distances are between the two sets' motion.

    Returns:
        Exit status, as of `training.evaluation.run.evaluate`.
    """
    telling, agent = Telling(), agent_of(job)
    device = device_of(job) if agent is None else agent.device
    spent = Spent(device)
    sets = [_opened(job, data) for data in (job.data, str(job.against))]
    names = _names(sets)
    size = job.size or _size(sets[0])
    engines = []
    for name, cases in zip(names, sets, strict=True):
        found = catalogue(
            choice_of(job, agent, device), job.metrics, DATASET
        )  # metrics are fitted: each set has its own objects
        chosen = spread(cases.cases, job.limit)
        folder = job.out / str(cases.about["version"])[:16]
        engines.append(Engine(cases, chosen, [], found, folder, size=size, device=device, spent=spent))
        telling.line(f"{name}: {len(chosen)} people of {cases.about['sources']} sources")
        engines[-1].measure(telling)
    for engine in engines:
        engine.fit(lambda: _both(engines))
    tallies = [engine.tallies(telling)[GROUND_TRUTH] for engine in engines]
    for name, tally in zip(names, tallies, strict=True):
        tally.system = name
    alone = {metric.name for metric in engines[0].catalogue.metrics if _alone(metric, engines[0].catalogue)}
    with spent("intervals"):
        results = [one for tally in tallies for one in tally.estimates(job.draws, job.seed) if one.metric in alone]
        results += list(_between(tallies[0], tallies[1]))
        found_apart = [one for one in unpaired(tallies[0], tallies[1], job.draws, job.seed) if one.metric in alone]
    shown = {result.metric for result in results}
    return finish(
        job,
        Report(
            about=_about(job, sets, names, size, device),
            metrics=tuple(one for one in described(engines[0].catalogue) if one.name in shown),
            results=tuple(results),
            differences=tuple(found_apart),
            unavailable=engines[0].catalogue.unavailable,
            problems=tuple(problem for engine in engines for problem in engine.problems),
            profile=spent.profile(),
            distributions=distributions({tally.system: tally.spread for tally in tallies}),
        ),
    )


def _opened(job: Job, data: str) -> CaseSet:
    return open_set(data, (View.DATA,), only=job.only, without=job.without, cache=job.cache)


def _names(sets: list[CaseSet]) -> list[str]:
    """Names of the sets, told apart where they are the same."""
    names = [str(one.about["name"]) for one in sets]
    return names if len(set(names)) == len(names) else [f"{name} ({letter})" for name, letter in zip(names, "AB", strict=True)]


def _size(cases: CaseSet) -> int:
    """Side of the first set's pictures: both are looked at at one size, as sharpness depends on it."""
    case = cases.cases[0]
    return open_video(cases.truth(case).video, frames=case.frames, where=case.name).size


def _both(engines: list[Engine]) -> Iterator[Evidence]:
    return chain.from_iterable(engine.truths() for engine in engines)


def _alone(metric: Metric, found: Catalogue) -> bool:
    """Whether a metric tells of a set alone; others compare a made video with the truth."""
    return metric.better == "truth" or found.groups[metric.name] != "motion"


def _between(one: Tally, other: Tally) -> Iterator[Result]:
    """Frechet distances between the motion of two sets, from the sums of both."""
    for (view, place, name), parts in sorted(one.parts.items()):
        theirs = other.parts.get((view, place, name))
        if place == ALL and theirs is not None and name.startswith("fd.") and not name.endswith(".clip"):
            mine, its = (total([part.sums for part in group.values()]) for group in (parts, theirs))
            sums: Sums = {**_only(mine, _TRUTH), **{key.replace(_TRUTH, _MADE): its[key] for key in _only(its, _TRUTH)}}
            value, word = number(one.metrics[name].value(sums))
            units = min(len(group) for group in (parts, theirs))
            how = "no interval: a distance between two sets"
            yield Result(f"{one.system} to {other.system}", view, place, name, value, word=word, interval=how, units=units)


def _only(sums: Sums, prefix: str) -> Sums:
    return {name: array for name, array in sums.items() if name.startswith(prefix)}


def _about(job: Job, sets: list[CaseSet], names: list[str], size: int, device: torch.device) -> About:
    return About(
        command=job.command,
        dyconv=dyconv.__version__,
        torch=torch.__version__,
        device=str(device),
        seed=job.seed,
        data=tuple(DataSet(name, str(one.about["version"]), _told(one)) for name, one in zip(names, sets, strict=True)),
        systems=(),
        views=(View.DATA,),
        features=job.features,
        clusters=job.clusters,
        more={"size": f"{size} px"},
    )


def _told(cases: CaseSet) -> dict[str, object]:
    return {name: value for name, value in cases.about.items() if name not in ("name", "version")}
