"""Turns as intervals and as frames, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dyconv.records import PERSONS, Turn


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Half-open index ranges in which a bool array [T] is true, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(mask, bool), [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def close_gaps(mask: np.ndarray, frames: int) -> np.ndarray:
    """A copy of bool [T] in which false runs of at most `frames` between two true ones are filled."""
    out = np.array(mask, bool)
    for start, end in runs(~out):
        if start > 0 and end < len(out) and end - start <= frames:
            out[start:end] = True
    return out


def drop_short(mask: np.ndarray, frames: int) -> np.ndarray:
    """A copy of bool [T] without true runs shorter than `frames`."""
    out = np.array(mask, bool)
    for start, end in runs(out):
        if end - start < frames:
            out[start:end] = False
    return out


def activity(turns: Sequence[Turn], frames: int) -> np.ndarray:
    """Who speaks when, float32 [2, frames]: 1 in the frames of the turns of p0 and p1, 0 elsewhere."""
    out = np.zeros((len(PERSONS), frames), np.float32)
    for turn in turns:
        if turn.person in PERSONS:
            inside = turn.span.frames
            out[PERSONS.index(turn.person), max(inside.start, 0) : min(inside.stop, frames)] = 1.0
    return out


def speaker_changes(turns: Sequence[Turn]) -> int:
    """How often the floor passes from one of the two people to the other, by the starts of their turns."""
    order = [turn.person for turn in sorted(turns, key=lambda turn: turn.span) if turn.person is not None]
    return sum(before != after for before, after in pairwise(order))
