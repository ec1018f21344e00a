"""Who speaks when, from per-frame evidence: a hidden Markov model over silence, each person, pairs, and somebody else.

Evidence of neighbouring frames is not independent (lip evidence comes from windows of about a second), so each kind is
weighted down to what a frame adds. Posteriors come from the forward-backward recursion, the path from Viterbi
(Rabiner 1989, "A tutorial on hidden Markov models"). In Python, frame by frame, ten minutes take a third of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dyconv.speech.heard import fit, usual_shares
from dyconv.time import FPS


@dataclass(frozen=True)
class Evidence:
    """What is known in each 25 fps frame of people 0 .. P-1.

    Attributes:
        speech: float [T], VAD probability.
        lips: float [P, T], log odds that the person's lips go with the sound; 0 where the face is not seen.
        voice: float [P, T], log-likelihood of the person's voice against the mean of everybody's; 0 where unknown.
        seen: bool [P, T], whether the face is seen.
        others: float [T], the best log odds of any further face on screen; 0 where there is none.
        heard: float [K, T] in 0 to 1, when each voice is active by sound alone; nobody knows yet whose they are. None: not
            known.
        overlap: float [T], probability that several voices are heard; None where only `heard` tells.
        together: float [T], log-likelihood that it sounds like two people at once against the mean of either alone.
    """

    speech: np.ndarray
    lips: np.ndarray
    voice: np.ndarray
    seen: np.ndarray
    others: np.ndarray
    heard: np.ndarray | None = None
    overlap: np.ndarray | None = None
    together: np.ndarray | float = 0.0


@dataclass(frozen=True)
class Decoding:
    """Attributes, all [.., T].

    Attributes:
        persons: float32 [P, T], probability that the person speaks (alone or with somebody).
        other: float32 [T], probability that somebody speaks who is none of them, or that nothing fits.
        silence: float32 [T].
        alone: float32 [P, T], probability that the person speaks and nobody else does.
        path: int [T], the most likely state.
        states: for each state the people who speak in it; silence first, somebody else (also empty) last.
    """

    persons: np.ndarray
    other: np.ndarray
    silence: np.ndarray
    alone: np.ndarray
    path: np.ndarray
    states: tuple[tuple[int, ...], ...]

    def speaks(self, person: int) -> np.ndarray:
        """Bool [T]: the most likely path has this person speak."""
        return np.array([person in state for state in self.states])[self.path]


@dataclass(frozen=True)
class TurnModel:
    """The model's constants.

    Attributes:
        silence_s, solo_s, both_s, other_s: mean seconds a state lasts.
        speech_weight, lip_weight, voice_weight, heard_weight: share of a frame's log odds that counts as new.
        both_cost: log odds against two speaking at once, per frame before `lip_weight`.
        other_cost: the same against somebody who is none of the people.
        hidden_both_cost: the same for an overlap with somebody who is not seen, of whom only the voice could tell.
    """

    silence_s: float = 0.7
    solo_s: float = 2.5
    both_s: float = 0.6
    other_s: float = 1.2
    speech_weight: float = 0.5
    lip_weight: float = 0.3
    voice_weight: float = 0.3
    heard_weight: float = 0.3
    both_cost: float = 0.4
    other_cost: float = 1.0
    hidden_both_cost: float = 1.0

    def decode(self, evidence: Evidence, shares: np.ndarray | None = None) -> Decoding:
        """Posteriors and best path for P people, P >= 1.

        Args:
            shares: float [K, P + 1], see `dyconv.speech.heard`; without them the voices say only how many speak.
        """
        people = len(evidence.lips)
        states = ((), *((person,) for person in range(people)), *combinations(range(people), 2), ())
        emission = self._emission(evidence, states)
        if evidence.heard is not None and len(evidence.heard):
            shares = usual_shares(evidence.heard, evidence.speech, people) if shares is None else shares
            emission += self.heard_weight * fit(evidence.heard, shares, states, evidence.overlap)
        moves = self._moves(states)
        posterior = _forward_backward(emission, moves)
        persons = np.zeros((people, emission.shape[0]))
        for index, state in enumerate(states):
            for person in state:
                persons[person] += posterior[:, index]
        return Decoding(
            persons=np.minimum(persons, 1.0).astype(np.float32),
            other=posterior[:, -1].astype(np.float32),
            silence=posterior[:, 0].astype(np.float32),
            alone=posterior[:, 1 : people + 1].T.astype(np.float32),
            path=_viterbi(emission, moves),
            states=states,
        )

    def _emission(self, evidence: Evidence, states: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """Log-likelihood [T, S], up to a constant per frame."""
        speech = np.clip(evidence.speech.astype(float), 0.02, 0.98)
        talk, quiet = self.speech_weight * np.log(speech), self.speech_weight * np.log1p(-speech)
        columns = [quiet]
        for state in states[1:]:
            score = np.zeros(len(speech))
            for person in state:
                score += self.lip_weight * evidence.lips[person]
                score += self.voice_weight * evidence.voice[person] / len(state)
            if len(state) == 2:
                score += self.voice_weight * evidence.together
                hidden = ~(evidence.seen[state[0]] & evidence.seen[state[1]])
                score -= self.lip_weight * np.where(hidden, self.hidden_both_cost, self.both_cost)
            if not state:
                score += self.lip_weight * (evidence.others - self.other_cost)
            columns.append(talk + score)
        return np.stack(columns, axis=1)

    def _moves(self, states: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """Log transition probabilities [S, S]."""
        last = len(states) - 1
        seconds = [self.both_s if len(state) == 2 else self.solo_s for state in states]
        seconds[0], seconds[last] = self.silence_s, self.other_s
        moves = np.zeros((len(states), len(states)))
        for row, source in enumerate(states):
            for column, target in enumerate(states):
                if row != column:
                    moves[row, column] = _ease(row, column, source, target, last)
            leave = 1.0 / (FPS * seconds[row])
            moves[row] *= leave / moves[row].sum()
            moves[row, row] = 1.0 - leave
        return np.log(np.maximum(moves, 1e-12))


def _ease(row: int, column: int, source: tuple[int, ...], target: tuple[int, ...], last: int) -> float:
    """Relative ease of a change: pairs are entered from and left to one of their own, somebody else is rare."""
    if last in (row, column):
        return 0.1
    if len(source) == 2 or len(target) == 2:
        return 0.5 if set(source) & set(target) else 0.02
    return 1.0


def _forward_backward(emission: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Posterior [T, S]; each step is normalised, so nothing underflows."""
    steps, size = emission.shape
    likely = np.exp(emission - emission.max(axis=1, keepdims=True))
    move = np.exp(moves)
    forward = np.empty((steps, size))
    backward = np.ones((steps, size))
    state = np.full(size, 1.0 / size)
    for step in range(steps):
        state = (state @ move if step else state) * likely[step]
        state /= state.sum()
        forward[step] = state
    for step in range(steps - 2, -1, -1):
        back = move @ (backward[step + 1] * likely[step + 1])
        backward[step] = back / back.sum()
    posterior = forward * backward
    return posterior / posterior.sum(axis=1, keepdims=True)


def _viterbi(emission: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """The single most likely state sequence, int [T]."""
    steps, size = emission.shape
    came = np.zeros((steps, size), np.int64)
    score = emission[0] - np.log(size) if steps else np.zeros(size)
    for step in range(1, steps):
        reach = score[:, None] + moves
        came[step] = reach.argmax(axis=0)
        score = reach.max(axis=0) + emission[step]
    path = np.zeros(steps, np.int64)
    if steps:
        path[-1] = int(score.argmax())
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came[step, path[step]]
    return path
