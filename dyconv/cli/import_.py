"""`dyconv import`: public sets in their published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_set(
    name: Annotated[str, typer.Argument(help="vico, realtalk, seamless or speakervid")],
    source: Annotated[Path, typer.Argument(help="folder that the set was unpacked into")],
    out: Annotated[Path, typer.Option(help="folder of the build; the manifest comes to lie in OUT/import")],
    licence: Annotated[str, typer.Option(help="the one the set was given to you under; written into every source")],
    language: Annotated[str | None, typer.Option(help="BCP 47, where all of it is in one")] = None,
    recipe: Annotated[str | None, typer.Option(help="another recipe than the set's own")] = None,
    limit: Annotated[int | None, typer.Option(help="only the first N conversations")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out recordings that are not whole")] = False,
    no_run: Annotated[bool, typer.Option("--no-run", help="write the manifest only")] = False,
    backend: Annotated[str, typer.Option(help="ray or local")] = "ray",
    workers: Annotated[int | None, typer.Option(help="as for `dyconv run`")] = None,
) -> None:
    """Bring a public set into a build: a manifest with its licence, what it publishes kept, and the rest derived by our stages.

    Sets of annotations alone (speakervid) become a manifest and a list of spans. Exit status as for `dyconv run`.
    """
    from rich.console import Console

    from dyconv import recipes
    from dyconv.importers.run import adapted, bring_in, importer

    prepared, found = bring_in(name, source, out, licence, language=language, skip_bad=skip_bad, limit=limit)
    typer.echo(f"{prepared.manifest}: {prepared.rows} conversations under {licence}")
    for line in found.problems:
        typer.echo(f"left out: {line}")
    for line in found.lacks:
        typer.echo(f"the set lacks {line}")
    chosen = recipe or importer(name).recipe
    if no_run or chosen is None:
        typer.echo(f"for a build, the same command {'without --no-run' if chosen else 'with --recipe dyconv'}")
        return
    from dyconv.runner import RunOptions, run

    made = adapted(recipes.load(chosen), prepared, licence)
    options = RunOptions(backend=backend, workers=workers)
    raise typer.Exit(run(made, prepared.manifest, str(out), options, console=Console(stderr=True)).exit_code)
