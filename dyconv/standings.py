"""Where all sources and clips stand, worked out for the whole ledger at once.

The rules are those of `SourceLog.items`, `clip_standings` and `source_standing` in `dyconv.ledger`, which look at one source
at a time; the tests hold both to the same answer. Here they are a few array operations over the columns of the ledger,
so that a hundred thousand clips take a second or two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dyconv.ledger import Event, Standing, State
from dyconv.ledger_columns import read_columns
from dyconv.store import Store

Ints = NDArray[np.int64]
_FINAL = (State.KEPT, State.FAILED, State.DROPPED)  # in the order in which a source's clips decide where it stands
_ORDER = (*_FINAL, State.PENDING)
_PENDING = len(_FINAL)


@dataclass(frozen=True)
class Standings:
    """Every source and every clip, in the ledger's order.

    Attributes:
        sources: id, state, reason, stage, detail, seconds, and of each source also `story` (the fingerprint of what it has
            gone through if nothing of it is pending, else null), `failed` (items that failed) and `kept` (clips).
        clips: id, source, state, reason, stage, detail, seconds, and of the kept ones `fp`, the fingerprint of what their last
            stage has made; a source itself stands there only once it is kept whole.
    """

    sources: pa.Table
    clips: pa.Table
    _columns: pa.Table
    _rows: Ints

    @cached_property
    def events(self) -> pa.Table:
        """The rows of the ledger that count: those of the sources' current stories."""
        return self._columns.take(pa.array(self._rows))

    def stories(self) -> Iterator[tuple[str, str | None, int]]:
        """Of each source: id, what it has gone through if nothing of it is pending, how many of its items failed."""
        return zip(*(self.sources[name].to_pylist() for name in ("id", "story", "failed")), strict=True)

    def kept(self) -> Iterator[Event]:
        """The last event of every kept clip, by id."""
        table = self.clips.filter(pc.equal(self.clips["state"], str(State.KEPT))).sort_by("id")
        for batch in table.select(["id", "source", "stage", "fp"]).to_batches(1 << 14):
            for row in batch.to_pylist():
                yield Event(**row, state=State.KEPT)

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """How many `sources` and `clips` are in which state."""
        return {name: counted(getattr(self, name)["state"]) for name in ("sources", "clips")}


def read_standings(store: Store) -> Standings:
    """Read a ledger and work it out.

    Raises:
        StoreError: if a line other than a file's last is not an event.
    """
    return work_out(read_columns(store))


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """How often each text stands in a column."""
    return Counter({item["values"].as_py(): item["counts"].as_py() for item in pc.value_counts(column.combine_chunks())})


def standing_rows(table: pa.Table, rows: int = 1 << 14) -> Iterator[Standing]:
    """The rows of `Standings.sources` or `.clips` one by one."""
    own = set(table.column_names) & {"id", "state", "reason", "stage", "seconds", "detail", "source"}
    for batch in table.select(sorted(own)).to_batches(rows):
        for row in batch.to_pylist():
            yield Standing(**{**row, "state": State(row["state"])})


def work_out(columns: pa.Table) -> Standings:
    """Standings from the columns that `dyconv.ledger_columns` gives."""
    story = _stories(columns)
    items = _items(columns, story)
    clips = np.flatnonzero((items.level != 0) | (items.state == _ORDER.index(State.KEPT)))
    fields = {name: pc.take(column, pa.array(clips)) for name, column in _fields(columns, items).items()}
    fields["source"] = _texts(columns["source"], items.source[clips])
    kept = np.where(items.state == _ORDER.index(State.KEPT), items.end, -1)[clips]
    fields["fp"] = columns["fp"].take(pa.array(kept, mask=kept < 0))
    return Standings(_sources(columns, story, items), pa.table(fields), columns, story.rows)


@dataclass(frozen=True)
class _Stories:
    """The current story of each source: `source` numbers them as the ledger's dictionary does."""

    order: Ints  # sources that are not removed, by the row that first mentions them
    begin: Ints  # of each source: the row of its last `pending`
    rows: Ints  # the rows that belong to a current story, in order
    source: Ints  # of each of these rows


def _stories(columns: pa.Table) -> _Stories:
    source = _codes(columns["source"])
    state = _codes_of(columns["state"], (State.PENDING, State.REMOVED))
    number = np.arange(len(source))
    begins = state >= 0
    count = len(_dictionary(columns["source"]))
    begin, first = np.full(count, -1), np.full(count, len(source))
    np.maximum.at(begin, source[begins], number[begins])
    np.minimum.at(first, source[begins], number[begins])
    there = begin >= 0
    there[there] = state[begin[there]] == 0
    rows = np.flatnonzero(there[source] & (number > begin[source]))
    known = np.flatnonzero(there)
    return _Stories(known[np.argsort(first[known])], begin, rows, source[rows])


@dataclass(frozen=True)
class _Items:
    """Items that must come to an end, in the order of sources, ids and levels. -1 stands for none."""

    source: Ints
    id: pa.Array
    level: Ints
    state: Ints  # in `_ORDER`
    end: Ints  # the row that ended it
    last: Ints  # the last row about it
    seconds: NDArray[np.float64]


def _items(columns: pa.Table, story: _Stories) -> _Items:
    rows, source = story.rows, story.source
    level = columns["level"].to_numpy()[rows].astype(np.int64)
    final = _codes_of(columns["state"], _FINAL)[rows]
    names, own, ids, child_source, child_level, child_ids, split = _names(columns, story, level)
    levels = np.unique(np.concatenate([[0], level, child_level]))

    def key(source: Ints, level: Ints | int, name: Ints) -> Ints:
        return (source * len(levels) + np.searchsorted(levels, level)) * len(names) + name

    of_row = key(source, level, ids)
    root = key(story.order, 0, own)
    expected = np.unique(np.concatenate([root, key(child_source, child_level, child_ids)]))
    ends = np.flatnonzero((final >= 0) & ~split)
    ended, last_first = np.unique(of_row[ends][::-1], return_index=True)
    end_of = rows[ends[::-1][last_first]]
    early = np.isin(ended, expected, invert=True)  # a result that came in before the event that announces it
    stray = np.isin(story.order, ended[early] // len(names) // len(levels))
    keys = np.union1d(np.setdiff1d(expected, of_row[split]), root[stray])
    end = _found(keys, ended, end_of)
    end[np.isin(keys, root[stray])] = -1
    place, place_of_row = np.searchsorted(keys, of_row), np.isin(of_row, keys)
    last = np.full(len(keys), -1)
    np.maximum.at(last, place[place_of_row], rows[place_of_row])
    spent = np.bincount(place[place_of_row], columns["seconds"].to_numpy()[rows[place_of_row]], len(keys))
    state = np.full(len(keys), _PENDING)
    state[end >= 0] = _codes_of(columns["state"], _FINAL)[end[end >= 0]]
    order = _sorted(keys, story, names, len(levels))
    keys = keys[order]
    return _Items(
        source=keys // len(names) // len(levels),
        id=names.take(pa.array(keys % len(names))),
        level=levels[keys // len(names) % len(levels)],
        state=state[order],
        end=end[order],
        last=last[order],
        seconds=spent[order].astype(np.float64),
    )


def _names(columns: pa.Table, story: _Stories, level: Ints) -> tuple[Any, ...]:
    """One list of the names of all items, and numbers in it: of sources, of the rows' ids, of announced children."""
    children = columns["children"].combine_chunks().take(pa.array(story.rows))
    split = np.asarray(children.is_valid())
    parent = children.value_parent_indices().to_numpy()
    have = _dictionary(columns["id"])
    sources = _dictionary(columns["source"]).take(pa.array(story.order))
    coded = pa.concat_arrays([have, sources, children.flatten()]).dictionary_encode()
    numbers = coded.indices.to_numpy().astype(np.int64)
    own = numbers[len(have) : len(have) + len(sources)]
    ids = _codes(columns["id"])[story.rows]
    child_ids = numbers[len(have) + len(sources) :]
    return coded.dictionary, own, ids, story.source[parent], level[parent] + 1, child_ids, split


def _found(wanted: Ints, keys: Ints, values: Ints) -> Ints:
    """Of each wanted key its value, -1 for those that are not among the sorted `keys`."""
    found = np.full(len(wanted), -1)
    if len(keys):
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[place] == wanted
        found[there] = values[place[there]]
    return found


def _sorted(keys: Ints, story: _Stories, names: pa.Array, levels: int) -> Ints:
    """The order by source, id and level."""
    rank = np.empty(len(names), np.int64)
    rank[pc.array_sort_indices(names).to_numpy()] = np.arange(len(names))
    turn = np.full(len(story.begin), -1)
    turn[story.order] = np.arange(len(story.order))
    return np.lexsort((keys // len(names) % levels, rank[keys % len(names)], turn[keys // len(names) // levels]))


def _fields(columns: pa.Table, items: _Items) -> dict[str, pa.Array]:
    ended = items.end >= 0
    return {
        "id": items.id,
        "state": _state_texts(items.state),
        "reason": _texts(columns["reason"], _at(columns["reason"], items.end)),
        "stage": _texts(columns["stage"], _at(columns["stage"], np.where(ended, items.end, items.last))),
        "detail": _texts(columns["detail"], _at(columns["detail"], items.end)),
        "seconds": pa.array(items.seconds),
    }


def _sources(columns: pa.Table, story: _Stories, items: _Items) -> pa.Table:
    count = len(story.begin)
    tally = np.zeros((len(_ORDER), count), np.int64)
    np.add.at(tally, (items.state, items.source), 1)
    pending = tally[_PENDING] > 0
    state = np.select([pending, *(tally[: len(_FINAL)] > 0)], [_PENDING, *range(len(_FINAL))], _ORDER.index(State.DROPPED))
    reason, stage, detail = _commonest(columns, items, state, count)
    last = np.full(count, -1)
    np.maximum.at(last, story.source, story.rows)
    stage[pending] = _at(columns["stage"], last[pending])
    seconds = np.bincount(story.source, columns["seconds"].to_numpy()[story.rows], count)
    order = story.order
    fp = columns["fp"].take(pa.array(story.begin[order]))
    return pa.table(
        {
            "id": _texts(columns["source"], order),
            "state": _state_texts(state[order]),
            "reason": _texts(columns["reason"], reason[order]),
            "stage": _texts(columns["stage"], stage[order]),
            "detail": _texts(columns["detail"], detail[order]),
            "seconds": pa.array(seconds[order]),
            "story": pc.if_else(pa.array(pending[order]), pa.scalar(None, pa.string()), fp),
            "failed": pa.array(tally[_ORDER.index(State.FAILED)][order]),
            "kept": pa.array(tally[_ORDER.index(State.KEPT)][order]),
        }
    )


def _commonest(columns: pa.Table, items: _Items, state: Ints, count: int) -> tuple[Ints, Ints, Ints]:
    """Of each source: the most common reason and stage among the items that decide its state, and the first such detail."""
    deciding = np.flatnonzero((items.state == state[items.source]) & (items.end >= 0))
    source, end = items.source[deciding], items.end[deciding]
    why = np.stack([source, _at(columns["reason"], end), _at(columns["stage"], end)], axis=1)
    kinds, first, times = np.unique(why, axis=0, return_index=True, return_counts=True)
    best = np.lexsort((first, -times, kinds[:, 0]))
    best = best[np.unique(kinds[best, 0], return_index=True)[1]]
    found = np.full((3, count), -1)
    found[:2, kinds[best, 0]] = kinds[best, 1:].T
    found[2, kinds[best, 0]] = _at(columns["detail"], end[first[best]])
    return found[0], found[1], found[2]


def _dictionary(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())


def _codes(column: pa.ChunkedArray) -> Ints:
    """The numbers of a dictionary column, -1 for null."""
    if not column.num_chunks:
        return np.zeros(0, np.int64)
    return pc.fill_null(column.combine_chunks().indices, -1).to_numpy().astype(np.int64)


def _codes_of(column: pa.ChunkedArray, values: tuple[State, ...]) -> Ints:
    """The place of each of the column's texts in `values`, -1 for others."""
    places = [values.index(State(text)) if State(text) in values else -1 for text in _dictionary(column).to_pylist()]
    return np.array([*places, -1])[_codes(column)]


def _at(column: pa.ChunkedArray, rows: Ints) -> Ints:
    """A dictionary column's numbers at these rows, -1 for null and for row -1."""
    return np.append(_codes(column), -1)[rows]


def _texts(column: pa.ChunkedArray, codes: Ints) -> pa.Array:
    return _dictionary(column).take(pa.array(codes, mask=codes < 0))


def _state_texts(codes: Ints) -> pa.Array:
    return pa.array([str(state) for state in _ORDER]).take(pa.array(codes))
