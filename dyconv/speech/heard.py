"""Which of the voices that a diarizer hears (or a channel carries) is whose.

In each frame none of the voices is active, or exactly one, or several. How many there are tells silence, one speaker and
overlap apart; which one it is tells the speakers apart. `shares[k, i]` is the probability that it is voice k while
person i speaks alone (the last column: while somebody else does). Shares are learnt from the segment itself, by who the faces
say is speaking, and shrunk to what is usual: a voice that is heard whoever speaks says nothing, a person split over two
voices has a part in both, a voice of nobody on screen keeps to the last column.
"""

from __future__ import annotations

import numpy as np

from dyconv.time import FPS

# Probability of no voice, one, and several, as a small diarizer errs.
_SILENCE, _ONE, _BOTH = (0.85, 0.12, 0.03), (0.06, 0.87, 0.07), (0.02, 0.48, 0.50)
_OVERLAP, _OVERLAP_RANGE = 0.11, (0.02, 0.95)  # how usual several voices are in speech; no detector is surer
_LEAST = 0.02  # no share is smaller
_PRIOR_S = 1.0  # seconds of speech that the usual share counts for
_NEW = 0.5 * FPS  # frames that count as one observation


def counted(heard: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability of no voice [T], of exactly this voice [K, T], and of several [T], of activities [K, T] in 0 to 1."""
    heard = np.clip(heard, 1e-3, 1 - 1e-3)
    none = np.prod(1.0 - heard, axis=0)
    one = none * heard / (1.0 - heard)
    return none, one, np.maximum(1.0 - none - one.sum(axis=0), 0.0)


def usual_shares(heard: np.ndarray, speech: np.ndarray, people: int) -> np.ndarray:
    """Shares [K, people + 1] before anything is known: each voice as it is on average in speech."""
    total = (counted(heard)[1] * speech).sum(axis=1)
    return np.repeat(_normalised(total / max(float(total.sum()), 1e-6))[:, None], people + 1, axis=1)


def learn_shares(heard: np.ndarray, speech: np.ndarray, alone: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shares [K, P + 1] from probabilities that each person speaks alone [P, T] and that somebody else does [T].

    Args:
        heard: float [K, T], 0 to 1.
        speech: float [T], 0 to 1.
    """
    weight = np.concatenate([alone, other[None]]) * speech / _NEW
    prior = _PRIOR_S * FPS / _NEW
    total = counted(heard)[1] @ weight.T + prior * usual_shares(heard, speech, len(alone))
    return np.stack([_normalised(column / column.sum()) for column in total.T], axis=1)


def fit(
    heard: np.ndarray, shares: np.ndarray, states: tuple[tuple[int, ...], ...], overlap: np.ndarray | None = None
) -> np.ndarray:
    """Log-likelihood [T, S] of the voices that are heard in each state.

    Args:
        heard: float [K, T], 0 to 1.
        overlap: float [T], the probability of several voices where it is known by itself. What the activities say of it is
            then not used, and how likely it is beyond what is usual counts in full.
        states: the people who speak in each; silence first, somebody else (also empty) last.
    """
    none, one, several = counted(heard)
    if overlap is not None:
        return _fit_apart(none, one / np.maximum(one.sum(axis=0), 1e-9), shares, states, overlap)
    columns = []
    for index, state in enumerate(states):
        odds = _SILENCE if index == 0 else _BOTH if len(state) > 1 else _ONE
        which = shares.mean(axis=1) if index == 0 else shares[:, list(state) or [-1]].mean(axis=1)
        columns.append(np.log(odds[0] * none + odds[1] * (which @ one) + odds[2] * several))
    return np.stack(columns, axis=1)


def _fit_apart(
    none: np.ndarray, which: np.ndarray, shares: np.ndarray, states: tuple[tuple[int, ...], ...], overlap: np.ndarray
) -> np.ndarray:
    """As `fit`, of whether somebody is heard, of which voice [K, T] it is, and of whether it is several."""
    chance = np.clip(overlap, *_OVERLAP_RANGE)
    several, single = np.log(chance / _OVERLAP), np.log((1.0 - chance) / (1.0 - _OVERLAP))
    columns = []
    for index, state in enumerate(states):
        quiet = _SILENCE[0] if index == 0 else _ONE[0]
        voice = shares.mean(axis=1) if index == 0 else shares[:, list(state) or [-1]].mean(axis=1)
        columns.append(
            np.log(quiet * none + (1.0 - quiet) * (1.0 - none) * (voice @ which)) + (several if len(state) > 1 else single)
        )
    return np.stack(columns, axis=1)


def own_voice(shares: np.ndarray, by: float = 0.0) -> list[int] | None:
    """For each of the people the voice that is heard most while they speak; None where two have the same one.

    Args:
        by: the voice must have so much larger a share, 0 to 1, while they speak than while any of the others does.
    """
    people = shares[:, :-1]
    best = [int(voice) for voice in people.argmax(axis=0)] if len(shares) else []
    if not best or len(set(best)) < len(best):
        return None
    ahead = [people[voice, person] - np.delete(people[voice], person).max(initial=0.0) for person, voice in enumerate(best)]
    return best if min(ahead) >= by else None


def _normalised(shares: np.ndarray) -> np.ndarray:
    shares = np.maximum(shares, _LEAST)
    return np.asarray(shares / shares.sum())
