"""The Ray job: a recipe over a manifest into an output folder. The same as `dyconv run`.

    ray job submit --working-dir . -- python pipelines/build.py --recipe demo --manifest M --out /shared/out

Submitted as a job it uses the cluster it was submitted to; started by hand it starts a local Ray.
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
from dyconv.cli.run import (
    Backend,
    Limit,
    LogFormat,
    LogLevel,
    Manifest,
    Memory,
    MetricsHost,
    MetricsPort,
    NoPack,
    Out,
    RetryFailed,
    Takedowns,
    Wait,
    Workers,
    run,
)


def command(
    recipe: Annotated[str, typer.Option(help="a recipe's name or the path of a .py file")],
    manifest: Manifest,
    out: Out,
    backend: Backend = "ray",
    limit: Limit = None,
    retry_failed: RetryFailed = False,
    workers: Workers = None,
    no_pack: NoPack = False,
    tombstones: Takedowns = None,
    worker_memory: Memory = None,
    wait: Wait = 0.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
    log_level: LogLevel = "warning",
) -> None:
    """Bring every source of a manifest to a named end, and write what is kept as shards (see `dyconv run --help`)."""
    seen = (metrics_port, metrics_host, log_format, log_level)
    run(recipe, manifest, out, backend, limit, retry_failed, workers, no_pack, tombstones, worker_memory, wait, *seen)


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
