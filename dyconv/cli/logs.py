"""`dyconv logs`: what the workers of a run said, by clip, stage and level."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def logs(
    out: Annotated[str, typer.Argument(help="output folder of a run")],
    clip: Annotated[str | None, typer.Option(help="only about this clip or source")] = None,
    stage: Annotated[str | None, typer.Option(help="only of this stage")] = None,
    level: Annotated[str, typer.Option(help="only of this level and above: debug, info, warning, error, critical")] = "debug",
    run: Annotated[str | None, typer.Option(help="only of the run with this name")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with what is written from now, until Ctrl-C")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="records as they are, one a line")] = False,
) -> None:
    """Print the log records of all workers in order of time."""
    from dyconv.logs.read import Wanted, follow_logs, read_logs
    from dyconv.logs.setup import as_text
    from dyconv.store import Store

    store = Store(out)
    wanted = Wanted(clip, stage, level.lower(), run)
    for record in follow_logs(store, wanted) if follow else read_logs(store, wanted):
        typer.echo(json.dumps(record, ensure_ascii=False) if as_json else as_text(record))
