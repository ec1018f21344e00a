"""The measures of `dyconv score` on the voices that a build wrote: SI-SDR, bleed, and whether p0 and p1 change places.

All of a person's clips are scored as one signal, one after the other, so that a short clip counts as little as it lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.score_metrics import mean, si_sdr_db
from dyconv.speech.bleed import FLOOR_DB, bleed_db
from dyconv.speech.turns import drop_short
from dyconv.time import FPS, SAMPLES_PER_FRAME

_OVERLAP_S = 0.3  # a shorter stretch of two voices says little about their separation
_MOST_GAINED_DB = 30.0
_WINDOW = 10  # frames in which it is asked whose voice a track holds
_SURELY = 2.0  # by this factor one assignment must fit better than the other
_SWAP_S = 3.0  # seconds of speech in the wrong track that count as much as one change of places


@dataclass(frozen=True)
class Voice:
    """One voice of one clip beside the truth of the same stretch.

    Samples float32 [N] at 16 kHz; float [N / 640] per frame, 0 or 1. `true` is silent where the truth has no voices, and
    `partner` is then what is heard in the mix.
    """

    person: str
    true: np.ndarray
    estimate: np.ndarray
    mix: np.ndarray
    partner: np.ndarray
    partner_only: np.ndarray
    both: np.ndarray


def voice_scores(voices: Sequence[Voice], *, known: bool) -> dict[str, float | None]:
    """Means over the people; None where there is nothing to measure.

    Args:
        known: whether the truth has the voices alone; if not, only the bleed can be told.
    """
    found: dict[str, list[float | None]] = {
        name: [] for name in ("si_sdr_db", "si_sdr_improvement_db", "si_sdr_improvement_overlap_db", "bleed_db")
    }
    weights: list[float] = []
    for person in sorted({voice.person for voice in voices}):
        own = [voice for voice in voices if voice.person == person]
        true, estimate, mix, partner, alone, both = (
            np.concatenate([getattr(voice, name) for voice in own])
            for name in ("true", "estimate", "mix", "partner", "partner_only", "both")
        )
        found["bleed_db"].append(bleed_db(estimate, partner, alone))
        weights.append(float(alone.sum()))
        if known:
            found["si_sdr_db"].append(si_sdr_db(true, estimate))
            found["si_sdr_improvement_db"].append(_gained(true, estimate, mix))
            found["si_sdr_improvement_overlap_db"].append(gained_in_overlap(true, estimate, mix, both))
    out = {name: mean(values) for name, values in found.items()}
    out["bleed_db"] = mean_energy_db(found["bleed_db"], weights)  # a partner who hardly ever speaks alone hardly counts
    return out


def mean_energy_db(values: Sequence[float | None], weights: Sequence[float] | None = None) -> float | None:
    """Mean of levels in dB by their energy: a mean of decibels would let silence in one track hide a leak in the other."""
    known = [(value, 1.0 if weights is None else weights[index]) for index, value in enumerate(values) if value is not None]
    total = sum(weight for _, weight in known)
    if not total:
        return None
    energy = sum(weight * 10 ** (value / 10) for value, weight in known) / total
    return max(FLOOR_DB, 10 * float(np.log10(energy)))


def _gained(true: np.ndarray, estimate: np.ndarray, mix: np.ndarray) -> float | None:
    after, before = si_sdr_db(true, estimate), si_sdr_db(true, mix)
    return None if after is None or before is None else after - before


def gained_in_overlap(true: np.ndarray, estimate: np.ndarray, mix: np.ndarray, both: np.ndarray) -> float | None:
    """SI-SDR of the estimate less that of the mix, over all stretches of `both` [T] of at least 0.3 s as one signal.

    Within +-30 dB: an estimate that is silent there, because the overlap was missed, would otherwise count as -100 dB or so
    and outweigh everything else.
    """
    frames = drop_short(both > 0, round(_OVERLAP_S * FPS))
    inside = np.repeat(frames, SAMPLES_PER_FRAME)[: len(true)]
    gained = _gained(true[inside], estimate[inside], mix[inside])
    return None if gained is None else float(np.clip(gained, -_MOST_GAINED_DB, _MOST_GAINED_DB))


def places(estimates: Sequence[np.ndarray], trues: Sequence[np.ndarray]) -> np.ndarray:
    """Per 0.4 s of a clip, seconds that say that two tracks hold their own voices (above 0) or each other's (below 0).

    Args:
        estimates: the two tracks, float32 [N].
        trues: the voices they should hold, float32 [N].
    """
    step = _WINDOW * SAMPLES_PER_FRAME
    length = min(len(samples) for samples in (*estimates, *trues)) // step * step
    tracks, voices = (
        [samples[:length].astype(np.float64).reshape(-1, step) for samples in group] for group in (estimates, trues)
    )
    fits = np.array([[np.maximum((track * voice).sum(axis=1), 0.0) for voice in voices] for track in tracks])
    own, crossed = fits[0, 0] + fits[1, 1], fits[0, 1] + fits[1, 0]
    heard = sum((voice**2).sum(axis=1) for voice in voices)
    told = own + crossed > 0.1 * np.maximum(heard, 1e-5 * step)
    out = np.where(own >= _SURELY * crossed, 1.0, np.where(crossed >= _SURELY * own, -1.0, 0.0))
    return np.asarray(out * told * _WINDOW / FPS)


def swaps(evidence: np.ndarray) -> int:
    """How often two tracks change places, given the signed seconds of `places` in order of time.

    The number of changes between "as it should be" and "exchanged" that explains the evidence best, if a change costs as much
    as 3 s of speech in the wrong track: a backchannel in the wrong track is a confusion, a long turn is a swap.
    """
    cost = np.zeros(2)
    changes = np.zeros(2, int)
    for value in evidence:
        if not value:
            continue
        here = np.array([max(-value, 0.0), max(value, 0.0)])
        over = cost[::-1] + _SWAP_S < cost
        cost, changes = np.where(over, cost[::-1] + _SWAP_S, cost) + here, np.where(over, changes[::-1] + 1, changes)
    return int(changes[cost.argmin()])
