"""Trainings by Ray Train: the processes are Ray's, everything else is as with one process or `torchrun`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dyconv.errors import DyconvError, ResourceError, UsageError
from dyconv.ray_runner import connect
from dyconv.shards.index import read_index
from dyconv.store import Store
from training.infp.checkpoint import delete_all
from training.infp.job import Job, run_of, train

_PATIENCE_S = 3600  # others wait as long while one of them validates or writes


def train_on_ray(job: Job, processes: int, cpus: float = 1.0) -> int:
    """Train with so many processes on the cluster this one belongs to, or on a local Ray; the exit status.

    Raises:
        DyconvError: for what the user can mend: most of it before Ray starts.
    """
    run_of(job, [read_index(Store(build)) for build in job.data])
    out = Path(job.out).absolute()
    if out.exists() and not out.is_dir():
        raise UsageError(f"expected a folder to write to, found a file: {out}", hint="choose another --out")
    if job.resume is False:
        delete_all(out)
        job = replace(job, resume=None)
    started = connect(logs=True)
    try:
        return _fit(replace(job, out=str(out)), processes, cpus, use_gpu=_gpus(job.device, processes, cpus))
    finally:
        if started:
            import ray

            ray.shutdown()


def _gpus(device: str, processes: int, cpus: float) -> bool:
    """Whether each process gets a GPU.

    Raises:
        ResourceError: where the cluster can never start all processes.
    """
    import ray

    has = ray.cluster_resources()
    gpus = has.get("GPU", 0.0)
    if device == "cuda" and gpus < processes:
        raise ResourceError(f"{processes} processes want a GPU each, the cluster has {gpus:g}", hint="lower --processes")
    if has.get("CPU", 0.0) < processes * cpus:
        raise ResourceError(
            f"{processes} processes want {processes * cpus:g} CPUs, the cluster has {has.get('CPU', 0.0):g}",
            hint="lower --processes or --cpus",
        )
    return device != "cpu" and gpus >= processes


def _fit(job: Job, processes: int, cpus: float, *, use_gpu: bool) -> int:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    trainer = TorchTrainer(
        _worker,
        train_loop_config=asdict(job),
        torch_config=TorchConfig(timeout_s=_PATIENCE_S),
        scaling_config=ScalingConfig(
            num_workers=processes, use_gpu=use_gpu, resources_per_worker={"CPU": cpus, **({"GPU": 1} if use_gpu else {})}
        ),
        run_config=RunConfig(name="ray", storage_path=job.out),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _told(error) from error
    return 0


def _worker(told: dict[str, Any]) -> None:
    train(Job(**told))


def _told(error: Any) -> DyconvError:
    """The error a worker met, where it is one of ours."""
    causes = [getattr(failure, "_base_exc", failure) for failure in error.worker_failures.values()]
    for cause in causes:
        if isinstance(cause, DyconvError):
            return cause
    return DyconvError(f"the training failed: {causes[0] if causes else error}", hint="Ray's own report is above")
