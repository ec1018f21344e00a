"""Who speaks when: lays the utterances of several voices out on one clock, with the overlap that was asked for.

Overlap is the share of speech time (at least one voice is heard) in which two or more voices are heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dyconv.synth.sound import Stretch, faded
from dyconv.time import SAMPLE_RATE
from dyconv.truth import TruthTurn

_RATE = 100  # the plan is made in steps of 10 ms
_PAUSE_S = (0.15, 0.55)  # between two speakers who do not overlap
_TURN_S = (1.2, 5.0)
_STEPS = 41
_SHORTEST = SAMPLE_RATE * 3 // 10  # of an utterance that the end cuts off


@dataclass(frozen=True)
class Placed:
    """Utterance `piece` of `person`'s voice, heard from output sample `at` on."""

    person: str
    piece: Stretch
    at: int

    @property
    def end(self) -> int:
        return self.at + len(self.piece)


@dataclass(frozen=True)
class _Turn:
    """Utterances one after the other with the pauses between them: (offset from the turn's start, piece)."""

    person: str
    pieces: tuple[tuple[int, Stretch], ...]
    length: int
    pause: int


def plan(voices: Mapping[str, list[Stretch]], samples: int, overlap: float, seed: int) -> list[Placed]:
    """Utterances of two voices (and a third, named last) in about the asked overlap, in order of time, within `samples`.

    The voices take turns of 1 to 5 s; a third one takes about every fifth turn. A voice that runs out starts over.
    Candidate plans with more and more overlap are made, and the one that comes nearest is kept.
    """
    turns = _turns(voices, samples, seed)
    candidates = [_alternating(turns, step / (_STEPS - 1), samples) for step in range(_STEPS)]
    candidates += [_at_once(turns, step / 10, samples) for step in range(11)] if overlap > 0.5 else []
    return min(candidates, key=lambda plan: abs(overlap_share(plan, samples) - overlap))


def overlap_share(placed: list[Placed], samples: int) -> float:
    """Share of speech time with two or more voices, 0 to 1."""
    heard = activity(placed, samples)
    count = np.sum(list(heard.values()), axis=0) if heard else np.zeros(1)
    return float((count > 1).sum() / max(1, (count > 0).sum()))


def activity(placed: list[Placed], samples: int) -> dict[str, np.ndarray]:
    """For each person bool [samples // 160]: heard in this 10 ms."""
    step = SAMPLE_RATE // _RATE
    out: dict[str, np.ndarray] = {}
    for item in placed:
        out.setdefault(item.person, np.zeros(samples // step, bool))[item.at // step : item.end // step] = True
    return out


def sound_of(placed: list[Placed], person: str, voice: np.ndarray, samples: int) -> np.ndarray:
    """What is heard of one person: float32 [samples], silence but for the placed utterances."""
    out = np.zeros(samples, np.float32)
    for item in placed:
        if item.person == person:
            out[item.at : item.end] += faded(voice[item.piece.start : item.piece.stop])
    return out


def truth_turns(placed: list[Placed]) -> tuple[TruthTurn, ...]:
    """One turn an utterance, in order of time."""
    ordered = sorted(placed, key=lambda item: (item.at, item.person))
    return tuple(TruthTurn(item.person, item.at / SAMPLE_RATE, item.end / SAMPLE_RATE) for item in ordered)


def _turns(voices: Mapping[str, list[Stretch]], samples: int, seed: int) -> list[_Turn]:
    """Turns in the order in which they are taken, enough to fill `samples` even if all were heard at once."""
    rng = np.random.default_rng([seed, 1])
    names = list(voices)
    position = dict.fromkeys(names, 0)
    turns: list[_Turn] = []
    need, main = 3 * samples, 0
    while need > 0:
        third = len(names) > 2 and len(turns) % 5 == 3
        person = names[2] if third else names[main % 2]
        main += not third
        turn = _next_turn(person, voices[person], position, rng, samples)
        turns.append(turn)
        need -= turn.length
    return turns


def _next_turn(person: str, pieces: list[Stretch], position: dict[str, int], rng: np.random.Generator, samples: int) -> _Turn:
    """The next utterances of a voice, as many as fit the length drawn for this turn (one at least)."""
    wanted = rng.uniform(*_TURN_S) * SAMPLE_RATE
    pause = int(rng.uniform(*_PAUSE_S) * SAMPLE_RATE)
    taken: list[tuple[int, Stretch]] = []
    length = 0
    while True:
        index = position[person]
        piece = pieces[index % len(pieces)]
        piece = Stretch(piece.start, min(piece.stop, piece.start + samples // 3))  # everybody gets a word in
        gap = 0
        if taken:  # keep the voice's own pause, up to half a second
            gap = min(max(piece.start - taken[-1][1].stop, 0), SAMPLE_RATE // 2) or SAMPLE_RATE // 4
        if taken and length + gap + len(piece) > wanted:
            return _Turn(person, tuple(taken), length, pause)
        taken.append((length + gap, piece))
        length += gap + len(piece)
        position[person] = index + 1


def _alternating(turns: list[_Turn], depth: float, samples: int) -> list[Placed]:
    """Each turn begins before the last one ends, by `depth` (0 to 1) of the shorter of the two."""
    free: dict[str, int] = {}
    placed: list[Placed] = []
    last_end, last_length, begin = 0, 0, 0
    for index, turn in enumerate(turns):
        early = int(depth * min(last_length, turn.length))
        begin = last_end - early if early else last_end + (turn.pause if index else 0)
        begin = max(begin, free.get(turn.person, 0), 0)
        placed += _place(turn, begin, samples)
        free[turn.person] = begin + turn.length + SAMPLE_RATE // 10
        if begin > samples:
            break
        last_end, last_length = begin + turn.length, turn.length
    return placed


def _at_once(turns: list[_Turn], pause_s: float, samples: int) -> list[Placed]:
    """Everybody speaks on without minding the others, with pauses of at most `pause_s`."""
    free: dict[str, int] = {}
    placed: list[Placed] = []
    pause = int(pause_s * SAMPLE_RATE)
    for turn in turns:
        for _, piece in turn.pieces:
            begin = free.get(turn.person, 0)
            placed += _place(_Turn(turn.person, ((0, piece),), len(piece), 0), begin, samples)
            free[turn.person] = begin + len(piece) + max(pause, SAMPLE_RATE // 50)
    return placed


def _place(turn: _Turn, begin: int, samples: int) -> list[Placed]:
    """The utterances of a turn from the 10 ms step at or before `begin`; the end of the conversation cuts them off."""
    step = SAMPLE_RATE // _RATE
    begin = begin // step * step
    placed = []
    for at, piece in turn.pieces:
        stop = min(piece.stop, piece.start + samples - begin - at)
        if stop - piece.start >= min(len(piece), _SHORTEST):
            placed.append(Placed(turn.person, Stretch(piece.start, stop), begin + at))
    return placed
