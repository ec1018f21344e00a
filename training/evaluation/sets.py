"""What is evaluated: the people of a build's or a release's clips, by random access.

No motion latents are needed: a system is measured by its videos.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ShardError, UsageError
from dyconv.faces import unpack_points
from dyconv.records import PERSONS, Key, dump
from dyconv.shards.index import INDEX, Encoder
from dyconv.shards.sample import Sample
from dyconv.store import Store
from dyconv.time import FPS, SAMPLES_PER_FRAME
from training.evaluation.case import Case, Truth, View
from training.evaluation.record import record_of
from training.evaluation.slices import Labels, slices_of
from training.infp.clips import Builds, Item

_KEYS = tuple(Key.of(person, what) for person in PERSONS for what in ("voice", "face", "crop"))
_SPLIT = re.compile(r"(?P<build>.+)@(?P<split>[A-Za-z0-9_.-]+)")


@dataclass(frozen=True)
class Face:
    """A person's face video in a clip, T frames.

    Attributes:
        video: mp4, 25 fps.
        landmarks: float32 [T, 478, 3] in its pixels, held or between neighbours where the face was not found.
        present: bool [T], where it was found.
    """

    where: str
    video: bytes = field(repr=False)
    landmarks: np.ndarray = field(repr=False)
    present: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.present)


class CaseSet:
    """See `open_set`.

    Attributes:
        cases: clip by clip, person by person, view by view.
        about: what a report says of the set: `name`, `version` (sha256 of all that decides cases and truth), `build`, `split`,
            `recipe`, `clips`, `people`, `sources`, `hours`, `cases` by view.
        encoder: of the build's motion latents; None where it has none.
    """

    def __init__(
        self,
        builds: Builds,
        items: Sequence[Item],
        views: Sequence[View],
        about: Mapping[str, Any],
        labels: Mapping[str, Labels],
    ) -> None:
        self.builds, self._labels = builds, labels
        self._items = {item.clip: item for item in items}
        self._source = sources_in(builds.rows(0))
        self._held: tuple[str, Sample] | None = None
        self.cases = [
            Case(item.clip, person, self._source[item.clip], view, item.frames)
            for item in items
            for person in item.seen
            for view in views
            if _possible(item, person, view)
        ]
        people = {case.name: case.frames for case in self.cases}
        self.about: dict[str, Any] = {
            **about,
            "clips": len({case.clip for case in self.cases}),
            "people": len(people),
            "sources": len({case.unit for case in self.cases}),
            "hours": sum(people.values()) / FPS / 3600,
            "cases": dict(Counter(str(case.view) for case in self.cases)),
        }

    @property
    def encoder(self) -> Encoder | None:
        return self.builds.index(0).encoder

    def sources(self) -> frozenset[str]:
        """Ids of the sources of its clips."""
        return frozenset(self._source[clip] for clip in self._items)

    def truth(self, case: Case) -> Truth:
        """What is known of a case. One clip is held at a time: cases in order are read once.

        Raises:
            ShardError: where its shard is not what the index says, or members do not fit together.
        """
        sample = self._sample(case.clip)
        face = face_of(sample, case.person, case.frames)
        other = _other(case.person)
        partner = Key.of(other, "face")
        if not face.present.any():
            raise ShardError(f"{face.where}: expected frames that show the face, found none", hint="pack this build again")
        labels = self._labels[case.clip]
        return Truth(
            case=case,
            video=face.video,
            partner_video=sample.raw(partner) if partner in sample else None,
            own=_voice(sample, case.person, case.frames),
            partner=_voice(sample, other, case.frames),
            present=face.present,
            landmarks=face.landmarks,
            portrait=int(np.flatnonzero(face.present)[0]),
            slices=slices_of(sample.clip, case.person, face.landmarks, face.present, labels),
            record=record_of(sample, case.person),
        )

    def partner(self, case: Case) -> Face | None:
        """The partner's face in the clip; None where it is not seen."""
        sample, other = self._sample(case.clip), _other(case.person)
        if any(Key.of(other, what) not in sample for what in ("face", "crop")):
            return None
        face = face_of(sample, other, case.frames)
        return face if face.present.any() else None

    def _sample(self, clip: str) -> Sample:
        if self._held is None or self._held[0] != clip:
            self._held = clip, self.builds.sample(self._items[clip])
        return self._held[1]


def open_set(
    data: str,
    views: Sequence[View],
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    train: Sequence[str] = (),
    cache: Path | None = None,
) -> CaseSet:
    """The people of a build whose face is in the clip, in some views.

    A person is a case of a view whose voices exist: in `talking` they are heard, in `listening` the partner is, in
    `interactive` at least one of them; `video` needs no voice. The columns `split`, `release` and `language` of the clip table
    are read where there are such.

    Args:
        data: folder or URI of a build or release; `BUILD@split` for a split of a release, as its clip table tells.
        only, without: shell-style patterns of source ids that are taken, and left out.
        train: builds that systems were trained on: by their sources, slices tell whether a person was seen.
        cache: folder for copies of remote shards; a temporary one by default.

    Raises:
        UsageError: for a split that is not there or empty, or where no case is left.
        DyconvError: where there is no build, or it lacks what is needed.
    """
    build, split = split_of(data)
    temporary = cache is None
    cache = cache or Path(tempfile.mkdtemp(prefix="dyconv-evaluation-"))
    builds = Builds([build], _KEYS, cache / "set")
    rows = builds.rows(0)
    chosen = clips_of(rows, build, split)
    items = [item for item in builds.items(only=only, without=without) if item.clip in chosen]
    seen = sources_of(train, cache) if train else None
    labels = {
        str(row["id"]): Labels(
            release=_text(row.get("release")),
            language=_text(row.get("language")),
            unseen=None if seen is None else str(row["source"]) not in seen,
        )
        for row in rows
    }
    name = Path(build).name or build
    about = {"name": name if split is None else f"{name}@{split}", "build": build, "split": split}
    about |= {"recipe": builds.index(0).recipe, "version": _version(builds, items)}
    made = CaseSet(builds, items, views, about, labels)
    if temporary:
        weakref.finalize(made, shutil.rmtree, cache, ignore_errors=True)
    if not made.cases:
        raise UsageError(
            f"no case in {data}: {len(items)} clips with a face, none with the voices of {', '.join(views)}"
            + (" among the sources chosen" if only or without else ""),
            hint="choose another view, or other sources with only and without",
        )
    return made


def split_of(data: str) -> tuple[str, str | None]:
    """("BUILD", "split") of "BUILD@split", and None for a plain build; a folder whose own name has an @ is one."""
    found = _SPLIT.fullmatch(data)
    if found is None or Store(data).exists(INDEX):
        return data, None
    return found["build"], found["split"]


def sources_of(data: Sequence[str], cache: Path) -> frozenset[str]:
    """Ids of the sources in builds, or in splits of them."""
    found: set[str] = set()
    for number, one in enumerate(data):
        build, split = split_of(one)
        rows = Builds([build], (), cache / f"train{number}").rows(0)
        chosen = clips_of(rows, build, split)
        found |= {str(row["source"]) for row in rows if str(row["id"]) in chosen}
    return frozenset(found)


def face_of(sample: Sample, person: str, frames: int | None = None) -> Face:
    """A person's face in a clip that has it.

    Raises:
        ShardError: where video or crop are missing, or not as long as each other or as `frames`.
    """
    video, crop = Key.of(person, "face"), Key.of(person, "crop")
    where = f"{video} of clip {sample.id} in {sample.shard}"
    if lacks := [str(key) for key in (video, crop) if key not in sample]:
        raise ShardError(f"{where}: expected {' and '.join(lacks)}, found none", hint="pack face and crop: see the recipe")
    held = sample.arrays(crop)
    landmarks, present = unpack_points(held["landmarks"]), np.asarray(held["present"], bool)
    found = {len(landmarks), len(present)}
    if len(found) > 1 or (frames is not None and found != {frames}):
        told = f"landmarks of {len(landmarks)} and presence of {len(present)} frames"
        raise ShardError(f"{where}: expected {frames} frames as the clip table says, found {told}", hint="run `dyconv check`")
    return Face(where, sample.raw(video), landmarks, present)


def sources_in(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The source of each clip of a clip table."""
    return {str(row["id"]): str(row["source"]) for row in rows}


def clips_of(rows: Sequence[Mapping[str, Any]], build: str, split: str | None) -> set[str]:
    """Ids of the clips of a split; all where none is asked for.

    Raises:
        UsageError: where it is not there or has no clip.
    """
    if split is None:
        return {str(row["id"]) for row in rows}
    there = Counter(str(row["split"]) for row in rows if row.get("split"))
    if not there:
        raise UsageError(
            f"expected split {split} in {build}, found a build without splits (its clip table has no column split)",
            hint=f"give {build} alone and choose its sources with only and without, or give a release",
        )
    if split not in there:
        told = ", ".join(f"{name} ({count} clips)" for name, count in sorted(there.items()))
        raise UsageError(
            f"expected split {split} in {build}, found no clip of it; splits there: {told}", hint="give one of these"
        )
    return {str(row["id"]) for row in rows if row.get("split") == split}


def _possible(item: Item, person: str, view: View) -> bool:
    own, partner = person in item.heard, _other(person) in item.heard
    return {View.TALKING: own, View.LISTENING: partner, View.INTERACTIVE: own or partner}.get(view, True)


def _other(person: str) -> str:
    return PERSONS[1 - PERSONS.index(person)]


def _voice(sample: Sample, person: str, frames: int) -> np.ndarray:
    """float32 [frames * 640]: silence where the clip has no such voice.

    Raises:
        ShardError: where it is a frame or more longer or shorter than the clip.
    """
    key, wanted = Key.of(person, "voice"), frames * SAMPLES_PER_FRAME
    if key not in sample:
        return np.zeros(wanted, np.float32)
    samples = sample.audio(key)
    if abs(len(samples) - wanted) >= SAMPLES_PER_FRAME:
        raise ShardError(
            f"{key} of clip {sample.id} in {sample.shard}: expected {wanted} samples, found {len(samples)}",
            hint="run `dyconv check`",
        )
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _version(builds: Builds, items: Sequence[Item]) -> str:
    """Sha256 of what decides cases and truth: the shards, and which clips of them."""
    index = builds.index(0)
    told = [index.table.sha256, [shard.sha256 for shard in index.clips], [item.clip for item in items]]
    return hashlib.sha256(dump(told)).hexdigest()
