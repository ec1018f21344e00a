"""`dyconv status`: where every source and clip of an output folder stands."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

import typer


def status(
    out: Annotated[str, typer.Argument(help="output folder or URI of a run")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object: sources and clips")] = False,
) -> None:
    """Say of each source and clip whether it is kept, dropped, failed or pending, and why."""
    from dyconv.errors import UsageError
    from dyconv.ledger import FOLDER, clip_standings, read_ledger, source_standing
    from dyconv.store import Store

    store = Store(out)
    if not store.exists(FOLDER):
        raise UsageError(f"{store} is no output folder of a run: it has no {FOLDER}/", hint="give the --out of `dyconv run`")
    logs = read_ledger(store).values()
    sources = [source_standing(log) for log in logs]
    clips = [standing for log in logs for standing in clip_standings(log)]
    if as_json:
        found = {"sources": [item.to_json() for item in sources], "clips": [item.to_json() for item in clips]}
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("source", "state", "reason", "stage", "clips kept", "seconds")
    kept = Counter(item.source for item in clips if item.state == "kept")
    for item in sources:
        reason = f"{item.reason}: {item.detail}" if item.reason else ""
        table.add_row(item.id, str(item.state), reason, item.stage or "", str(kept[item.id]), f"{item.seconds:.1f}")
    console.print(table)
    for what, items in (("sources", sources), ("clips", clips)):
        counts = Counter(str(item.state) for item in items)
        console.print(f"{what}: " + (", ".join(f"{count} {state}" for state, count in counts.items()) or "none"))
    failed = [item for item in clips if item.state == "failed"] + [item for item in sources if item.state == "failed"]
    if failed:
        console.print(f"see why: dyconv replay {failed[0].id} {failed[0].stage} --out {out}", highlight=False)
