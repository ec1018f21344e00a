"""How people talk in a dataset: shares of speech, turns, response times, backchannels. Read off who speaks when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dyconv.speech.turns import close_gaps, drop_short, runs
from dyconv.time import FPS
from training.evaluation.evidence import Evidence
from training.evaluation.metric import Choice, Family, Replay, Sums

NAME = "talk"
GAP = 12  # frames of silence (0.5 s) within a turn
SHORTEST = 5  # frames (0.2 s) of speech that make a turn
BACKCHANNEL = FPS  # frames a backchannel lasts at most, and within which the partner speaks before and after it
EARLIEST, LATEST = -2 * FPS, 5 * FPS  # frames: a response beyond these is none to what was said
_MINUTE = 60.0 * FPS


Span = tuple[int, int]  # frames, half-open


@dataclass(frozen=True)
class Floor:
    """Who speaks when, bool [T] each; `known` where that was decided."""

    own: np.ndarray
    partner: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, slices: Mapping[str, np.ndarray], frames: int) -> Floor | None:
        """By the slices `state=...`; None where nothing is known."""
        none = np.zeros(frames, bool)
        speaking, listening, both, silent = (
            slices.get(f"state={name}", none) for name in ("speaking", "listening", "both", "silent")
        )
        known = speaking | listening | both | silent
        return cls(speaking | both, listening | both, known) if known.any() else None

    @cached_property
    def turns(self) -> tuple[list[Span], list[Span]]:
        """Own and partner's turns: pauses up to 0.5 s belong to them, sounds under 0.2 s make none."""
        own, partner = (runs(drop_short(close_gaps(mask, GAP), SHORTEST)) for mask in (self.own, self.partner))
        return own, partner

    @cached_property
    def backchannels(self) -> list[Span]:
        """Own turns of at most 1 s with the partner speaking within 1 s before and after: the floor does not change."""
        return _within(self.turns[0], self.partner)

    @property
    def responses(self) -> list[tuple[int, int]]:
        """(frame, offset in frames) where the floor passes from the partner to the own turn that begins there.

        The offset is from the end of the partner's turn, negative in overlap (Heldner & Edlund, J. Phonetics 38, 2010): of the
        partner's latest turn begun before, if no own turn began in between and the partner does not outlast the own turn.
        Backchannels take no floor.
        """
        brief = set(self.backchannels), set(_within(self.turns[1], self.own))
        own, partner = ([turn for turn in turns if turn not in left] for turns, left in zip(self.turns, brief, strict=True))
        found = []
        for number, (start, end) in enumerate(own):
            before = [turn for turn in partner if turn[0] < start]
            last = own[number - 1][0] if number else -1
            if before and before[-1][0] >= last and before[-1][1] < end:
                found.append((start, start - before[-1][1]))
        return [(start, offset) for start, offset in found if EARLIEST <= offset <= LATEST]


def _within(turns: list[Span], other: np.ndarray) -> list[Span]:
    """Those of the turns that are backchannels to the other's speech, bool [T]."""
    return [
        (start, end)
        for start, end in turns
        if end - start <= BACKCHANNEL
        and other[max(0, start - BACKCHANNEL) : start].any()
        and other[end : end + BACKCHANNEL].any()
    ]


class Talk:
    """A metric of talk, of the person whose case it is.

    Turns count where they begin in the mask. Each of `of` gives parts that add up.
    """

    heavy = False
    better = ""
    needs: frozenset[str] = frozenset()

    def __init__(self, name: str, *, unit: str, about: str) -> None:
        self.name, self.unit, self.about = f"{NAME}.{name}", unit, about

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        floor = Floor.of(evidence.slices, len(mask))
        return self.of(floor, mask) if floor is not None and (floor.known & mask).any() else None

    def of(self, floor: Floor, mask: np.ndarray) -> Sums | None:
        """`sum` and `count`."""
        raise NotImplementedError

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["count"]) if sums["count"] else float("nan")


class Share(Talk):
    """Share of the decided time."""

    def __init__(self, name: str, *, own: bool, partner: bool | None, about: str) -> None:
        super().__init__(name, unit="", about=about)
        self.own, self.partner = own, partner

    def of(self, floor: Floor, mask: np.ndarray) -> Sums | None:
        inside = floor.known & mask
        wanted = inside & (floor.own == self.own)
        if self.partner is not None:
            wanted &= floor.partner == self.partner
        return _ratio(wanted.sum(), inside.sum())


class Turns(Talk):
    """Turns a minute of decided time."""

    def of(self, floor: Floor, mask: np.ndarray) -> Sums | None:
        return _ratio(sum(mask[start] for start, _ in floor.turns[0]), (floor.known & mask).sum() / _MINUTE)


class Backchannels(Talk):
    """Backchannels a minute of the partner's speech."""

    def of(self, floor: Floor, mask: np.ndarray) -> Sums | None:
        heard = (floor.partner & mask).sum() / _MINUTE
        return _ratio(sum(mask[start] for start, _ in floor.backchannels), heard) if heard else None


class Response(Talk):
    """Median of the time from the end of the partner's turn to the own one: of a histogram of frames, which adds up."""

    def of(self, floor: Floor, mask: np.ndarray) -> Sums | None:
        offsets = [offset - EARLIEST for start, offset in floor.responses if mask[start]]
        if not offsets:
            return None
        return {"offsets": np.bincount(offsets, minlength=LATEST - EARLIEST + 1).astype(np.float64)}

    def value(self, sums: Sums) -> float:
        counts = sums["offsets"]
        reached, half = np.cumsum(counts), counts.sum() / 2
        if half <= 0:
            return float("nan")
        low, high = np.searchsorted(reached, half, side="left"), np.searchsorted(reached, half, side="right")
        return float(((low + min(high, len(counts) - 1)) / 2 + EARLIEST) / FPS)


def _ratio(amount: float, count: float) -> Sums:
    return {"sum": np.asarray(float(amount)), "count": np.asarray(float(count))}


def family(choice: Choice) -> Family:
    """Talk statistics by the turns of the record; they need no pictures."""
    backchannels = "Own turns of at most 1 s inside the partner's speech, a minute of the partner's speech."
    response = "Median time from the end of the partner's turn to the own one, negative in overlap (Heldner & Edlund 2010)."
    return Family(
        (
            Share("speaking", own=True, partner=None, about="Share of the time in which the person speaks."),
            Share("overlap", own=True, partner=True, about="Share of the time in which both speak."),
            Share("silence", own=False, partner=False, about="Share of the time in which nobody speaks."),
            Turns("turns", unit="a minute", about="Turns of the person; pauses up to 0.5 s do not end one."),
            Response("response", unit="s", about=response),
            Backchannels("backchannels", unit="a minute", about=backchannels),
        )
    )
