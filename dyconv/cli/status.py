"""`dyconv status`: where every source and clip of an output folder stands, and what a run is doing now."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

_STATES = ("pending", "failed", "dropped", "kept")


def status(
    out: Annotated[str, typer.Argument(help="output folder or URI of a run")],
    state: Annotated[str | None, typer.Option(help=f"only what is in this state: {', '.join(_STATES)}")] = None,
    limit: Annotated[
        int | None, typer.Option(help="rows of a table (20 if not given), or of each list of --json (all)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object: sources and clips, every one of them")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="follow the run until it ends; Ctrl-C leaves it alone")] = False,
    interval: Annotated[float, typer.Option(help="seconds between two looks of --watch")] = 2.0,
) -> None:
    """Say of each source and clip whether it is kept, dropped, failed or pending, and why.

    Exit status of --watch: 0 the run has finished, or you left; 1 it failed, was interrupted or is gone; 2 wrong usage.
    """
    from rich.console import Console

    from dyconv.errors import UsageError
    from dyconv.ledger import FOLDER, State
    from dyconv.store import Store

    if state is not None and state not in _STATES:
        raise UsageError(f"--state {state}: there is no such state", hint=f"one of {', '.join(_STATES)}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, is {limit}")
    if not 0.1 <= interval <= 3600:
        raise UsageError(f"--interval must be 0.1 to 3600 seconds, is {interval:g}")
    if watch and (as_json or state or limit):
        raise UsageError("--watch goes with --interval only", hint="live.json in the output folder has the same as JSON")
    store = Store(out)
    if not store.exists(FOLDER):
        raise UsageError(f"{store} is no output folder of a run: it has no {FOLDER}/", hint="give the --out of `dyconv run`")
    # A pipe or a log has no width of its own: its tables are not squeezed.
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    if watch:
        from dyconv.status_watch import follow

        raise typer.Exit(follow(store, out, console, interval))

    from dyconv.live import read_live
    from dyconv.standings import read_standings
    from dyconv.status import LIMIT, overview, select, to_json
    from dyconv.status_watch import state_line

    wanted = None if state is None else State(state)
    found = read_standings(store)
    if as_json:
        for piece in to_json(found, wanted, limit):
            sys.stdout.write(piece)
        return
    for part in overview(found, wanted, limit or LIMIT):
        console.print(part)
    if (live := read_live(store)) is not None:
        console.print(state_line(live, found.counts["sources"]["pending"]), soft_wrap=True, markup=False)
    failed = [row for table in (found.clips, found.sources) for row in select(table, State.FAILED)[:1].to_pylist()]
    if failed:
        console.print(
            f"see why: dyconv replay {failed[0]['id']} {failed[0]['stage']} --out {out}", soft_wrap=True, markup=False
        )
        if state is None:
            console.print(
                f"list all that failed: dyconv status {out} --state failed --limit 1000", soft_wrap=True, markup=False
            )
