"""`dyconv pack`: kept clips into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    out: Annotated[str, typer.Argument(help="output folder or URI of a run")],
    recipe: Annotated[str | None, typer.Option(help="pack as this recipe says; the one that was run if not given")] = None,
    overlay: Annotated[
        list[Path] | None, typer.Option(help="apply these decisions of reviewers: an overlay or its export; several are merged")
    ] = None,
    no_overlay: Annotated[bool, typer.Option("--no-overlay", help="forget the overlay of the pack before")] = False,
) -> None:
    """Write what a run kept as WebDataset shards, an index and a clip table, under OUT/shards.

    `dyconv run` does it at its end. A shard that is there and was made of the same clips is left alone. Decisions of
    reviewers given once are kept with the shards and applied by every later pack, until others are given.
    """
    from dyconv import recipes
    from dyconv.audit.application import keep_overlay, pack_audited
    from dyconv.audit.overlay import Annotations, read_overlay
    from dyconv.errors import UsageError
    from dyconv.ledger import RUN_FILE
    from dyconv.run_file import read_run
    from dyconv.run_lock import RunLock
    from dyconv.runner import kept_clips
    from dyconv.store import Store

    store = Store(out)
    run = read_run(store)
    if run is None:
        raise UsageError(f"{store} is no output folder of a run: it has no {RUN_FILE}", hint="give the --out of `dyconv run`")
    loaded = recipes.load(recipe or run["recipe_file"] or run["recipe"])
    if not loaded.pack:
        raise UsageError(f"recipe {loaded.name} packs nothing", hint="name the assets to pack in its field `pack`")
    if overlay and no_overlay:
        raise UsageError("--overlay and --no-overlay exclude each other")
    given = Annotations.gathered(*(read_overlay(path).decisions for path in overlay or ()))
    with RunLock(store):
        if overlay or no_overlay:
            keep_overlay(store, given if overlay else None)
        result, applied = pack_audited(store, loaded, kept_clips(store))
    typer.echo(
        f"{result.clips} clips, {result.hours:.3f} h in {store}/shards: "
        f"{result.written} shards written, {result.unchanged} unchanged, {result.removed} removed"
    )
    for line in applied.told() if applied else ():
        typer.echo(f"decisions of reviewers: {line}")
