"""CSIM: whether the made face is still the person on the portrait, for a network that recognises faces."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dyconv.errors import ModelMissing
from dyconv.models.insightface import InsightFaceIdentity
from training.evaluation.evidence import Arrays, Chunk, Evidence, Role, Shown
from training.evaluation.foreign import find, pinned, unavailable
from training.evaluation.metric import Choice, Family, Replay, Sums

_ARRAY = "arcface"
_ABOUT = (
    "cosine of ArcFace descriptors (insightface buffalo_l, w600k_r50) of each made frame and of the portrait it was made of; "
    "frames without a face are left out"
)


class ArcFace:
    """`arcface`: the descriptor of the face in each `every`-th frame, float32 [ceil(T / every), 512], NaN where there is none.
    Of a true video also `arcface.portrait` [512], of the frame that is the portrait.

    Deng, Guo, Xue, Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019. Faces are
    aligned to its template by eyes, nose and mouth, of the same mesh for true and made videos.

    Args:
        weights: the recognition network of insightface's pack, ONNX. It runs on the CPU.
        every: each n-th frame is looked at, from the first on.
    """

    name, partner = _ARRAY, False

    def __init__(self, weights: Path, every: int = 1) -> None:
        self._weights, self.every = weights, every
        self.version = f"1 {(pinned('arcface').sha256 or '')[:12]} every={every}"

    @cached_property
    def net(self) -> InsightFaceIdentity:
        """The network, made when it is first needed."""
        return InsightFaceIdentity(self._weights, threads=torch.get_num_threads())

    def begin(self, shown: Shown) -> _Reading:
        """A new video."""
        return _Reading(self, shown.portrait if shown.role is Role.TRUTH else None)


class _Reading:
    """One video on its way through."""

    def __init__(self, of: ArcFace, portrait: int | None) -> None:
        self._of, self._portrait = of, portrait
        self._rows: list[np.ndarray | None] = []
        self._of_portrait: np.ndarray | None = None

    def feed(self, chunk: Chunk) -> None:
        """The next frames."""
        wanted = [number for number in range(len(chunk)) if (chunk.start + number) % self._of.every == 0]
        portrait = -1 if self._portrait is None else self._portrait - chunk.start
        here = [portrait] if 0 <= portrait < len(chunk) else []
        seen = [number for number in sorted({*wanted, *here}) if chunk.present[number]]
        vectors = (
            dict(zip(seen, self._of.net.embed_all(chunk.pictures[seen], chunk.landmarks[seen]), strict=True)) if seen else {}
        )
        self._rows += [vectors.get(number) for number in wanted]
        if here:
            self._of_portrait = vectors.get(portrait)

    def finish(self) -> Arrays:
        """`arcface`, and of a true video `arcface.portrait`."""
        known = [row for row in (*self._rows, self._of_portrait) if row is not None]
        none = np.full(len(known[0]) if known else 1, np.nan, np.float32)
        arrays = {_ARRAY: np.stack([none if row is None else row for row in self._rows])}
        if self._portrait is not None:
            arrays[f"{_ARRAY}.portrait"] = none if self._of_portrait is None else self._of_portrait
        return arrays


class Csim:
    """The mean cosine over frames with a face."""

    better, unit, about, needs, heavy = "higher", "", _ABOUT, frozenset({_ARRAY}), False

    def __init__(self, name: str, every: int) -> None:
        self.name, self._every = name, every

    def prepare(self, truths: Replay) -> None:
        """Nothing to fit."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        portrait = evidence.truth[f"{_ARRAY}.portrait"].astype(np.float64)
        rows = evidence.made[_ARRAY][mask[:: self._every]].astype(np.float64)
        rows = rows[~np.isnan(rows).any(axis=1)]
        if not len(rows) or np.isnan(portrait).any():
            return None
        return {"sum": np.asarray((rows @ portrait).sum()), "count": np.asarray(float(len(rows)))}

    def value(self, sums: Sums) -> float:
        return float(sums["sum"] / sums["count"]) if sums["count"] else float("nan")


def family(choice: Choice) -> Family:
    """CSIM, where ArcFace's network is here. Its name tells where not every frame is looked at."""
    name = "csim.arcface" if choice.every == 1 else f"csim.arcface.every{choice.every}"
    try:
        path = find("arcface", choice)
    except ModelMissing as error:
        return Family(metrics=(), unavailable=(unavailable(name, error),))
    return Family(metrics=(Csim(name, choice.every),), extractors=(ArcFace(path, choice.every),))
