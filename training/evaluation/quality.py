"""How good the pictures of a dataset are: sharpness, light, traces of compression, size of the face, frozen frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from training.evaluation.evidence import Arrays, Chunk, Evidence, Extraction, Shown
from training.evaluation.metric import Choice, Family, FrameMean, Metric, Sums

NAME = "quality"
FACE = 128  # pixels that every face is scaled to before its sharpness is told
STILL = 0.02  # mean change of the luma, of 255: a picture that changes by less is the one before
QUIET, SMALL = 0.25, 0.1  # one that changes by less than QUIET, and less than this share of what is usual around it, too
_AROUND = 25  # frames around a frame, of which the third quartile of the change is what is usual
_BLOCK = 8.0  # source pixels between the edges of a codec's blocks
_LEAST = 13  # frames, half a second
_NEAR = 0.25  # octaves around the blocks' frequency that their strength is held against
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class Quality:
    """Reads pictures by frame: sharpness, brightness and contrast of the face, its width, change; and steps at block edges."""

    name = NAME
    version = "1"
    partner = False

    def begin(self, shown: Shown) -> Extraction:
        """A new video."""
        return _Pass()


class _Pass:
    """One video.

    Arrays float32 [T]: `sharpness`, `brightness`, `contrast`, `face_share` (NaN where no face is), `change` (NaN in the first
    frame); `steps` float64 [2, S - 3]: `block_steps` summed over all frames.
    """

    def __init__(self) -> None:
        self._told: dict[str, list[np.ndarray]] = {}
        self._last: np.ndarray | None = None
        self._steps: np.ndarray | None = None

    def feed(self, chunk: Chunk) -> None:
        luma = [picture.astype(np.float32) @ _LUMA for picture in chunk.pictures]
        faces = [
            face_numbers(*pair) if there else np.full(4, np.nan)
            for *pair, there in zip(luma, chunk.landmarks, chunk.present, strict=True)
        ]
        told = dict(zip(("sharpness", "brightness", "contrast", "face_share"), np.array(faces, np.float32).T, strict=True))
        told["change"] = np.array([self._change(picture) for picture in luma], np.float32)
        for name, values in told.items():
            self._told.setdefault(name, []).append(values)
        steps = np.sum([block_steps(picture) for picture in luma], axis=0)
        self._steps = steps if self._steps is None else self._steps + steps

    def _change(self, luma: np.ndarray) -> float:
        """The mean difference from the frame before."""
        before, self._last = self._last, luma
        return float("nan") if before is None else float(np.abs(luma - before).mean())

    def finish(self) -> Arrays:
        told = {f"{NAME}.{name}": np.concatenate(values) for name, values in self._told.items()}
        return told | ({} if self._steps is None else {f"{NAME}.steps": self._steps})


def face_numbers(luma: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Sharpness, brightness, contrast of a face, and its width as a share of the picture's: float64 [4].

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) of the landmarks' square, scaled to 128 px, so
    that faces of different size are judged at one scale. Brightness and contrast are mean and standard deviation of its luma.

    Args:
        luma: float32 [S, S], 0 to 255.
        landmarks: float [478, 3] in its pixels.
    """
    import cv2

    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    half, centre, size = (high - low).max() / 2, (low + high) / 2, len(luma)
    x0, y0 = np.clip(np.floor(centre - half), 0, size - 1).astype(int)
    x1, y1 = np.clip(np.ceil(centre + half), 1, size).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return np.full(4, np.nan)
    part = luma[y0:y1, x0:x1]
    method = cv2.INTER_AREA if max(part.shape) > FACE else cv2.INTER_LINEAR
    face = cv2.resize(np.ascontiguousarray(part), (FACE, FACE), interpolation=method)
    return np.array([cv2.Laplacian(face, cv2.CV_32F).var(), part.mean(), part.std(), (high[0] - low[0]) / size])


def block_steps(luma: np.ndarray) -> np.ndarray:
    """How much each step between neighbouring columns, and rows, exceeds the steps beside it: float64 [2, S - 3].

    Means over all lines. At the edge of a codec's block the step is larger than inside (Wang, Sheikh, Bovik, ICIP 2002).
    """
    found = []
    for axis in (1, 0):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis, dtype=np.float64)
        found.append(steps[1:-1] - (steps[:-2] + steps[2:]) / 2)
    return np.stack(found)


def grid_strength(steps: np.ndarray, period: float) -> tuple[float, float] | None:
    """How strong a grid is in `block_steps`, and how strong its neighbourhood of frequencies is by chance.

    Args:
        steps: float [2, n].
        period: pixels between the grid's lines.

    Returns:
        Two amplitudes; None for a grid too fine or too coarse to be seen.
    """
    count = steps.shape[1]
    if not 2.5 <= period <= count / 8:
        return None
    window = np.hanning(count)
    centred = (steps - steps.mean(axis=1, keepdims=True)) * window

    def amplitude(frequency: np.ndarray) -> np.ndarray:
        waves = np.exp(-2j * np.pi * np.outer(frequency, np.arange(count)))
        return np.asarray(np.sqrt((np.abs(waves @ centred.T) ** 2).mean(axis=1)))

    apart = 4.0 / count  # the window's main lobe ends at two
    around = np.exp2(np.linspace(-_NEAR, _NEAR, 41)) / period
    around = around[(np.abs(around - 1 / period) > apart) & (around < 0.5)]
    if not len(around):
        around = np.array([1 / period - 2 * apart, 1 / period + 2 * apart])
    return float(amplitude(np.array([1 / period]))[0]), float(amplitude(around).mean())


class TruthMean(FrameMean):
    """The mean over frames of an array [T] read off the true video; NaN is left out."""

    def __init__(self, name: str, array: str, *, better: str, unit: str = "", about: str) -> None:
        super().__init__(name, better=better, unit=unit, about=about, needs=frozenset({array.partition(".")[0]}))
        self.array = array

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        values = self.of(evidence)
        if values is None:
            return None
        values = np.asarray(values[mask], np.float64)
        values = values[~np.isnan(values)]
        return {"sum": np.asarray(values.sum()), "count": np.asarray(float(len(values)))} if len(values) else None

    def of(self, evidence: Evidence) -> np.ndarray | None:
        """The values [T]; None where they are not known."""
        return np.asarray(evidence.truth[self.array])


class FaceWidth(TruthMean):
    """Width of the face in pixels of the source: crops are scaled, and a large picture of a small face shows no more of it."""

    def of(self, evidence: Evidence) -> np.ndarray | None:
        crop = evidence.record.get("crop_px")
        return None if crop is None else np.asarray(evidence.truth[self.array] * crop)


class Frozen(TruthMean):
    """Share of frames that repeat the one before."""

    def of(self, evidence: Evidence) -> np.ndarray | None:
        return repeated(evidence.truth[self.array])


def repeated(change: np.ndarray) -> np.ndarray:
    """1 for frames that repeat the one before, 0 for others, NaN for the first: float [T].

    Encoding leaves a little change in a repeated frame, and a still face changes little: a frame is told by how much less it
    changes than those around it.

    Args:
        change: float [T], mean absolute change of the luma; the first is NaN.
    """
    from scipy.ndimage import percentile_filter

    if len(change) < 2:
        return np.full(len(change), np.nan)
    usual = percentile_filter(change[1:], 75, size=_AROUND, mode="nearest")
    still = (change[1:] < STILL) | ((change[1:] < QUIET) & (change[1:] < SMALL * usual))
    return np.concatenate([[np.nan], still.astype(np.float64)])


class Present(TruthMean):
    """Share of frames in which a face was found."""

    def of(self, evidence: Evidence) -> np.ndarray | None:
        return np.asarray(evidence.truth["present"], np.float64)


class Blockiness(FrameMean):
    """How far the grid of the source's 8-pixel blocks stands out; only of whole clips, as its evidence is."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        crop = evidence.record.get("crop_px")
        if not mask.all() or not crop:
            return None
        steps = evidence.truth[f"{NAME}.steps"]
        found = grid_strength(steps / len(mask), _BLOCK * (steps.shape[1] + 3) / crop)
        return None if found is None else {"sum": len(mask) * np.asarray(found[0]), "count": len(mask) * np.asarray(found[1])}


class Recorded(FrameMean):
    """The mean of a number of the record, each clip weighted by its frames of one state; levels in dB by their energy.

    A clip with less than half a second of that state is left out: a level over two frames says nothing.
    """

    def __init__(self, name: str, key: str, *, state: str, energy: bool = False, about: str, better: str) -> None:
        super().__init__(name, better=better, unit="dB", about=about, needs=frozenset())
        self.key, self.state, self.energy = key, f"state={state}", energy

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        found, inside = evidence.record.get(self.key), evidence.slices.get(self.state)
        frames = 0.0 if inside is None else float((mask & inside).sum())
        if found is None or frames < _LEAST:
            return None
        amount = 10 ** (found / 10) if self.energy else found
        return {"sum": np.asarray(amount * frames), "count": np.asarray(frames)}

    def value(self, sums: Sums) -> float:
        mean = super().value(sums)
        return float(10 * np.log10(mean)) if self.energy and mean > 0 else mean


_OF_FRAMES: Mapping[str, tuple[type[TruthMean], str, str, str, str]] = {
    "sharpness": (TruthMean, "sharpness", "higher", "", "Variance of the Laplacian of the face at 128 px"),
    "brightness": (TruthMean, "brightness", "", "of 255", "Mean luma of the face"),
    "contrast": (TruthMean, "contrast", "", "of 255", "Standard deviation of the luma of the face"),
    "face_px": (FaceWidth, "face_share", "higher", "px", "Width of the face in pixels of the source, before any scaling"),
    "frozen": (Frozen, "change", "lower", "", "Share of frames that repeat the frame before"),
    "present": (Present, "change", "higher", "", "Share of frames in which a face is found"),
}


def family(choice: Choice) -> Family:
    """Metrics of the true videos of a dataset; of no made one."""
    frames: list[Metric] = [
        kind(f"{NAME}.{name}", f"{NAME}.{array}", better=better, unit=unit, about=f"{about}; mean over frames.")
        for name, (kind, array, better, unit, about) in _OF_FRAMES.items()
    ]
    blocks = "Strength of the 8-pixel grid of the source's blocks over that of neighbouring frequencies; 1 is none."
    bleed = "Partner's level left in a voice while only the partner speaks, as the build measured it."
    separated = "SI-SDR of the separated voice in overlap, as the build estimated it."
    clips: list[Metric] = [
        Blockiness(f"{NAME}.blockiness", better="lower", about=blocks, needs=frozenset({NAME})),
        Recorded(f"{NAME}.bleed", "bleed_db", state="listening", energy=True, better="lower", about=bleed),
        Recorded(f"{NAME}.si_sdr_est", "si_sdr_est_db", state="both", better="higher", about=separated),
    ]
    return Family((*frames, *clips), (Quality(),))
