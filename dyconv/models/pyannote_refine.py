"""Who speaks, decided again over the whole recording: a hidden Markov model over voices on embeddings of short windows.

A small segmentation network finds speech and overlap, but mixes up voices within its windows of some seconds. Here each
instant's own embedding is compared with every voice, centred on the recording (so that room and line, which all share,
drop out), the voices are estimated again from what they said, and the posterior finds the path: the clustering of x-vectors
by a Bayesian HMM (Diez et al. 2019, Landini et al. 2022) in its simplest form, begun from average linkage of the windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dyconv.time import SAMPLE_RATE

HOP = 5  # frames of 25 a second between windows
_HALF = 20  # frames on either side of a window's middle: windows of 1.6 s
_LEAST_S = 0.4  # speech a window must hold
_ROUNDS = 6
_SHARP = 6.0  # by what cosine similarities (centred) are multiplied to be log likelihoods
_CHANGE = 3.0  # log cost of going to another voice from one window to the next
_BLOCK_S = 60  # seconds whose frames are held at once


def refined(activity: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Activity with the voice of single-voice frames decided again.

    Args:
        activity: float32 [S, T] as a pipeline has it.
        vectors: float32 [ceil(T / HOP), D], embedding of the speech around each `HOP` frames; NaN where there is too little.

    Returns:
        Activity float32 [S, T]: speech where it was, frames of overlap as they were.
    """
    valid = np.isfinite(vectors).all(1)
    if len(activity) < 2 or valid.sum() < 2 * len(activity):
        return activity
    own = _shares(activity)
    many = _windows_of(activity.sum(0) > 1.0) > 0.3
    share = _linked(vectors, valid, len(activity))
    known = np.where(valid[:, None], vectors, 0.0)
    for _ in range(_ROUNDS):
        likelihood = _likelihood(known, share * (valid & ~many)[:, None]) * valid[:, None]
        share = _posterior(likelihood)
    share = share[:, _matched(own[valid], share[valid])]
    return _relabelled(activity, np.repeat(share.argmax(1), HOP)[: activity.shape[1]])


def window_vectors(model: Any, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """Embedding float32 [ceil(T / HOP), D] of the speech in 1.6 s around each `HOP` frames, NaN where there is too little.

    The frames of the network are made once; mean and deviation of every window come from running sums.

    Args:
        model: pyannote's XVectorMFCC.
        samples: mono 16 kHz float32 [N].
        speech: float32 [T], 0 to 1, one a 25 fps frame.
    """
    count = -(-len(speech) // HOP)
    middles = (np.arange(count) * HOP + HOP / 2) / 25
    out = np.full((count, model.dimension), np.nan, np.float32)
    for start in np.arange(0, len(samples) / SAMPLE_RATE, _BLOCK_S):
        chosen = np.flatnonzero((middles >= start) & (middles < start + _BLOCK_S))
        if len(chosen):
            out[chosen] = _block(model, samples, speech, middles[chosen])
    return out


def _block(model: Any, samples: np.ndarray, speech: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Embeddings [len(middles), D] of windows whose middles, in seconds, lie close together."""
    import torch

    reach, field = _HALF / 25, model.receptive_field
    first = max(0, int((middles[0] - reach - field.duration) * SAMPLE_RATE))
    last = int((middles[-1] + reach + field.duration) * SAMPLE_RATE)
    piece = np.pad(samples[first:last], (0, max(0, SAMPLE_RATE - len(samples[first:last]))))
    with torch.inference_mode():
        frames = model.mfcc(torch.from_numpy(np.ascontiguousarray(piece, np.float32))[None])
        for layer in model.tdnns:
            frames = layer(frames)
        values = frames[0].double().numpy()
    times = first / SAMPLE_RATE + field.start + field.duration / 2 + field.step * np.arange(values.shape[1])
    weight = speech[np.clip((times * 25).astype(int), 0, len(speech) - 1)].astype(float)
    lows, highs = np.searchsorted(times, middles - reach), np.searchsorted(times, middles + reach)
    mass, squares = (_between(power, lows, highs) for power in (weight, weight**2))
    mean = _between(values * weight, lows, highs) / np.maximum(mass, 1e-6)
    spread = _between(values**2 * weight, lows, highs) - mass * mean**2
    deviation = np.sqrt(np.maximum(spread, 0) / np.maximum(mass - squares / np.maximum(mass, 1e-6), 1e-6))
    with torch.inference_mode():
        pooled = torch.from_numpy(np.concatenate([mean, deviation]).T.astype(np.float32))
        found = model.embedding(pooled).numpy()
    found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    found[mass * field.step < _LEAST_S] = np.nan
    return found


def _between(values: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """Sums of the last axis over `[low, high)`."""
    running = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    return running[..., highs] - running[..., lows]


def _shares(activity: np.ndarray) -> np.ndarray:
    """How the windows' own frames are shared among the voices, [W, S], rows of sum 1."""
    padded = np.pad(activity, ((0, 0), (0, -activity.shape[1] % HOP)))
    own = padded.reshape(len(activity), -1, HOP).mean(2).T + 1e-3
    return own / own.sum(1, keepdims=True)


def _windows_of(flags: np.ndarray) -> np.ndarray:
    """Share of true frames in each window, [W]."""
    sums = np.concatenate([[0], np.cumsum(flags)])
    middles = np.arange(-(-len(flags) // HOP)) * HOP + HOP // 2
    lows, highs = np.maximum(middles - _HALF, 0), np.minimum(middles + _HALF, len(flags))
    return (sums[highs] - sums[lows]) / np.maximum(highs - lows, 1)


def _linked(vectors: np.ndarray, valid: np.ndarray, voices: int) -> np.ndarray:
    """First guess [W, S]: average linkage of centred windows, cut into as many clusters as there are voices."""
    from scipy.cluster.hierarchy import fcluster, linkage

    centred = vectors[valid] - vectors[valid].mean(0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    clusters = fcluster(linkage(centred, method="average", metric="cosine"), voices, criterion="maxclust") - 1
    share = np.full((len(vectors), voices), 1 / voices)
    share[valid] = 0.05
    share[np.flatnonzero(valid), clusters] = 1.0
    return share / share.sum(1, keepdims=True)


def _likelihood(vectors: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Log likelihood [W, S] of each window under each voice: cosine to the voice's mean, both centred on the voices."""
    weight = share.sum(0)
    means = (share.T @ vectors) / np.maximum(weight, 1e-6)[:, None]
    present = weight > 1.0
    middle = means[present].mean(0) if present.any() else means.mean(0)
    centred, towards = vectors - middle, means - middle
    norm = np.linalg.norm(centred, axis=1, keepdims=True) * np.linalg.norm(towards, axis=1)[None]
    return _SHARP * (centred @ towards.T) / np.maximum(norm, 1e-6)


def _posterior(likelihood: np.ndarray) -> np.ndarray:
    """Probability [W, S] of each voice in each window by the forward-backward algorithm."""
    windows, voices = likelihood.shape
    step = np.full((voices, voices), np.exp(-_CHANGE))
    np.fill_diagonal(step, 1.0)
    step /= step.sum(1, keepdims=True)
    seen = np.exp(likelihood - likelihood.max(1, keepdims=True))
    forward, backward = np.empty_like(seen), np.ones_like(seen)
    forward[0] = seen[0] / seen[0].sum()
    for index in range(1, windows):
        now = (forward[index - 1] @ step) * seen[index]
        forward[index] = now / now.sum()
    for index in range(windows - 2, -1, -1):
        now = step @ (backward[index + 1] * seen[index + 1])
        backward[index] = now / now.sum()
    out = forward * backward
    return out / out.sum(1, keepdims=True)


def _matched(own: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Which voice of `share` each voice of the pipeline is, so that overlap keeps its voices."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(-(own.T @ share))[1]


def _relabelled(activity: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Frames in which one voice is heard given to the voice that is `best` [T] there."""
    total = activity.sum(0)
    out = np.zeros_like(activity)
    out[best, np.arange(activity.shape[1])] = np.minimum(total, 1.0)
    overlap = total > 1.0
    out[:, overlap] = activity[:, overlap]
    return out
