"""`dyconv score`: a build against known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    out: Annotated[str, typer.Argument(help="output folder or URI of a run")],
    truth: Annotated[Path, typer.Option(help="truth.json of one source's media, see `dyconv synth`")],
    source: Annotated[str | None, typer.Option(help="id of that source, if the run has several")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    write: Annotated[bool, typer.Option("--write", help="also write it to OUT/score.json")] = False,
) -> None:
    """Compare what a run found with what its media is known to hold."""
    import json

    from dyconv.score import score as score_build
    from dyconv.store import Store
    from dyconv.truth import read_truth

    store = Store(out)
    found = score_build(store, read_truth(truth), truth.parent, source)
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items()}
    if write:
        store.write_bytes("score.json", json.dumps(rounded, indent=2).encode() + b"\n")
    if as_json:
        typer.echo(json.dumps(rounded))
        return
    for name, value in rounded.items():
        shown = "-" if value is None else json.dumps(value) if isinstance(value, dict) else f"{value:g}"
        typer.echo(f"{name:24}{shown}")
