"""`dyconv run`: the whole chain over a manifest."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dyconv.runner import RunOptions

RecipeArg = Annotated[str, typer.Argument(help="recipe (demo, dyconv, research, apart, heads, cuts) or the path of a .py file")]
Manifest = Annotated[Path, typer.Option(help="CSV or JSONL of sources, see manifests/README.md")]
Out = Annotated[str, typer.Option(help="output folder or URI; made if missing, resumed if not")]
Backend = Annotated[str, typer.Option(help="ray (starts a local one where there is no cluster) or local")]
Limit = Annotated[int | None, typer.Option(help="only the first N rows, as if the manifest had no more")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="try again what failed in earlier runs")]
Workers = Annotated[
    int | None, typer.Option(help="local: worker processes (0: none, for debugging); ray: most actors in a pool")
]
NoPack = Annotated[bool, typer.Option("--no-pack", help="leave out writing the shards at the end")]
Takedowns = Annotated[
    list[Path] | None,
    typer.Option(
        "--tombstones", help="takedowns of a release: its folder or tombstones.json; one beside the manifest holds too"
    ),
]

Memory = Annotated[
    float | None, typer.Option("--worker-memory", help="GiB above which a worker is killed (its clip is tried again)")
]
Wait = Annotated[float, typer.Option(help="ray: seconds that the cluster has to bring the nodes that the stages need")]
MetricsPort = Annotated[int | None, typer.Option(help="serve metrics for Prometheus on this port (0: any free one)")]
MetricsHost = Annotated[str, typer.Option(help="address to serve metrics on; others than this machine may read them then")]
LogFormat = Annotated[str, typer.Option(help="of stderr: text, or json (one record a line)")]
LogLevel = Annotated[str, typer.Option(help="of stderr: debug, info, warning, error; OUT/logs has info and above")]


def run(
    recipe: RecipeArg,
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
    """Bring every source of a manifest to a named end, and write what is kept as shards.

    Interrupted or killed, the same command goes on where it stopped.
    Exit status: 0 done (clips are kept, or everything was dropped for a reason), 3 clips are kept but something failed,
    1 nothing but failures and drops, or stopped early, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    from dyconv.logs import LogOptions
    from dyconv.runner import RunOptions

    logs = LogOptions(log_format, log_level.lower())
    metrics = None if metrics_port is None else (metrics_host, metrics_port)
    memory = None if worker_memory is None else int(worker_memory * 2**30)
    taken_down = tuple(tombstones or ())
    options = RunOptions(
        backend, workers, limit, retry_failed, not no_pack, taken_down, memory, wait, logs=logs, metrics=metrics
    )
    raise typer.Exit(run_job(recipe, manifest, out, options))


def run_job(recipe: str, manifest: Path, out: str, options: RunOptions) -> int:
    """Load the recipe, run it, and return the exit status."""
    from rich.console import Console

    from dyconv import recipes
    from dyconv.runner import run as run_recipe

    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # what is ignored in the background stays so
        signal.signal(signal.SIGINT, _interrupted)
    loaded = recipes.load(recipe)
    file = str(Path(recipe).absolute()) if recipes.is_file(recipe) else None
    width = None if sys.stderr.isatty() else 140  # a log's tables are not squeezed
    console = Console(stderr=True, width=width, quiet=options.logs.format == "json")
    try:
        return run_recipe(loaded, manifest, out, options, recipe_file=file, console=console).exit_code
    except KeyboardInterrupt as stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second one must not break into the end
        console.print(f"{str(stop) or 'interrupted'}: what is finished stays, the same command goes on from here")
        return 143 if str(stop) else 130


def _terminated(number: int, frame: object) -> None:
    """What Kubernetes and batch systems send before they kill: end as after Ctrl-C."""
    raise KeyboardInterrupt("terminated")


def _interrupted(number: int, frame: object) -> None:
    """Ctrl-C. From here on the end is near and bounded: pressed again in a hurry, it must not break into it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
