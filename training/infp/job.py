"""A training as it is asked for, by one process, `torchrun` or Ray Train alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dyconv.errors import UsageError
from dyconv.infp.config import Stage1Config, Stage2Config
from dyconv.infp.stage1 import load_renderer
from dyconv.infp.stage2 import Window
from dyconv.records import dump
from dyconv.shards.index import Index, read_index
from dyconv.store import Store, write_atomic
from training.infp.checkpoint import check_same, delete_all, newest
from training.infp.data import Batches, DataPlan, stage1_batches, stage2_batches
from training.infp.latents import latent_size
from training.infp.learner import Learner
from training.infp.runs import Run, read_run
from training.infp.stage1_objective import Batch
from training.infp.talking import Talking
from training.infp.trainer import Ended, Observer, Pace, Source, Trainer
from training.infp.watching import Reenactment, Rows, Sheet, Windows
from training.infp.world import World, join

_MEASURED, _FITTED = 64, 128  # rows that a measure on the way is taken of, and that its probe is fitted on
EXIT_CODES = {Ended.DONE: 0, Ended.TIME: 0, Ended.INTERRUPTED: 130}


@dataclass(frozen=True)
class Job:
    """
    Attributes:
        stage, config: see `runs.read_run`.
        data, val: builds to learn from, and to be measured on.
        out: the training's folder.
        steps, batch, seed: in place of the config's.
        minutes: after which to stop, with a checkpoint and weights.
        resume: True: only go on; False: begin anew and delete the checkpoints there; None: go on where there is something.
        init: weights to begin with.
        device: "auto", "cpu" or "cuda".
        workers: processes that decode, for each process that trains.
        compiled: by torch.compile; None: on a GPU, except with the config "debug".
        renderer: weights of a Stage-1 renderer, for Stage 2's samples to be seen.
        only, without: patterns of the ids of sources to learn from, and to leave out; in place of the config's.
        cache, cache_mb: folder for copies of remote shards, and memory for decoded clips, of each process that trains.
        log_every, save_every, sample_every: steps.
    """

    stage: str
    config: str
    data: tuple[str, ...]
    out: str
    val: tuple[str, ...] = ()
    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    seed: int | None = None
    resume: bool | None = None
    init: tuple[str, ...] = ()
    device: str = "auto"
    workers: int = 0
    compiled: bool | None = None
    renderer: str | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    cache: str | None = None
    cache_mb: int = 2048
    log_every: int = 20
    save_every: int = 500
    sample_every: int = 1000


def train(job: Job) -> int:
    """Train to the end, or as far as it gets; the exit status.

    Raises:
        DyconvError: for what the user can mend.
    """
    indexes = [read_index(Store(build)) for build in job.data]
    for build in job.val:
        read_index(Store(build))
    world = join(job.device)
    try:
        trainer = prepare(job, world, indexes)
        ended = trainer.run()
        if world.main and ended is not Ended.INTERRUPTED:
            trainer.learner.save(Path(job.out))
        world.wait()
    finally:
        world.close()
    return EXIT_CODES[ended]


def prepare(job: Job, world: World, indexes: Sequence[Index]) -> Trainer:
    """Everything a training needs, at its beginning or where it was left."""
    out = Path(job.out)
    run, encoder = run_of(job, indexes)
    data = [fingerprint(index, motion=job.stage == "stage2") for index in indexes]
    held = _held(job, run, data, out)
    plan = _plan(job, run, world)
    world.wait()  # all have looked before one of them changes the folder
    if world.main:
        if job.resume is False:
            delete_all(out)
        write_atomic(out / "config.json", json.dumps(run.to_json(), indent=2).encode())
    learner = _learner(job, run, world, encoder, fresh=held is None)
    if held is not None:
        learner.load(held["learner"])
    return Trainer(
        learner,
        _source(job, run, plan, encoder, world),
        out,
        position=held["position"] if held else 0,
        data=data,
        pace=Pace(job.log_every, job.save_every, job.minutes),
        observers=_observers(job, run, plan, encoder),
    )


def run_of(job: Job, indexes: Sequence[Index]) -> tuple[Run, str]:
    """What is to be done, and of which encoder the latents are ("" in Stage 1). Stage 2 takes their length from the builds."""
    changes = {
        "steps": job.steps,
        "batch": job.batch,
        "seed": job.seed,
        "only": job.only or None,
        "without": job.without or None,
        # Weights to begin with have their footing: an encoder that went on alone would leave its renderer behind.
        "footing": 0 if job.init and job.stage == "stage1" else None,
    }
    run = read_run(job.stage, job.config, **changes)
    if not isinstance(run.model, Stage2Config):
        return run, ""
    encoder = encoder_of(job.data, indexes)
    size = latent_size(job.data, encoder)
    codes = min(run.model.codes, size)
    return replace(run, model=replace(run.model, latent=size, codes=codes)), encoder


def _held(job: Job, run: Run, data: Sequence[str], out: Path) -> dict[str, Any] | None:
    """The checkpoint to go on from.

    Raises:
        UsageError: where there is none though one is asked for, or it is of another run.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a folder to write to, found a file: {out}", hint="choose another --out")
    held = None if job.resume is False else newest(out)
    if held is None:
        if job.resume:
            raise UsageError(f"{out} holds no checkpoint to go on from", hint="leave --resume out to begin")
        return None
    check_same(held, run, data, out)
    return held


def fingerprint(index: Index, *, motion: bool) -> str:
    """Of a build's content, whichever folder it lies in."""
    shards = index.shards if motion else index.clips
    return hashlib.sha256(dump([shard.sha256 for shard in shards])).hexdigest()


def encoder_of(data: Sequence[str], indexes: Sequence[Index]) -> str:
    """Hash of the one encoder whose latents all builds hold.

    Raises:
        UsageError: where one holds none, or another's.
    """
    found = {build: index.encoder.hash if index.encoder else "" for build, index in zip(data, indexes, strict=True)}
    if "" in found.values() or len(set(found.values())) != 1:
        told = ", ".join(f"{build}: {digest[:8] or 'none'}" for build, digest in found.items())
        raise UsageError(
            f"expected motion latents of one encoder in all builds, found {told}",
            hint="encode the builds' motion with one encoder (`dyconv run` with the same recipe), and pack again",
        )
    return next(iter(found.values()))


def _plan(job: Job, run: Run, world: World) -> DataPlan:
    """Which rows this process gets."""
    own = {one.name: getattr(run.train, one.name) for one in fields(DataPlan) if hasattr(run.train, one.name)}
    return DataPlan(**own, rank=world.rank, world_size=world.size, workers=job.workers, cache=job.cache, cache_mb=job.cache_mb)


def _source(job: Job, run: Run, plan: DataPlan, encoder: str, world: World) -> Source:
    if isinstance(run.model, Stage1Config):
        return partial(_stage1_from, job.data, run.model, plan, world.device)
    return partial(_stage2_from, job.data, run.model, plan, world.device, encoder)


def _stage1_from(data: Sequence[str], config: Stage1Config, plan: DataPlan, device: torch.device, start: int) -> Batches[Batch]:
    return stage1_batches(data, config, plan, start=start, device=device)


def _stage2_from(
    data: Sequence[str], config: Stage2Config, plan: DataPlan, device: torch.device, encoder: str, start: int
) -> Batches[Window]:
    return stage2_batches(data, config, plan, encoder_hash=encoder, start=start, device=device)


def _learner(job: Job, run: Run, world: World, encoder: str, *, fresh: bool) -> Learner:
    compiled = job.compiled if job.compiled is not None else world.device.type == "cuda" and run.preset != "debug"
    if isinstance(run.model, Stage1Config):
        from training.infp.stage1_learner import Stage1Learner, initial

        return Stage1Learner(run, world, model=initial(run, job.init) if fresh and job.init else None, compiled=compiled)
    from training.infp.stage2_learner import Stage2Learner, fitted

    return Stage2Learner(run, world, model=fitted(run, job.data, encoder, job.init, fresh=fresh), compiled=compiled)


def _observers(job: Job, run: Run, plan: DataPlan, encoder: str) -> list[Observer]:
    """What is seen and measured on the way, on other people where there are some."""
    every, plan = job.sample_every, replace(plan, cache_mb=max(plan.cache_mb, 1024))
    others = replace(plan, only=(), without=())
    known = Rows(job.data, plan, _FITTED, encoder)
    unknown = Rows(job.val, others, _MEASURED, encoder) if job.val else None
    if isinstance(run.model, Stage1Config):
        sheet = Sheet(unknown or Rows(job.data, plan, 8), every)
        return [sheet, Reenactment(known, unknown, every)] if unknown else [sheet]
    renderer = load_renderer(job.renderer, encoder) if job.renderer else None
    patterns = {} if job.val else {"only": run.train.only, "without": run.train.without}
    talking = Talking(job.val or job.data, encoder, every, renderer=renderer, **patterns)
    return [talking, Windows(unknown, every)] if unknown else [talking]
