"""What the page about a data set says in numbers: from the clip table and, of a release, its other tables; else from records.

Tables are read whole. Of shards only some are opened, evenly spread, where there are many: every number says of how many clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dyconv.errors import DyconvError, UsageError
from dyconv.records import PERSONS, Clip, Key
from dyconv.release.about import read_about
from dyconv.release.check import is_release
from dyconv.release.model import TABLES, Entry, person_key
from dyconv.release.packed import Packed
from dyconv.release.tables import read_release_table, turn_rows
from dyconv.report.release_faces import Faces, measure_crop, one_frame
from dyconv.shards.index import FOLDER, Index, read_index
from dyconv.shards.table import read_table
from dyconv.store import Store

CLIPS_READ = 240  # of shards, about: more makes the page slow and hardly different
SHOWN = 12  # clips in the grid of samples
FAR_S = 5.0  # a silence longer than this is no response

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Shown:
    """A clip of the grid: frames uint8 [S, S, 3] by person."""

    id: str
    frames: Mapping[str, np.ndarray]
    line: str


@dataclass
class Dataset:
    """Everything that is told of a data set.

    Attributes:
        about: `release.json`; empty for a build.
        clips: rows of the clip table.
        turns: rows as the table `turns` has them, of `turns_of` clips.
        people: how many are seen or heard; None where not all records were read.
        read: how many clips' records and files were read.
        sync: measures of sound against picture: encoded offset (ms), lips against voice (frames), and how sure (0 to 1).
        si_sdr_db: estimated, of voices in overlap.
        lost: members that could not be read.
    """

    name: str
    about: Mapping[str, Any]
    clips: Rows
    turns: Rows
    turns_of: int
    people: int | None
    sources: int
    languages: Counter[str]
    licences: Counter[str]
    read: int
    faces: Faces = field(default_factory=Faces)
    sync: dict[str, list[float]] = field(default_factory=dict)
    si_sdr_db: list[float] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    lost: int = 0

    @property
    def seconds(self) -> float:
        return float(sum(row["duration_s"] for row in self.clips))

    def summed(self, share: str) -> float:
        """Seconds of a column of shares."""
        return float(sum((row[share] or 0.0) * row["duration_s"] for row in self.clips))


def read_dataset(store: Store) -> Dataset:
    """Count a build or a release.

    Raises:
        UsageError: if nothing is packed.
        ShardError, StoreError: if what is packed is not what it says.
    """
    if not store.exists(f"{FOLDER}/index.json"):
        raise UsageError(f"{store} has no {FOLDER}/index.json", hint="give a release, or a build that `dyconv pack` was run on")
    index = read_index(store)
    clips = read_table(store.local(f"{FOLDER}/{index.table.name}"))
    part = some_shards(index, CLIPS_READ)
    packed = Packed(store, part)
    records = list(packed.clips())
    release = is_release(store)
    about = read_about(store) if release else {}
    found = Dataset(
        name=f"{about['name']} {about['version']}" if release else store.root.rstrip("/").rsplit("/", 1)[-1],
        about=about,
        clips=clips,
        turns=[row for clip in records for row in turn_rows(Entry(clip, "", ""))],
        turns_of=len(records),
        people=None,
        sources=len({row["source"] for row in clips}),
        languages=Counter(),
        licences=Counter(),
        read=len(records),
    )
    for row in clips:
        found.licences[row["licence"] or "not stated"] += row["duration_s"]
    if release:
        _tables(store, found)
    elif len(records) == len(clips):
        found.people = len({person_key(clip, one) for clip in records for one in clip.people if one.seen or one.heard})
        for clip in records:
            found.languages[clip.source.language or "not stated"] += float(clip.span.duration)  # type: ignore[assignment]
    _files(packed, records, found)
    return found


def some_shards(index: Index, clips: int) -> Index:
    """The index of evenly spread shards that hold about so many clips; of all of them where there are no more."""
    if index.samples <= clips:
        return index
    count = max(1, min(len(index.clips), round(len(index.clips) * clips / index.samples)))
    chosen = sorted({int(at) for at in np.linspace(0, len(index.clips) - 1, count)})
    motion = tuple(index.motion[at] for at in chosen) if index.motion else ()
    return replace(index, clips=tuple(index.clips[at] for at in chosen), motion=motion)


def _tables(store: Store, found: Dataset) -> None:
    tables = {name: read_release_table(store.local(f"{TABLES}/{name}.parquet")) for name in ("turns", "people", "sources")}
    found.turns, found.turns_of = tables["turns"], len(found.clips)
    found.people = len({row["person"] for row in tables["people"] if row["seen_s"] or row["speaking_s"]})
    for row in tables["sources"]:
        found.languages[row["language"] or "not stated"] += row["seconds"]


def _files(packed: Packed, records: Sequence[Clip], found: Dataset) -> None:
    grid = {int(at) for at in np.linspace(0, len(records) - 1, SHOWN)} if records else set()
    for number, clip in enumerate(records):
        _measures(clip, found)
        frames: dict[str, np.ndarray] = {}
        for person in PERSONS:
            try:
                if (crop := Key.of(person, "crop")) in clip.assets:
                    measure_crop(packed.member(clip.id, crop), found.faces)
                if (video := Key.of(person, "face")) in clip.assets:
                    picture = one_frame(packed.member(clip.id, video), found.faces)
                    if picture is not None:
                        frames[person] = picture
            except (DyconvError, ValueError, KeyError, OSError):  # `dyconv check` is what reports damaged members
                found.lost += 1
        if number in grid:
            heard = sum(person.heard for person in clip.people)
            words = (clip.layout or "", f"{float(clip.span.duration):.1f} s", f"{heard} heard")
            found.shown.append(Shown(clip.id, frames, ", ".join(word for word in words if word)))


def _measures(clip: Clip, found: Dataset) -> None:
    names = {"av_offset_s": ("encoded_ms", 1000.0)}
    for person in PERSONS:
        names |= {f"{person}.av_offset_frames": ("lips_frames", 1.0), f"{person}.sync_confidence": ("lips_sure", 1.0)}
        value = clip.measures.get(f"{person}.si_sdr_est_db")
        if isinstance(value, (int, float)):
            found.si_sdr_db.append(float(value))
    for name, (into, factor) in names.items():
        value = clip.measures.get(name)
        if isinstance(value, (int, float)):
            found.sync.setdefault(into, []).append(factor * float(value))


def responses(turns: Rows) -> list[float]:
    """Seconds from the end of one person's turn to the start of the other's next one; below 0 where they overlap.

    The floor transfer offset of Heldner and Edlund (2010), over turns by their start, of known people. A turn that ends before
    the one it began in does is no transfer, nor is what comes after more than `FAR_S` of silence.
    """
    out: list[float] = []
    for clip in _by_clip(turns):
        before: Mapping[str, Any] | None = None
        for turn in sorted(clip, key=lambda turn: (turn["start_s"], turn["end_s"])):
            if turn["person"] is None:
                continue
            if before is not None and turn["end_s"] <= before["end_s"]:
                continue  # within the other's turn, or a part of one's own
            if before is not None and turn["person"] != before["person"]:
                offset = turn["start_s"] - before["end_s"]
                if offset <= FAR_S:
                    out.append(float(offset))
            before = turn
    return out


def _by_clip(turns: Rows) -> Iterable[list[Mapping[str, Any]]]:
    clips: dict[str, list[Mapping[str, Any]]] = {}
    for turn in turns:
        clips.setdefault(turn["clip"], []).append(turn)
    return clips.values()
