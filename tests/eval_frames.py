"""Frames of a moving picture, what spoils them, and metrics of them: for the tests of the evaluator's picture metrics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.evaluation.case import ALL, Case, View
from training.evaluation.evidence import Arrays, Chunk, Comparison, Evidence, Extractor, Role, Shown
from training.evaluation.metric import Metric


def pan(count: int, side: int) -> np.ndarray:
    """Frames uint8 [count, side, side, 3] that pan over a photograph of a face."""
    from skimage import data

    photo = np.asarray(data.astronaut())
    return np.stack([photo[40 + 2 * shift : 40 + 2 * shift + side, 160 : 160 + side] for shift in range(count)])


def chunk(frames: np.ndarray, device: str = "cpu", start: int = 0) -> Chunk:
    """A face is seen everywhere, its landmarks in the middle."""
    points = np.full((len(frames), 478, 3), frames.shape[1] / 2, np.float32)
    return Chunk(start, frames, points, np.ones(len(frames), bool), torch.device(device))


def unit(frames: np.ndarray) -> Tensor:
    return chunk(frames).unit


def blurred(frames: np.ndarray, amount: float) -> np.ndarray:
    import cv2

    return np.stack([cv2.GaussianBlur(frame, (0, 0), amount) for frame in frames])


def noisy(frames: np.ndarray, amount: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 255 * amount, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def shifted(frames: np.ndarray, amount: float) -> np.ndarray:
    return np.roll(frames, round(amount), axis=2)


def shown(count: int, role: Role = Role.TRUTH, portrait: int = 0) -> Shown:
    return Shown(Case("clip", "p0", "source", View.VIDEO, count), role, count, np.zeros(count * 640, np.float32), portrait)


def read(extractor: Extractor, frames: np.ndarray, *, cuts: tuple[int, ...] = (), role: Role = Role.TRUTH) -> Arrays:
    """Its arrays of a video that comes in chunks, cut at these frames."""
    reading = extractor.begin(shown(len(frames), role))
    for start, stop in zip((0, *cuts), (*cuts, len(frames)), strict=True):
        reading.feed(chunk(frames[start:stop], start=start))
    return reading.finish()


def value_of(metric: Metric, evidence: Evidence, mask: np.ndarray | None = None) -> float:
    sums = metric.sums(evidence, evidence.slices[ALL] if mask is None else mask)
    assert sums is not None
    return metric.value(sums)


def evidence_of(
    count: int, *, truth: Arrays | None = None, made: Arrays | None = None, frames: Arrays | None = None
) -> Evidence:
    silence = np.zeros(count, np.float32)
    slices = {ALL: np.ones(count, bool)}
    return Evidence(shown(count).case, truth or {}, made or {}, {}, frames or {}, {}, silence, silence, slices)


def compared(metric: Metric, comparison: Comparison, truth: np.ndarray, made: np.ndarray) -> float:
    values = comparison.compare(chunk(truth), chunk(made)).numpy()
    return value_of(metric, evidence_of(len(truth), frames={comparison.name: values}))


def by_scipy(one: np.ndarray, other: np.ndarray) -> float:
    """The Frechet distance of vectors [n, d] by its formula."""
    from scipy.linalg import sqrtm

    cov1, cov2 = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    apart = one.mean(axis=0) - other.mean(axis=0)
    return float(apart @ apart + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(sqrtm(cov1 @ cov2).real))
