"""Gold labels: what reviewers accepted or corrected, as truth that `dyconv score` takes.

One truth a source. It knows who speaks when in the accepted clips, and whose face is whose, and says so (`known`); of
everything else, of stretches left unsure on purpose, and of clips marked with a wrong speaker, turn or identity that nobody
mended, it says nothing. Boxes are those that were found, looked at by a person: they tell people apart, and measure a later
detector, but not the one that made them. Cuts and voices stay unknown.

People are called p0 and p1 in the names of the record, so that clips of one segment agree; an exchange of names for both
people is left out for the same reason, an exchange of voices is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from dyconv.audit.decisions import Fault, Standing, Verdict, base_of, exchanged
from dyconv.audit.overlay import Annotations
from dyconv.errors import UsageError
from dyconv.faces import load_faces
from dyconv.ledger import RUN_FILE, read_ledger
from dyconv.records import PERSONS, Clip, Key, Turn
from dyconv.score import Build
from dyconv.shards.table import union
from dyconv.store import Store
from dyconv.time import FPS, FRAME, Span
from dyconv.truth import Truth, TruthFace, TruthTurn, write_truth

SUFFIX = ".truth.json"
_UNMENDED = frozenset({Fault.SPEAKER, Fault.TURNS, Fault.IDENTITY})


@dataclass(frozen=True)
class Gold:
    """The truth of one source: how many clips it is from, and how many of those were corrected."""

    source: str
    truth: Truth
    clips: int
    corrected: int


def is_gold(verdict: Verdict) -> bool:
    """Whether a verdict says who speaks when: accepted, with no such fault left."""
    left = {mark.what for mark in verdict.marks} & _UNMENDED
    if verdict.turns is not None:
        left -= {Fault.TURNS, Fault.SPEAKER}
    if verdict.swapped == "voices":
        left -= {Fault.SPEAKER}
    return verdict.state is Standing.ACCEPTED and not left


def gold(store: Store, annotations: Annotations) -> Iterator[Gold]:
    """The truth of every source of a build of which a clip was accepted, by source.

    Raises:
        UsageError: if the store is no output folder of a run (a release has no segments to score).
    """
    from dyconv.runner import kept_clips

    if not store.exists(RUN_FILE):
        raise UsageError(f"{store} is no output folder of a run: it has no {RUN_FILE}", hint="give the build, not a release")
    logs = read_ledger(store)
    by_source: dict[str, list[tuple[Clip, Verdict]]] = {}
    for clip in kept_clips(store):
        verdict = annotations.verdict(clip.id, base_of(clip))
        if is_gold(verdict):
            by_source.setdefault(clip.source.id, []).append((clip, verdict))
    for source, judged in sorted(by_source.items()):
        empty = Truth(media=f"{source}.mp4", duration=1.0, layout=None, people=PERSONS)
        build = Build(store, empty, logs[source])
        ends = [clip.span.end for clip in [*build.passed("download"), *(clip for clip, _ in judged)]]
        yield Gold(
            source=source,
            truth=_truth(source, judged, max(ends), build.pixel_scale or 1.0, store),
            clips=len(judged),
            corrected=sum(verdict.turns is not None or verdict.swapped == "voices" for _, verdict in judged),
        )


def write_gold(found: Iterable[Gold], folder: Path) -> list[Path]:
    """Write each truth to `<source>.truth.json` and return the paths; the same gold gives the same bytes."""
    paths = []
    for item in found:
        paths.append(folder / f"{item.source}{SUFFIX}")
        write_truth(paths[-1], item.truth)
    return paths


def _truth(source: str, judged: list[tuple[Clip, Verdict]], end: Fraction, scale: float, store: Store) -> Truth:
    turns: list[TruthTurn] = []
    known: list[Span] = []
    faces: list[TruthFace] = []
    taken: list[Span] = []
    for clip, verdict in sorted(judged, key=lambda item: item[0].span):
        fresh = _without([clip.span], taken)  # clips may overlap: what the first of them says stands
        taken = union([*taken, clip.span])
        said = _turns(clip, verdict)
        known += _without(fresh, [turn.span for turn in said if turn.unsure])
        for turn in said:
            if not turn.unsure:
                parts = [part for span in fresh if (part := turn.span.intersect(span))]
                turns += [TruthTurn(turn.person, float(part.start), float(part.end)) for part in parts]
        faces += _faces(clip, fresh, scale, store)
    return Truth(
        media=f"{source}.mp4",
        duration=float(end),
        layout=None,
        people=PERSONS,
        cuts=None,
        turns=tuple(sorted(turns, key=lambda turn: (turn.start, turn.end, str(turn.person)))),
        faces=tuple(sorted(faces, key=lambda face: (face.start, face.person))),
        known=tuple((float(span.start), float(span.end)) for span in union(known)),
    )


def _turns(clip: Clip, verdict: Verdict) -> list[Turn]:
    """The clip's turns as they should be, on the source's clock."""
    turns = clip.turns if verdict.turns is None else verdict.turns
    turns = exchanged(turns) if verdict.swapped == "voices" else turns
    shifted = (Turn(turn.person, turn.span.shift(clip.span.start), 1.0, turn.unsure) for turn in turns)
    return [Turn(t.person, inside, 1.0, t.unsure) for t in shifted if (inside := t.span.intersect(clip.span))]


def _without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """The time of `spans` that is in none of `holes`."""
    left = list(spans)
    for hole in holes:
        ends = [(span.start, min(span.end, hole.start)) for span in left] + [
            (max(span.start, hole.end), span.end) for span in left
        ]
        left = [Span(start, end) for start, end in ends if start < end]
    return sorted(left)


def _faces(clip: Clip, spans: list[Span], scale: float, store: Store) -> Iterator[TruthFace]:
    """Faces of p0 and p1 with at least a box a second, split where nobody was found for longer."""
    if Key.FACES not in clip.assets:
        return
    arrays = load_faces(store.verified(clip.assets[Key.FACES]))
    names = {person.identity: person.id for person in clip.people if person.identity}
    for track in clip.tracks:
        person = track.person or names.get(track.identity or "")
        found = arrays.get(track.id)
        if person is None or found is None:
            continue
        times = [clip.span.start + int(frame) * FRAME for frame in found.frames]
        for span in spans:
            inside = [n for n, time in enumerate(times) if span.start <= time < span.end]
            for run in _runs(inside, found.frames):
                boxes = tuple(_box(times[n], found.boxes[n] / scale) for n in _thinned(run, found.frames))
                yield TruthFace(person, float(times[run[0]]), float(min(times[run[-1]] + FRAME, span.end)), boxes)


def _box(time: Fraction, box: np.ndarray) -> tuple[float, float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return float(time), x0, y0, x1, y1


def _runs(rows: list[int], frames: np.ndarray) -> list[list[int]]:
    """Rows of rising frames [n] in runs without a gap of a second."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and frames[row] - frames[runs[-1][-1]] < FPS:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _thinned(run: list[int], frames: np.ndarray) -> list[int]:
    """The rows of a run that are needed for a box about every half second: the first, the last, and some between."""
    picked = run[:1]
    for row, after in pairwise(run[1:]):
        if frames[after] - frames[picked[-1]] > FPS // 2:
            picked.append(row)
    return picked + run[-1:] if len(run) > 1 else picked
