"""Train INFP: `python -m training.train stage1|stage2 --config debug|tiny|base --data BUILD --out DIR`.

Several processes: `torchrun --nproc-per-node 2 -m training.train ...`. Several machines with Ray: `pipelines/train.py`.
"""

from __future__ import annotations

import logging

import typer

from dyconv.cli import run_alone
from training.infp import options


def command(
    stage: options.StageArg,
    data: options.Data,
    out: options.Out,
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
    """Train a stage of INFP from shards.

    The same command goes on where it stopped. DIR gets weights, checkpoints, log.jsonl, TensorBoard files and samples.
    Exit status: 0 done or out of --minutes, 130 interrupted (a checkpoint is left), 2 wrong usage, 1 other errors.
    """
    asked = dict(locals())
    from training.infp.job import train

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    raise typer.Exit(train(options.job_of(**asked)))


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
