"""Which of some separated sounds is whose, where a separator does not know the people."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from dyconv.speech.bleed import frame_energy

_LEAST_SOLO = 10  # frames in which people speak alone, 0.4 s, with fewer of which nothing can be told
_MARGIN = 0.2  # by how much the best assignment must beat the next, of 2: one a person


def own_sources(sources: np.ndarray, active: np.ndarray) -> np.ndarray | None:
    """The source of each person, float32 [2, N], or None where it is not clear.

    A person's source is the one that is heard while they speak alone: the assignment whose sources hold the largest
    share of the sound there.

    Args:
        sources: float32 [S, N], S >= 2, mono 16 kHz.
        active: who speaks when, bool [2, T].
    """
    alone = active & ~active[::-1]
    if alone.sum() < _LEAST_SOLO or len(sources) < 2:
        return None
    energy = np.stack([frame_energy(source, active.shape[1]) for source in sources])
    held = np.stack([energy[:, own].sum(axis=1) for own in alone])  # [person, source]
    share = held / (held.sum(axis=1, keepdims=True) + 1e-12)
    fits = sorted(((share[0, a] + share[1, b], (a, b)) for a, b in permutations(range(len(sources)), 2)), reverse=True)
    if fits[0][0] - fits[1][0] < _MARGIN:
        return None
    return np.asarray(sources[list(fits[0][1])], np.float32)


def levelled(sources: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """Sources [2, N] each scaled so that together they fit the mix [N] best (least squares, no sign changed)."""
    gram = sources @ sources.T + 1e-6 * np.eye(2) * (1e-6 + float((sources**2).sum()))
    gains = np.maximum(np.linalg.solve(gram.astype(float), (sources @ mix).astype(float)), 0.0)
    return np.asarray(sources * gains[:, None], np.float32)
