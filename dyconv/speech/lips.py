"""How much each face's lips mean, learnt from the segment itself.

A model's log odds are right on average, not for every face: one person mumbles, another chews, a third is half in profile.
Who speaks when is known in part without them, from the voices, and so it can be seen how a face scores while its owner
speaks, and while somebody else does. Two Gaussians with one variance turn scores into log odds, shrunk to the model's own.
"""

from __future__ import annotations

import numpy as np

from dyconv.time import FPS

_USUAL, _SPREAD = 2.0, 4.0  # mean of a speaker (of a listener its negative) and variance: log odds stay as they are
_PRIOR_S = 4.0  # seconds for which the model's own scale counts
_NEW = 0.5 * FPS  # frames that count as one observation
_LIMIT = 4.0  # log odds of one frame


def read_lips(lips: np.ndarray, seen: np.ndarray, speech: np.ndarray, speaks: np.ndarray) -> np.ndarray:
    """Log odds [P, T] anew: 0 where a face scores no higher while its owner speaks, or is not seen.

    Args:
        lips: a model's log odds float [P, T].
        seen: bool [P, T].
        speech: float [T], 0 to 1.
        speaks: float [P, T], probability that the person is one who speaks, by everything that is known.
    """
    weight = seen * speech / _NEW
    prior = _PRIOR_S * FPS / _NEW
    out = np.zeros(lips.shape)
    for person, score in enumerate(lips):
        means, total, spread = [], prior, prior * _SPREAD
        for usual, share in ((_USUAL, speaks[person]), (-_USUAL, 1.0 - speaks[person])):
            count = weight[person] * share
            mean = (float(count @ score) + prior * usual) / (float(count.sum()) + prior)
            means.append(mean)
            total += float(count.sum())
            spread += float(count @ (score - mean) ** 2)
        slope = max(means[0] - means[1], 0.0) / (spread / total)
        out[person] = np.clip(slope * (score - sum(means) / 2), -_LIMIT, _LIMIT) * seen[person]
    return out


def leaning(lips: np.ndarray) -> np.ndarray:
    """Float [P, T], sums to 1 over people: whom the lips would name, had exactly one of them to be the speaker."""
    chance = np.exp((lips - lips.max(axis=0)) / 2)
    return np.asarray(chance / chance.sum(axis=0))
