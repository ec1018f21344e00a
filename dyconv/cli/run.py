"""`dyconv run`: the whole chain over a manifest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Bring every source of a manifest to a named end, and write what is kept as shards.

    Interrupted or killed, the same command goes on where it stopped.
    Exit status: 0 done (clips are kept, or everything was dropped for a reason), 3 clips are kept but something failed,
    1 nothing but failures and drops, or stopped early, 2 wrong usage, 130 interrupted.
    """
    raise typer.Exit(run_job(recipe, manifest, out, backend, limit, retry_failed, workers, not no_pack, tombstones or ()))


def run_job(
    recipe: str,
    manifest: Path,
    out: str,
    backend: str = "ray",
    limit: int | None = None,
    retry_failed: bool = False,
    workers: int | None = None,
    pack: bool = True,
    tombstones: Sequence[Path] = (),
) -> int:
    """Load the recipe, run it, and return the exit status."""
    from rich.console import Console

    from dyconv import recipes
    from dyconv.runner import RunOptions
    from dyconv.runner import run as run_recipe

    options = RunOptions(backend, workers, limit, retry_failed, pack, tuple(tombstones))
    loaded = recipes.load(recipe)
    file = str(Path(recipe).absolute()) if recipes.is_file(recipe) else None
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)  # a log's tables are not squeezed
    try:
        return run_recipe(loaded, manifest, out, options, recipe_file=file, console=console).exit_code
    except KeyboardInterrupt:
        console.print("interrupted: what is finished stays, the same command goes on from here")
        return 130
