"""Where shots begin: hard cuts, and gradual transitions (dissolves, fades, dips to white).

Hard cuts are PySceneDetect's `AdaptiveDetector`'s, checked against small grey thumbnails of the frames: a cut must change
the picture for good (a camera flash does not) and stand out from the motion around it (a turning head does not).

A gradual transition is a stretch in which every thumbnail is a blend (1 - a) A + a B of its first and last one, with `a`
rising steadily. Moving objects and cameras do not blend: they leave a residual. What this misses: blends between two
pictures that differ in less than about half of their area, and wipes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from dyconv.media.picture import Upright

_WIDTH = 256  # px of the longer side at which cuts are looked for
_THUMB = (32, 18)

_STEP = 7.0  # grey levels: a cut changes the thumbnail at least this much on average
_SURE_STEP = 20.0  # from here on, it need not stand out from the motion around it
_STAND_OUT = 2.5  # times the strongest motion nearby
_NEAR = 8  # frames on each side that "nearby" means
_FLASH_S = 0.4  # a picture that is back after this long was interrupted, not cut
_SAME = 0.4  # share of the step below which two thumbnails are of the same picture

_BLEND_S = (0.12, 0.2, 0.32, 0.52, 0.8, 1.28, 2.0, 3.2)  # lengths of windows looked at, seconds
_BLEND_LEVEL = 18.0  # grey levels between the two ends
_BLEND_AREA = 0.6  # share of the picture that changes by more than 8 grey levels
_BLEND_RESIDUAL = 0.3  # what the blend leaves unexplained, relative to the difference of the ends
_BLEND_SHIFT = 0.7  # a moving head or camera is explained by a shift to below this share, a change of scene is not
_BLANK = 8.0  # grey levels of deviation in a picture that shows nothing
_BLEND_SPARE = 0.1  # of its length is added to a transition at each end, where a blend is too faint to see
_BLEND_FLAT = 0.12  # beside a transition, `a` stays this near to 0 or to 1


@dataclass(frozen=True)
class Boundaries:
    """Frame indices: `cuts` are first frames of shots, `blends` are half-open ranges of frames in transition."""

    cuts: tuple[int, ...]
    blends: tuple[tuple[int, int], ...]


class CutFinder:
    """Feed it every frame of a stream in order, then ask for the boundaries.

    Args:
        size: (width, height) of the pictures as shown.
        frame: usual time from frame to frame, seconds.
    """

    def __init__(self, size: tuple[int, int], frame: Fraction) -> None:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        scale = min(1.0, _WIDTH / max(size))
        small = (max(2, 2 * round(size[0] * scale / 2)), max(2, 2 * round(size[1] * scale / 2)))
        self._small, self._thumb = Upright(small, "bgr24", quick=True), Upright(_THUMB, "gray", quick=True)
        self._detector = AdaptiveDetector(min_content_val=12.0, min_scene_len=2)
        self._timecode = FrameTimecode
        self._rate = float(1 / frame)
        self._thumbs: list[np.ndarray] = []
        self._candidates: list[int] = []

    def add(self, picture: av.VideoFrame) -> None:
        small = self._small(picture)
        index = len(self._thumbs)
        # The detector only hands the timecode back: frame numbers keep the true times out of its rounding.
        found = self._detector.process_frame(self._timecode(index, self._rate), small.to_ndarray())
        self._candidates += [timecode.frame_num for timecode in found]
        self._thumbs.append(self._thumb(small).to_ndarray().ravel())

    def boundaries(self) -> Boundaries:
        if not self._thumbs:
            return Boundaries((), ())
        thumbs = np.stack(self._thumbs)
        blends = _blends(thumbs, self._rate)
        near = max(2, round(_FLASH_S * self._rate))
        cuts = [
            cut
            for cut in self._candidates
            if _is_cut(thumbs, cut, near) and not any(begin - 1 <= cut <= end + 1 for begin, end in blends)
        ]
        return Boundaries(tuple(cuts), tuple(blends))


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean absolute difference along the last axis, grey levels."""
    return np.asarray(np.abs(first.astype(np.int16) - second.astype(np.int16)).mean(axis=-1))


def _is_cut(thumbs: np.ndarray, cut: int, flash: int) -> bool:
    """Whether the picture changes at `cut`, for good, by more than what moves around it."""
    step = float(_distance(thumbs[cut], thumbs[cut - 1]))
    if step < _STEP:
        return False
    after, before = thumbs[cut + 1 : cut + 1 + flash], thumbs[max(0, cut - 1 - flash) : cut - 1]
    if (_distance(after, thumbs[cut - 1]) < _SAME * step).any() or (_distance(before, thumbs[cut]) < _SAME * step).any():
        return False
    if step >= _SURE_STEP:
        return True
    near = thumbs[max(0, cut - 1 - _NEAR) : cut + 1 + _NEAR]
    steps = _distance(near[1:], near[:-1])
    here = cut - max(0, cut - 1 - _NEAR) - 1
    others = np.delete(steps, here)
    return bool(step >= _STAND_OUT * others.max(initial=0.0))


def _blends(thumbs: np.ndarray, rate: float) -> list[tuple[int, int]]:
    """Half-open ranges of frames that are neither the picture before nor the one after."""
    found: list[tuple[int, int]] = []
    for seconds in _BLEND_S:
        length = max(3, round(seconds * rate))
        stride = max(1, length // 6)
        starts = np.arange(0, len(thumbs) - length, stride)
        if not len(starts):
            continue
        level = _distance(thumbs[starts + length], thumbs[starts])
        found += [
            (int(start), int(start) + length)
            for start in starts[level >= _BLEND_LEVEL]
            if _is_blend(thumbs, int(start), int(start) + length)
        ]
    whole = _merged([_tightened(thumbs, begin, end) for begin, end in found])
    return _merged([_spared(low, high, len(thumbs)) for low, high in whole])


def _along(thumbs: np.ndarray, begin: int, end: int, frames: slice) -> tuple[np.ndarray, np.ndarray]:
    """Of some frames: the share `a` of picture `end` over picture `begin`, and what that blend leaves unexplained."""
    first = thumbs[begin].astype(np.float32)
    whole = thumbs[end].astype(np.float32) - first
    size = float(whole @ whole) + 1e-6
    part = thumbs[frames].astype(np.float32) - first
    share = part @ whole / size
    left = np.maximum((part * part).sum(axis=1) - share * share * size, 0.0)
    return share, np.sqrt(left / size)


def _is_blend(thumbs: np.ndarray, begin: int, end: int) -> bool:
    area = np.abs(thumbs[end].astype(np.int16) - thumbs[begin].astype(np.int16)) > 8
    if area.mean() < _BLEND_AREA:
        return False
    share, residual = _along(thumbs, begin, end, slice(begin, end + 1))
    steps = np.diff(share)
    if steps.max() > max(0.5, 1.6 / (end - begin)) or steps.min() < -0.06:
        return False
    middle = (share > 0.1) & (share < 0.9)
    if middle.sum() < max(2, 0.4 * (end - begin - 1)) or np.median(residual[middle]) > _BLEND_RESIDUAL:
        return False
    if _shifted(thumbs[begin], thumbs[end]) < _BLEND_SHIFT:
        return False
    beside = max(3, (end - begin) // 3)
    before, _ = _along(thumbs, begin, end, slice(max(0, begin - beside), begin))
    after, _ = _along(thumbs, begin, end, slice(end + 1, end + 1 + beside))
    calm_before = np.abs(before).max(initial=0.0) < _BLEND_FLAT
    calm_after = np.abs(after - 1).max(initial=0.0) < _BLEND_FLAT
    through_blank = min(float(thumbs[begin].std()), float(thumbs[end].std())) < _BLANK  # black or white on one side goes on
    return bool(calm_before or calm_after) if through_blank else bool(calm_before and calm_after)


def _shifted(first: np.ndarray, second: np.ndarray) -> float:
    """How much of the difference of two pictures is left after the best shift of one: near 1 for unrelated pictures."""
    width, height = _THUMB
    a, b = (thumb.reshape(height, width).astype(np.int16) for thumb in (first, second))
    best = whole = float(np.abs(a - b).mean())
    for down in range(-4, 5):
        for right in range(-6, 7):
            here = a[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            there = b[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            best = min(best, float(np.abs(here - there).mean()))
    return best / max(whole, 1e-6)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1] + 2:  # nothing to see in two frames between two fades
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


def _tightened(thumbs: np.ndarray, begin: int, end: int) -> tuple[int, int]:
    """[first frame that is changing, first frame that is there), from the straight part of the rise: things that move
    before and after it make the ends of the curve slope.
    """
    share, _ = _along(thumbs, begin, end, slice(begin, end + 1))
    quarter, three = (float(np.interp(level, np.maximum.accumulate(share), np.arange(len(share)))) for level in (0.25, 0.75))
    half = (three - quarter) / 2
    low, high = max(0.0, quarter - half), min(float(end - begin), three + half)
    first = begin + int(low) + 1
    return first, max(begin + int(np.ceil(high)), first + 1)


def _spared(low: int, high: int, count: int) -> tuple[int, int]:
    spare = round(_BLEND_SPARE * (high - low))
    return max(0, low - spare), min(count, high + spare)
