"""Which of the voices that a diarizer hears (or a channel carries) is whose.

Each voice k is taken to be active in a frame with probability `rates[k, i]` while person i speaks alone (the last column:
while somebody else does), independently of the other voices. The rates are learnt from the segment itself, by who the faces
say is speaking, and shrunk to what is usual for the voice: one that is heard whoever speaks says nothing, a person split
over two voices has two lesser rates, a voice of nobody on screen keeps to the last column. Two people at once are heard as
either would be.
"""

from __future__ import annotations

import numpy as np

from dyconv.time import FPS

_IN_SILENCE = 0.1  # rate of any voice while nobody speaks
_LEAST = 0.03  # no rate is nearer to 0 or 1
_PRIOR_S = 1.0  # seconds of speech that the usual rate counts for
_NEW = 0.5 * FPS  # frames that count as one observation


def pooled_rates(heard: np.ndarray, speech: np.ndarray, people: int) -> np.ndarray:
    """Rates [K, people + 1] before anything is known: each voice as active as it is on average in speech."""
    usual = (heard * speech).sum(axis=1) / max(float(speech.sum()), 1e-6)
    return np.clip(np.repeat(usual[:, None], people + 1, axis=1), _LEAST, 1 - _LEAST)


def learn_rates(heard: np.ndarray, speech: np.ndarray, alone: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rates [K, P + 1] from probabilities that each person speaks alone [P, T] and that somebody else does [T].

    Args:
        heard: float [K, T], 0 to 1.
        speech: float [T], 0 to 1.

    Moments in which two voices are heard are not learnt from: whoever is taken to be alone there most likely is not.
    """
    second = np.sort(heard, axis=0)[-2] if len(heard) > 1 else np.zeros(len(speech))
    weight = np.concatenate([alone, other[None]]) * speech * (1.0 - second) / _NEW
    usual = pooled_rates(heard, speech, len(alone))
    prior = _PRIOR_S * FPS / _NEW
    rates = (heard @ weight.T + prior * usual) / (weight.sum(axis=1) + prior)
    return np.asarray(np.clip(rates, _LEAST, 1 - _LEAST))


def fit(heard: np.ndarray, rates: np.ndarray, states: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Log-likelihood [T, S] of the voices that are heard in each state.

    Args:
        states: the people who speak in each; silence first, somebody else (also empty) last.
    """
    columns = []
    for index, state in enumerate(states):
        if state:
            rate = 1.0 - np.prod(1.0 - rates[:, list(state)], axis=1)
        else:
            rate = np.full(len(rates), _IN_SILENCE) if index == 0 else rates[:, -1]
        rate = np.clip(rate, _LEAST, 1 - _LEAST)
        columns.append(np.log(rate) @ heard + np.log1p(-rate) @ (1.0 - heard))
    return np.stack(columns, axis=1)


def own_voice(rates: np.ndarray, by: float = 0.0) -> list[int] | None:
    """For each of the people the voice that is heard most while they speak; None where two have the same one.

    Args:
        by: the voice must be heard so much more often, 0 to 1, while they speak than while any of the others does.
    """
    people = rates[:, :-1]
    best = [int(voice) for voice in people.argmax(axis=0)] if len(rates) else []
    if not best or len(set(best)) < len(best):
        return None
    ahead = [people[voice, person] - np.delete(people[voice], person).max(initial=0.0) for person, voice in enumerate(best)]
    return best if min(ahead) >= by else None
