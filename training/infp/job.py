"""A training as it is asked for, by one process, `torchrun` or Ray Train alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from dyconv.infp.config import Stage1Config, Stage2Config
from dyconv.records import dump
from dyconv.shards.index import Index, read_index
from dyconv.store import Store, write_atomic
from training.infp.checkpoint import check_same, delete_all, newest
from training.infp.learner import Learner
from training.infp.runs import Run, read_run
from training.infp.trainer import Ended, Observer, Pace, Source, Trainer
from training.infp.world import World, join

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
    log_every: int = 20
    save_every: int = 500
    sample_every: int = 1000


def train(job: Job) -> int:
    """Train to the end, or as far as it gets; the exit status.

    Raises:
        DyconvError: for what the user can mend.
    """
    run = read_run(job.stage, job.config, steps=job.steps, batch=job.batch, seed=job.seed)
    indexes = [read_index(Store(build)) for build in job.data]
    for build in job.val:
        read_index(Store(build))
    world = join(job.device)
    try:
        trainer = prepare(job, run, world, indexes)
        ended = trainer.run()
        if world.main and ended is not Ended.INTERRUPTED:
            trainer.learner.save(Path(job.out))
        world.wait()
    finally:
        world.close()
    return EXIT_CODES[ended]


def prepare(job: Job, run: Run, world: World, indexes: Sequence[Index]) -> Trainer:
    """Everything a training needs, at its beginning or where it was left."""
    out = Path(job.out)
    data = [fingerprint(index, motion=job.stage == "stage2") for index in indexes]
    held = _held(job, run, data, out)
    world.wait()  # all have looked before one of them changes the folder
    if world.main:
        if job.resume is False:
            delete_all(out)
        write_atomic(out / "config.json", json.dumps(run.to_json(), indent=2).encode())
    encoder = encoder_of(job.data, indexes) if job.stage == "stage2" else ""
    learner = _learner(job, run, world, encoder, fresh=held is None)
    if held is not None:
        learner.load(held["learner"])
    return Trainer(
        learner,
        _source(job, run, world, encoder),
        out,
        position=held["position"] if held else 0,
        data=data,
        pace=Pace(job.log_every, job.save_every, job.minutes),
        observers=_observers(job, run, encoder),
    )


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


def _source(job: Job, run: Run, world: World, encoder: str) -> Source:
    from training.infp.data import DataPlan, stage1_batches, stage2_batches

    plan = DataPlan(batch=run.train.batch, seed=run.train.seed, rank=world.rank, world_size=world.size, workers=job.workers)
    if isinstance(run.model, Stage1Config):
        return partial(_from, stage1_batches, job.data, run.model, plan, {})
    return partial(_from, stage2_batches, job.data, run.model, plan, {"encoder_hash": encoder})


def _from(batches: Any, data: Sequence[str], config: Stage1Config | Stage2Config, plan: Any, more: Any, start: int) -> Any:
    return batches(data, config, plan, start=start, **more)


def _learner(job: Job, run: Run, world: World, encoder: str, *, fresh: bool) -> Learner:
    compiled = job.compiled if job.compiled is not None else world.device.type == "cuda" and run.preset != "debug"
    if isinstance(run.model, Stage1Config):
        from training.infp.stage1_learner import Stage1Learner, initial

        return Stage1Learner(run, world, model=initial(run, job.init) if fresh and job.init else None, compiled=compiled)
    from training.infp.stage2_learner import Stage2Learner, fitted

    return Stage2Learner(run, world, model=fitted(run, job.data, encoder, job.init, fresh=fresh), compiled=compiled)


def _observers(job: Job, run: Run, encoder: str) -> list[Observer]:
    return []
