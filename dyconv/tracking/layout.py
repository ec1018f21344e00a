"""The layout of a segment: two people in one picture, in two pictures side by side, in a small picture on a large one,
or in turn.

Composed pictures give themselves away by straight lines that stay where they are: a seam between the two faces over the
whole height (or width), or a small rectangle around one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WIDTH = 480  # pictures are looked at in this width
_EDGE = 10.0  # grey levels across two pixels that make an edge
_LASTING = 0.7  # share of the pictures in which an edge must be there
_FAINT = 1.5  # grey levels of a faint edge that counts where it is twice what is beside it: dark studios
_SEAM = 0.85  # share of the seam's length that must be edge
_RIM = 0.85  # the same for a side of a small picture
_PIP_AREA = 0.2  # a small picture covers no more than this of the large one


class Lines:
    """Where straight lines stay through a shot: shares of pictures with an edge, across (x) and down (y)."""

    def __init__(self) -> None:
        self._count = 0
        self._across: np.ndarray | None = None
        self._down: np.ndarray | None = None
        self._light: np.ndarray | None = None
        self._slopes: list[np.ndarray] = []
        self.scale = 1.0

    def add(self, image: np.ndarray) -> None:
        """Take one picture, uint8 RGB [H, W, 3]."""
        import cv2

        height, width = image.shape[:2]
        self.scale = min(1.0, _WIDTH / width)
        size = (round(width * self.scale), round(height * self.scale))
        grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
        slopes = [np.zeros_like(grey), np.zeros_like(grey)]
        slopes[0][:, 1:-1] = np.abs(grey[:, 2:] - grey[:, :-2])
        slopes[1][1:-1] = np.abs(grey[2:] - grey[:-2])
        across, down = (slope > _EDGE for slope in slopes)
        if self._across is None or self._down is None or self._light is None:
            self._across, self._down, self._light = across.astype(np.float32), down.astype(np.float32), grey
            self._slopes = slopes
        else:
            self._across, self._down, self._light = self._across + across, self._down + down, np.maximum(self._light, grey)
            self._slopes = [total + slope for total, slope in zip(self._slopes, slopes, strict=True)]
        self._count += 1

    def lasting(self) -> tuple[np.ndarray, np.ndarray]:
        """Bool [h, w] twice: edges that stay, across and down; dark bars around the picture are cut off."""
        assert self._across is not None and self._down is not None and self._light is not None
        lit = self._light > 24
        rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
        across, down = (lines / self._count >= _LASTING for lines in (self._across, self._down))
        self.faint = self._faint()
        self.top, self.left = (int(rows[0]), int(columns[0])) if len(rows) else (0, 0)
        bottom, right = (int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else lit.shape
        inside = slice(self.top, bottom), slice(self.left, right)
        self.faint = self.faint[0][inside], self.faint[1][inside]
        return across[inside], down[inside]

    def _faint(self) -> tuple[np.ndarray, np.ndarray]:
        """Bool [h, w] twice: edges that are weak but stand out from what is beside them."""
        out = []
        for axis, total in ((1, self._slopes[0]), (0, self._slopes[1])):
            mean = total / self._count
            beside = np.median([np.roll(mean, offset, axis) for offset in (-9, -7, -5, -4, 4, 5, 7, 9)], axis=0)
            out.append((mean > _FAINT) & (mean > 2 * beside))
        return out[0], out[1]


@dataclass(frozen=True)
class Shown:
    """What the layout needs of one track: who, when, and its mean box in pixels."""

    identity: str
    shot: int
    frames: np.ndarray
    box: np.ndarray


def recognise(tracks: Sequence[Shown], lines: dict[int, Lines], frames: int) -> str:
    """`two-shot`, `split`, `pip`, `alternating`, `single` or `other`.

    Args:
        lines: by shot.
        frames: length of the segment.
    """
    count = np.zeros(frames, int)
    for track in tracks:
        count[track.frames] += 1
    people = {track.identity for track in tracks}
    shown = max(int((count > 0).sum()), 1)
    if (count > 2).sum() > 0.3 * shown or not people:
        return "other"
    if len(people) == 1:
        return "single"
    if (count == 2).sum() >= 0.5 * shown:
        return _together(tracks, lines)
    return "alternating" if len(people) == 2 or _share_of_two(tracks) >= 0.8 else "other"


def _share_of_two(tracks: Sequence[Shown]) -> float:
    """Share of all screen time that the two most seen people have."""
    time: dict[str, int] = {}
    for track in tracks:
        time[track.identity] = time.get(track.identity, 0) + len(track.frames)
    return sum(sorted(time.values())[-2:]) / max(sum(time.values()), 1)


def _together(tracks: Sequence[Shown], lines: dict[int, Lines]) -> str:
    """Which kind of picture shows the two people together, by the time each kind has."""
    votes: dict[str, int] = {}
    for index, one in enumerate(tracks):
        for other in tracks[index + 1 :]:
            common = len(np.intersect1d(one.frames, other.frames, assume_unique=True)) if one.shot == other.shot else 0
            if common:
                kind = picture(one.box, other.box, lines[one.shot])
                votes[kind] = votes.get(kind, 0) + common
    return max(sorted(votes), key=lambda kind: votes[kind])


def picture(one: np.ndarray, other: np.ndarray, lines: Lines) -> str:
    """`pip`, `split` or `two-shot`: what kind of picture two faces with these boxes [4] stand in."""
    across, down = lines.lasting()
    shift = np.array([lines.left, lines.top] * 2)
    boxes = [box * lines.scale - shift for box in (one, other)]
    small, large = sorted(boxes, key=lambda box: float(np.prod(box[2:] - box[:2])))
    if _rectangle(small, large, across, down):
        return "pip"
    seam = max(_seam(edges, boxes, 0) for edges in (across, lines.faint[0]))
    seam = max(seam, *(_seam(edges.T, boxes, 1) for edges in (down, lines.faint[1])))
    return "split" if seam >= _SEAM else "two-shot"


def _seam(edges: np.ndarray, boxes: list[np.ndarray], axis: int) -> float:
    """Largest share of a line between the boxes, over the whole picture, that is edge."""
    first, second = sorted(boxes, key=lambda box: float(box[axis]))
    low, high = int(first[axis + 2]), int(second[axis])
    if high - low < 1:
        return 0.0
    thick = edges | np.roll(edges, 1, axis=1)
    return float(thick[:, max(low, 0) : high + 1].mean(0).max(initial=0.0))


def _rectangle(small: np.ndarray, large: np.ndarray, across: np.ndarray, down: np.ndarray) -> bool:
    """Whether straight lasting lines, or sides of the picture, close a small rectangle around one face only."""
    height, width = across.shape
    left = _sides(across, small, 0, -1)
    right = _sides(across, small, 0, 1)
    top = _sides(down.T, small, 1, -1)
    bottom = _sides(down.T, small, 1, 1)
    for x0 in left:
        for x1 in right:
            for y0 in top:
                for y1 in bottom:
                    if (x1 - x0) * (y1 - y0) > _PIP_AREA * width * height or _touches(large, x0, y0, x1, y1):
                        continue
                    if _closed(across, down, x0, y0, x1, y1):
                        return True
    return False


def _sides(edges: np.ndarray, box: np.ndarray, axis: int, direction: int) -> list[int]:
    """Places of lines beside the box, as long as the box at least; the picture's own side is one of them."""
    extent = edges.shape[1]
    low, high = max(int(box[1 - axis]), 0), int(box[3 - axis]) + 1
    share = (edges | np.roll(edges, 1, axis=1))[low:high].mean(0) if high > low else np.zeros(extent)
    if direction < 0:
        places = np.flatnonzero(share[: max(int(box[axis]), 0)] >= _RIM)
        border = 0
    else:
        start = min(int(box[axis + 2]) + 1, extent)
        places = np.flatnonzero(share[start:] >= _RIM) + start
        border = extent
    kept = [int(p) for p in places if not np.any(places == p - 1)]
    return [border, *kept[:12]] if direction > 0 else [border, *kept[-12:]]


def _touches(box: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> bool:
    return bool(box[0] < x1 and box[2] > x0 and box[1] < y1 and box[3] > y0)


def _closed(across: np.ndarray, down: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> bool:
    """Whether each side of the rectangle is a lasting line or the picture's side, and at least two are lines."""
    height, width = across.shape
    lines = 0
    for edges, place, low, high, extent in (
        (across, x0, y0, y1, width),
        (across, x1, y0, y1, width),
        (down.T, y0, x0, x1, height),
        (down.T, y1, x0, x1, height),
    ):
        if place <= 2 or place >= extent - 2:
            continue
        near = edges[low:high, max(place - 1, 0) : place + 2]
        if not near.size or np.max(near, axis=1).mean() < _RIM:
            return False
        lines += 1
    return lines >= 2
