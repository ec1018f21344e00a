"""What `dyconv status` says: where sources and clips stand, as a table that stays short, or as JSON that is all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dyconv.ledger import State
from dyconv.standings import Standings

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = (State.PENDING, State.FAILED, State.DROPPED, State.KEPT)  # what somebody may have to do something about comes first
LIMIT = 20
_REASONS = 12


def select(table: pa.Table, state: State | None) -> pa.Table:
    """The rows in a state; all of them if none is given."""
    return table if state is None else table.filter(pc.equal(table["state"], str(state)))


def to_json(found: Standings, state: State | None = None, limit: int | None = None) -> Iterator[str]:
    """One JSON object in pieces: `sources` and `clips`, each with id, state, reason, stage, seconds, detail; clips also have
    their source, sources their number of clips kept and failed."""
    yield "{"
    for number, name in enumerate(("sources", "clips")):
        yield f'{", " if number else ""}"{name}": ['
        table = select(getattr(found, name), state)[:limit]
        own = [column for column in table.column_names if column not in ("story", "fp")]
        first = True
        for batch in table.select(own).to_batches(1 << 12):
            rows = [{**row, "seconds": round(row["seconds"], 3)} for row in batch.to_pylist()]
            yield ("" if first else ", ") + json.dumps(rows, ensure_ascii=False)[1:-1]
            first = False
        yield "]"
    yield "}\n"


def overview(found: Standings, state: State | None = None, limit: int = LIMIT) -> Iterator[RenderableType]:
    """The tables and lines of `dyconv status`: at most `limit` rows a table, those that are not well first."""
    from rich.text import Text

    yield _rows("sources", found.sources, state, limit)
    if state is not None:
        yield _rows("clips", found.clips, state, limit)
    elif found.clips.num_rows > limit or set(found.counts["clips"]) - {State.KEPT}:
        yield _reasons(found.clips)
    for name, counts in found.counts.items():
        yield Text(f"{name}: " + (", ".join(f"{counts[end]:,} {end}" for end in ORDER if counts[end]) or "none"))


def _ordered(table: pa.Table) -> pa.Table:
    """Pending first, then failed, dropped, kept; each in its order."""
    return pa.concat_tables([select(table, state) for state in ORDER])


def _rows(name: str, table: pa.Table, state: State | None, limit: int) -> RenderableType:
    from rich.table import Table

    table = _ordered(select(table, state))
    more = f" (the first {limit} of {table.num_rows:,})" if table.num_rows > limit else ""
    view = Table(title=f"{name}{more}", title_justify="left")
    for head in (name[:-1], "state", "reason", "stage", *(("clips kept",) if name == "sources" else ()), "seconds"):
        view.add_column(head, justify="right" if head in ("clips kept", "seconds") else "left")
    for row in table[:limit].to_pylist():
        reason = f"{row['reason']}: {row['detail']}" if row["reason"] else ""
        kept = [str(row["kept"])] if name == "sources" else []
        view.add_row(row["id"], row["state"], _plain(reason), row["stage"] or "", *kept, f"{row['seconds']:.1f}")
    return view


def _reasons(clips: pa.Table) -> RenderableType:
    """How many clips ended how, and why."""
    from rich.table import Table

    keys = ["state", "reason", "stage"]
    found = clips.group_by(keys).aggregate([("id", "count")]).to_pylist()
    found.sort(key=lambda row: (ORDER.index(State(row["state"])), -row["id_count"], row["reason"] or "", row["stage"] or ""))
    view = Table(title="clips, and why", title_justify="left")
    for head in (*keys, "clips"):
        view.add_column(head, justify="right" if head == "clips" else "left")
    for row in found[:_REASONS]:
        view.add_row(row["state"], _plain(row["reason"] or ""), row["stage"] or "", f"{row['id_count']:,}")
    if more := found[_REASONS:]:
        view.add_row("...", f"{len(more)} more", "", f"{sum(row['id_count'] for row in more):,}")
    return view


def _plain(text: str) -> Any:
    """Text that is shown as it is, in one line: what failed may have said anything."""
    from rich.text import Text

    return Text(" ".join(text.split())[:300])
