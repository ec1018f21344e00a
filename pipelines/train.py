"""INFP trained by Ray Train: the same as `python -m training.train`, on as many machines as the cluster has.

    ray job submit --working-dir . -- python pipelines/train.py stage1 --config base --processes 8 \\
        --data s3://bucket/build --out /shared/runs/stage1

Data and OUT must be reachable from all machines. Submitted as a job it uses the cluster it was submitted to; started by hand
it starts a local Ray. The same global batch gives the same loss, whatever the number of processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":
    # Python puts this folder first on the path, and the recipe dyconv.py in it would hide the package of that name.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import typer

from dyconv.cli import run_alone
from training.infp import options

Processes = Annotated[int, typer.Option(min=1, help="that train together; with GPUs one each")]
Cpus = Annotated[float, typer.Option(min=0.1, help="CPUs that Ray reserves for each of them")]


def command(
    stage: options.StageArg,
    data: options.Data,
    out: options.Out,
    processes: Processes = 1,
    cpus: Cpus = 1.0,
    config: options.Config = "tiny",
    val: options.Val = None,
    steps: options.Steps = None,
    minutes: options.Minutes = None,
    batch: options.Batch = None,
    seed: options.Seed = None,
    only: options.Only = None,
    without: options.Without = None,
    resume: options.Resume = None,
    init: options.Init = None,
    device: options.DeviceOpt = options.Device.AUTO,
    workers: options.Workers = 0,
    cache: options.Cache = None,
    cache_mb: options.CacheMb = 2048,
    compiled: options.Compile = None,
    renderer: options.Renderer = None,
    log_every: options.LogEvery = 20,
    save_every: options.SaveEvery = 500,
    sample_every: options.SampleEvery = 1000,
) -> None:
    """Train a stage of INFP from shards with Ray Train (see `python -m training.train --help`).

    Exit status: 0 done or out of --minutes, 2 wrong usage, 1 other errors.
    """
    asked = {name: value for name, value in locals().items() if name not in ("processes", "cpus")}
    from training.infp.on_ray import train_on_ray

    raise typer.Exit(train_on_ray(options.job_of(**asked), processes, cpus))


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
