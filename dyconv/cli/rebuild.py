"""`dyconv rebuild`: a recipe-only release made whole again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def rebuild(
    ref: Annotated[str, typer.Argument(help="a release: folder, s3://.../1.0.0, hf://datasets/OWNER/NAME[@v1.0.0]")],
    out: Annotated[Path, typer.Option(help="output folder; resumed if it is there")],
    media: Annotated[Path | None, typer.Option(help="folder with files that were local to whoever made the release")] = None,
    recipe: Annotated[str | None, typer.Option(help="recipe, where it does not come with this program")] = None,
    tombstones: Annotated[
        list[Path] | None, typer.Option(help="takedowns to keep to, beside those of later versions at the same place")
    ] = None,
    backend: Annotated[str, typer.Option(help="ray or local")] = "ray",
    workers: Annotated[int | None, typer.Option(help="local: worker processes; ray: most actors in a pool")] = None,
) -> None:
    """Fetch the sources of a release, run its recipe, and compare every file with the release's hashes.

    OUT/shards then holds the clips that came out the same, in the release's splits; OUT/rebuild.json says what is different
    and what is gone. Exit status: 0 all clips are the same, 3 some are, 1 none is.
    """
    from rich.console import Console

    from dyconv.release.rebuild import rebuild as rebuild_release
    from dyconv.runner import RunOptions

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)
    options = RunOptions(backend=backend, workers=workers, tombstones=tuple(tombstones or ()))
    result = rebuild_release(ref, out, media=media, recipe=recipe, options=options, console=console)
    for line in result.told():
        typer.echo(line)
    if not result.ok:
        raise typer.Exit(3 if result.same else 1)
