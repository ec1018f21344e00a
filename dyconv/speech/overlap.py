"""Two voices of one clip: the mix itself where one person speaks alone, a separator's work where both do.

Only the stretches where both speak are separated, with a second of what lies around them, in pieces of bounded length. The
joins are cross-faded in 15 ms: inside the overlap where it meets one person's own speech, so that this speech stays an
exact copy, and outside of it where it meets silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dyconv.speech.turns import close_gaps, runs
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME

FADE = 15 * SAMPLE_RATE // 1000  # samples of a raised-cosine fade, 15 ms: shorter than a frame, too long to click
CONTEXT = FPS  # frames before and after an overlap that the separator hears as well
LONGEST = 4 * FPS  # frames of one piece
_MEET = 5  # frames over which two pieces of one long overlap pass into each other


@dataclass(frozen=True)
class Piece:
    """Frames of a clip: [start, stop) is heard, [low, high) of it is used, with ramps where another piece goes on."""

    start: int
    stop: int
    low: int
    high: int
    ramp_in: bool
    ramp_out: bool


# Of a piece: where it lies, mono 16 kHz [n], activity bool [2, n / 640]; to both voices [2, n]. None: it cannot be told
# whose is which.
SeparatePiece = Callable[[Piece, np.ndarray, np.ndarray], np.ndarray | None]


def pieces(both: np.ndarray) -> list[Piece]:
    """What to separate, for frames bool [T] in which both speak: near overlaps together, long ones in equal parts."""
    out = []
    for start, end in runs(close_gaps(both, CONTEXT)):
        parts = -(-(end - start) // LONGEST)
        edges = [start + (end - start) * part // parts for part in range(parts + 1)]
        for index in range(parts):
            first, last = index == 0, index == parts - 1
            low = edges[index] - (1 if first else _MEET)
            high = edges[index + 1] + (1 if last else _MEET)
            low, high = max(low, 0), min(high, len(both))
            out.append(Piece(max(low - CONTEXT, 0), min(high + CONTEXT, len(both)), low, high, not first, not last))
    return out


def two_voices(mix: np.ndarray, activity: np.ndarray, separate: SeparatePiece) -> np.ndarray:
    """Voices float32 [2, N].

    Args:
        mix: mono 16 kHz float32 [N].
        activity: who speaks when, float [2, T] in 0 to 1; from 0.5 on a person speaks.
        separate: called for each piece in order of time. Where it returns None both voices are the mix.
    """
    active = np.asarray(activity) >= 0.5
    both = active[0] & active[1]
    taken = _separated(mix, active, separate)
    alone = active & ~both
    overlap = gate(both, alone[0] | alone[1], len(mix))
    return np.stack([mix * gate(alone[p], alone[1 - p], len(mix)) + taken[p] * overlap for p in range(2)])


def _separated(mix: np.ndarray, active: np.ndarray, separate: SeparatePiece) -> np.ndarray:
    """Both voices [2, N] in and a frame around the overlaps, zeros elsewhere."""
    out = np.zeros((2, len(mix)), np.float32)
    for piece in pieces(active[0] & active[1]):
        heard = np.zeros((piece.stop - piece.start) * SAMPLES_PER_FRAME, np.float32)
        part = mix[piece.start * SAMPLES_PER_FRAME : piece.stop * SAMPLES_PER_FRAME]
        heard[: len(part)] = part
        voices = separate(piece, heard, active[:, piece.start : piece.stop])
        voices = np.stack([heard, heard]) if voices is None else voices
        first = (piece.low - piece.start) * SAMPLES_PER_FRAME
        target = out[:, piece.low * SAMPLES_PER_FRAME : piece.high * SAMPLES_PER_FRAME]
        target += voices[:, first : first + target.shape[1]] * _weight(piece)[: target.shape[1]]
    return out


def _weight(piece: Piece) -> np.ndarray:
    """Gain [samples of low to high] of a piece; ramps of neighbours sum to one."""
    gain = np.ones((piece.high - piece.low) * SAMPLES_PER_FRAME, np.float32)
    count = 2 * _MEET * SAMPLES_PER_FRAME
    ramp = ((np.arange(count) + 0.5) / count).astype(np.float32)
    if piece.ramp_in:
        gain[:count] *= ramp
    if piece.ramp_out:
        gain[-count:] *= ramp[::-1]
    return gain


def gate(own: np.ndarray, others: np.ndarray, samples: int) -> np.ndarray:
    """Gain float32 [samples] in 0 to 1: 1 where `own` bool [T] holds, raised-cosine fades at its edges.

    A fade lies outside of `own`, so that onsets are whole, unless the neighbouring frame is one of `others` bool [T].
    """
    gain = np.zeros(samples, np.float32)
    rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(FADE) + 0.5) / FADE)).astype(np.float32)
    for start, end in runs(own):
        first, last = start * SAMPLES_PER_FRAME, min(end * SAMPLES_PER_FRAME, samples)
        gain[first:last] = 1.0
        if start > 0:
            low = first if others[start - 1] else first - FADE
            _lay(gain, low, rise, inside=bool(others[start - 1]))
        if end < len(own):
            low = last - FADE if others[end] else last
            _lay(gain, low, rise[::-1], inside=bool(others[end]))
    return gain


def _lay(gain: np.ndarray, start: int, ramp: np.ndarray, *, inside: bool) -> None:
    """Put a ramp at `start`: inside a turn it lowers the gain, outside it raises it (two turns may fade into one gap)."""
    part = gain[start : start + len(ramp)]
    (np.minimum if inside else np.maximum)(part, ramp[: len(part)], out=part)
