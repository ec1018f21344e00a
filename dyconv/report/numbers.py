"""What the page about a build says in numbers: counted from the ledger, measured on the records of kept clips."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dyconv.errors import StoreError
from dyconv.faces import load_faces
from dyconv.funnel import Funnel, make_funnel
from dyconv.ledger import Event, SourceLog, State, read_ledger, source_standing
from dyconv.records import PERSONS, Clip, Key
from dyconv.report.find import record
from dyconv.run_file import read_run
from dyconv.shards.table import columns as table_columns
from dyconv.store import Store

POSE_CLIPS = 200  # files of landmarks read for the poses; more would make the page slow and no different
POSE_STEP = 10  # frames
_HOUR = 3600.0


@dataclass
class LicenceRow:
    """How much of a build is under one licence. `hours` and `clips` are what is kept."""

    sources: int = 0
    clips: int = 0
    hours: float = 0.0


@dataclass
class Distributions:
    """Measured values, one list each; times in seconds, widths in pixels of VIDEO, angles in degrees, shares 0 to 1."""

    duration_s: list[float] = field(default_factory=list)
    face_px: list[float] = field(default_factory=list)  # per seen person of a clip
    speaking: list[float] = field(default_factory=list)  # per heard person of a clip, share of the clip
    overlap: list[float] = field(default_factory=list)  # share of the clip in which both speak
    av_offset_ms: list[float] = field(default_factory=list)
    turn_s: list[float] = field(default_factory=list)  # attributed turns
    bleed_db: list[float] = field(default_factory=list)
    yaw: list[float] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)


@dataclass
class Numbers:
    """Everything countable of a build.

    Attributes:
        dropped_s: seconds of media dropped (or failed), by stage and reason.
        kept: the `kept` events, by id.
        layouts: kept clips by layout.
        people: distinct people seen in kept clips; people are told apart within a source only.
        run: what `run.json` says: recipe, stages, versions.
        levels: of each stage, in order: how many splits lie before it.
    """

    funnel: Funnel
    logs: dict[str, SourceLog]
    run: dict[str, Any]
    dropped_s: dict[str, Counter[str]]
    kept: list[Event]
    kept_s: float
    listed_s: float
    layouts: Counter[str]
    people: int
    spread: Distributions
    licences: dict[str, LicenceRow]
    levels: dict[str, int]
    lost: int = 0  # kept clips whose record is gone

    @property
    def kept_hours(self) -> float:
        return self.kept_s / _HOUR


def read_numbers(store: Store) -> Numbers:
    """Count a build.

    Raises:
        StoreError: if its ledger is damaged.
    """
    logs = read_ledger(store)
    run = read_run(store) or {}
    levels = {stage["name"]: run["levels"][stage["name"]] for stage in run.get("stages", ())} or _levels_seen(logs.values())
    kept = sorted((event for log in logs.values() for event in log.kept()), key=lambda event: event.id)
    numbers = Numbers(
        funnel=make_funnel(logs.values(), levels),
        logs=logs,
        run=run,
        dropped_s=_dropped(logs.values()),
        kept=kept,
        kept_s=sum(event.media_out for event in kept),
        listed_s=_listed(logs.values()),
        layouts=Counter(),
        people=0,
        spread=Distributions(),
        licences=defaultdict(LicenceRow),
        levels=levels,
    )
    _measure(store, numbers)
    _count_licences(store, numbers)
    return numbers


def _levels_seen(logs: Iterable[SourceLog]) -> dict[str, int]:
    """Stages with the lowest level they were met at, for an output folder that has lost its run.json."""
    found: dict[str, int] = {}
    for log in logs:
        for event in log.events:
            if event.stage is not None:
                found[event.stage] = min(event.level, found.get(event.stage, event.level))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _dropped(logs: Iterable[SourceLog]) -> dict[str, Counter[str]]:
    seconds: dict[str, Counter[str]] = defaultdict(Counter)
    for log in logs:
        for event in log.events:
            if event.state in (State.DROPPED, State.FAILED):
                seconds[event.stage or ""][event.reason or ""] += event.media_in  # type: ignore[assignment]
    return dict(seconds)


def _listed(logs: Iterable[SourceLog]) -> float:
    """Seconds of all sources whose length is known."""
    return sum(max((event.media_out for event in log.events if event.level == 0), default=0.0) for log in logs)


def _measure(store: Store, numbers: Numbers) -> None:
    people: set[tuple[str, str]] = set()
    every = max(1, -(-len(numbers.kept) // POSE_CLIPS))
    for number, event in enumerate(numbers.kept):
        clip = record(store, event)
        if clip is None:
            numbers.lost += 1
            continue
        numbers.layouts[clip.layout or "not known"] += 1
        people.update((clip.source.id, person.identity or person.id) for person in clip.people if person.seen)
        _spread(clip, numbers.spread)
        if number % every == 0:
            _poses(store, clip, numbers.spread)
        row = numbers.licences[clip.source.licence or "none given"]
        row.clips += 1
        row.hours += float(clip.span.duration) / _HOUR
    numbers.people = len(people)


def _spread(clip: Clip, spread: Distributions) -> None:
    values = table_columns(clip, "", 0)
    spread.duration_s.append(values["duration_s"])
    for person in PERSONS:
        if values[f"{person}_seen"] and values[f"{person}_face_width_px"] is not None:
            spread.face_px.append(values[f"{person}_face_width_px"])
        if values[f"{person}_heard"]:
            spread.speaking.append(values[f"{person}_speaking_share"])
        if values[f"{person}_bleed_db"] is not None:
            spread.bleed_db.append(values[f"{person}_bleed_db"])
    if clip.turns:
        spread.overlap.append(values["overlap_share"])
    spread.turn_s += [float(turn.span.duration) for turn in clip.turns if turn.person]
    if values["av_offset_s"] is not None:
        spread.av_offset_ms.append(1000 * values["av_offset_s"])


def _poses(store: Store, clip: Clip, spread: Distributions) -> None:
    ref = clip.assets.get(Key.FACES)
    if ref is None:
        return
    try:
        faces = load_faces(store.local(ref.path))
    except StoreError:
        return  # `dyconv check` is what reports damaged files
    persons = {track.id for track in clip.tracks if track.person}
    for track, arrays in faces.items():
        if track in persons and len(arrays):
            yaw, pitch = head_pose(arrays.landmarks[::POSE_STEP])
            spread.yaw += yaw.tolist()
            spread.pitch += pitch.tolist()


def head_pose(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw and pitch in degrees, float [n], of meshes [n, 478, 3]: where the plane through eyes, chin and forehead looks.

    Yaw is positive towards the right edge of the picture, pitch is positive upwards. Good to some degrees: enough for a
    distribution, no measurement of one head.
    """
    across = landmarks[:, 263] - landmarks[:, 33]  # x is right, y is down, z is away from the camera
    down = landmarks[:, 152] - landmarks[:, 10]
    facing = -np.cross(across, down)
    yaw = np.degrees(np.arctan2(facing[:, 0], -facing[:, 2]))
    pitch = np.degrees(np.arctan2(-facing[:, 1], np.hypot(facing[:, 0], facing[:, 2])))
    return yaw, pitch


def _count_licences(store: Store, numbers: Numbers) -> None:
    for log in numbers.logs.values():
        numbers.licences[_licence(store, log)].sources += 1


def _licence(store: Store, log: SourceLog) -> str:
    for event in log.events:
        if event.level == 0 and event.stage is not None and event.children is None:
            clip = record(store, event)
            if clip is not None:
                return clip.source.licence or "none given"
    return "not known"


def ended(numbers: Numbers, state: State) -> list[tuple[SourceLog, tuple[str, int], Event]]:
    """(log, (id, level), final event) of every item that ended so, by id."""
    found = [
        (log, item, event)
        for log in numbers.logs.values()
        for item, event in log.items().items()
        if event is not None and event.state is state
    ]
    return sorted(found, key=lambda entry: entry[1])


def source_states(logs: Mapping[str, SourceLog]) -> Counter[str]:
    return Counter(str(source_standing(log).state) for log in logs.values())
