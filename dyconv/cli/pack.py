"""`dyconv pack`: kept clips into shards."""

from __future__ import annotations

from typing import Annotated

import typer


def pack(
    out: Annotated[str, typer.Argument(help="output folder or URI of a run")],
    recipe: Annotated[str | None, typer.Option(help="pack as this recipe says; the one that was run if not given")] = None,
) -> None:
    """Write what a run kept as WebDataset shards, an index and a clip table, under OUT/shards.

    `dyconv run` does it at its end. A shard that is there and was made of the same clips is left alone.
    """
    import json

    from dyconv import recipes
    from dyconv.errors import UsageError
    from dyconv.ledger import RUN_FILE, RunLock
    from dyconv.runner import kept_clips
    from dyconv.shards import pack as pack_clips
    from dyconv.store import Store

    store = Store(out)
    if not store.exists(RUN_FILE):
        raise UsageError(f"{store} is no output folder of a run: it has no {RUN_FILE}", hint="give the --out of `dyconv run`")
    run = json.loads(store.read_bytes(RUN_FILE))
    loaded = recipes.load(recipe or run["recipe_file"] or run["recipe"])
    if not loaded.pack:
        raise UsageError(f"recipe {loaded.name} packs nothing", hint="name the assets to pack in its field `pack`")
    with RunLock(store):
        result = pack_clips(store, loaded, kept_clips(store))
    typer.echo(
        f"{result.clips} clips, {result.hours:.3f} h in {store}/shards: "
        f"{result.written} shards written, {result.unchanged} unchanged, {result.removed} removed"
    )
