"""Who is where on the screen: panels of the picture, and the still pictures that portraits are drawn into.

A view is what a shot shows: both people (`two-shot`: two halves that flow into each other; `side` and `stacked`: halves with
a hard seam; `pip`: the second person in an inset) or one of them (`a`, `b`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dyconv.synth.puppet import Portrait

BOTH = ("two-shot", "side", "stacked", "pip")
_BLEND = 0.16  # width of the soft seam of a two-shot, of the picture's width
_SEAM = 4  # pixels, even
_FILL = 1.6  # a picture is made this much larger than asked for at most, to cover its panel


@dataclass(frozen=True)
class Panel:
    """Where a person is drawn: a rectangle of the picture in pixels (even), and how large the face is in it.

    Attributes:
        face: wanted width of the face, of the panel's shorter side.
        at: where the middle of the face goes, of the panel's width and height.
        fade: pixels over which its left side lets what is under it through.
        border: pixels of plain frame around it.
    """

    person: str
    x: int
    y: int
    width: int
    height: int
    face: float
    at: tuple[float, float] = (0.5, 0.43)
    fade: int = 0
    border: int = 0


def panels(view: str, people: Sequence[str], width: int, height: int) -> tuple[Panel, ...]:
    """The panels of a view, in drawing order.

    Raises:
        ValueError: for a view that does not exist.
    """
    a, b = people
    half_w, half_h = width // 4 * 2, height // 4 * 2
    if view == "two-shot":
        soft = int(width * _BLEND) // 4 * 2
        left = Panel(a, 0, 0, half_w + soft, height, 0.30, (0.46, 0.45))
        return left, Panel(b, half_w - soft, 0, width - half_w + soft, height, 0.26, (0.54, 0.42), fade=2 * soft)
    if view == "side":
        seam = _SEAM // 2
        left = Panel(a, 0, 0, half_w - seam, height, 0.34)
        return left, Panel(b, half_w + seam, 0, width - half_w - seam, height, 0.34)
    if view == "stacked":
        seam = _SEAM // 2
        top = Panel(a, 0, 0, width, half_h - seam, 0.42, (0.5, 0.5))
        return top, Panel(b, 0, half_h + seam, width, height - half_h - seam, 0.42, (0.5, 0.5))
    if view == "pip":
        inset_w, inset_h, margin = int(width * 0.3) // 2 * 2, int(height * 0.34) // 2 * 2, int(height * 0.04) // 2 * 2
        main = Panel(a, 0, 0, width, height, 0.36, (0.4, 0.43))
        corner = (width - inset_w - margin, height - inset_h - margin)
        return main, Panel(b, *corner, inset_w, inset_h, 0.42, (0.5, 0.48), border=3)
    if view in people:
        return (Panel(view, 0, 0, width, height, 0.38, (0.47 if view == a else 0.53, 0.43)),)
    raise ValueError(f"no view {view!r}")


@dataclass(frozen=True)
class Placement:
    """How a picture lies in a panel: pixel p of it is at `p * scale + shift`."""

    scale: float
    shift: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points float32 [..., 2 or 3] of the picture, in pixels of the panel; depth is scaled alike."""
        out = np.asarray(points, np.float32) * self.scale
        out[..., :2] += self.shift
        return out


def place(box: np.ndarray, size: tuple[int, int], panel: Panel) -> Placement:
    """Scale and shift a picture of `size` (width, height) for the wanted width and place of the face in `box` [4].

    A picture that would cover the panel if it were up to 1.6 times larger is made so. Otherwise it stands on the lower edge,
    as a body does, and never moves so far that a side it could cover stays empty.
    """
    scale = panel.face * min(panel.width, panel.height) / float(box[2] - box[0])
    fill = max(panel.width / size[0], panel.height / size[1])
    if scale < fill <= _FILL * scale:
        scale = fill
    full = np.array(size) * scale
    room = np.array([panel.width, panel.height]) - full
    shift = np.array([panel.width * panel.at[0], panel.height * panel.at[1]]) - (box[:2] + box[2:]) / 2 * scale
    shift = np.where(room <= 0, np.clip(shift, room, 0), shift)
    if shift[1] < room[1] and box[3] * scale + room[1] < panel.height:
        shift[1] = room[1]
    return Placement(scale, shift)


def fit(image: np.ndarray, placement: Placement, panel: Panel) -> np.ndarray:
    """The panel uint8 RGB [height, width, 3] with a picture in it; where it does not reach, its colours go on, blurred."""
    import cv2

    scale, shift = placement.scale, placement.shift
    where = (panel.width, panel.height)
    size = np.array(image.shape[1::-1]) * scale
    source = cv2.GaussianBlur(image, (0, 0), 0.5 / scale) if scale < 0.6 else image
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    flags = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_LINEAR
    sharp = cv2.warpAffine(source, matrix, where, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if (shift <= 0).all() and (shift + size >= where).all():
        return np.asarray(sharp)
    alpha = _inside(where, shift, shift + size, float(min(size)) * 0.09)[..., None]
    soft = _far(sharp, max(where) / 24)
    return np.asarray((sharp * alpha + soft * (1 - alpha) + 0.5).astype(np.uint8))


def stage(portrait: Portrait, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """The still picture uint8 RGB [height, width, 3] of a portrait in its panel, and the mesh [478, 3] in its pixels."""
    height, width = portrait.image.shape[:2]
    placement = place(portrait.box, (width, height), panel)
    return fit(portrait.image, placement, panel), placement.points(portrait.points)


def _far(image: np.ndarray, sigma: float) -> np.ndarray:
    """A strong blur, made on a small copy: the same look at a fraction of the time."""
    import cv2

    small = cv2.resize(image, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / 8, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(blurred, image.shape[1::-1], interpolation=cv2.INTER_CUBIC))


def _inside(size: tuple[int, int], low: np.ndarray, high: np.ndarray, soft: float) -> np.ndarray:
    """1 inside a rectangle, falling to 0 over `soft` pixels before those of its sides that lie inside the panel."""
    out = np.ones((size[1], size[0]), np.float32)
    for axis in range(2):
        place = np.arange(size[axis], dtype=np.float32) + 0.5
        ramp = np.ones(size[axis], np.float32)
        if low[axis] > 0:
            ramp = np.minimum(ramp, np.clip((place - low[axis]) / soft, 0, 1))
        if high[axis] < size[axis]:
            ramp = np.minimum(ramp, np.clip((high[axis] - place) / soft, 0, 1))
        ramp = ramp * ramp * (3 - 2 * ramp)
        out *= ramp[None, :] if axis == 0 else ramp[:, None]
    return out


def paste(frame: np.ndarray, picture: np.ndarray, panel: Panel) -> None:
    """Put a panel's picture into the frame, with its soft side or its border."""
    x0, y0, x1, y1 = panel.x, panel.y, panel.x + panel.width, panel.y + panel.height
    if panel.border:
        edge = panel.border
        frame[max(y0 - edge, 0) : y1 + edge, max(x0 - edge, 0) : x1 + edge] = 235
    if not panel.fade:
        frame[y0:y1, x0:x1] = picture
        return
    ramp = (np.arange(panel.fade, dtype=np.float32) + 0.5) / panel.fade
    alpha = (ramp * ramp * (3 - 2 * ramp))[None, :, None]
    under = frame[y0:y1, x0 : x0 + panel.fade].copy()
    frame[y0:y1, x0:x1] = picture
    frame[y0:y1, x0 : x0 + panel.fade] = (under * (1 - alpha) + picture[:, : panel.fade] * alpha + 0.5).astype(np.uint8)


def tones(canvases: Mapping[str, np.ndarray], strength: float = 0.5) -> dict[str, np.ndarray]:
    """For people in one room: for each a table uint8 [256, 1, 3] that draws its colours towards a common mean and contrast."""
    means = {name: image.mean((0, 1)) for name, image in canvases.items()}
    spreads = {name: np.maximum(image.std((0, 1)), 1) for name, image in canvases.items()}
    mean, spread = np.mean(list(means.values()), axis=0), np.mean(list(spreads.values()), axis=0)
    value = np.arange(256, dtype=np.float32)[:, None]
    out = {}
    for name in canvases:
        goal = (value - means[name]) * (spread / spreads[name]) + mean
        out[name] = np.clip(value + (goal - value) * strength + 0.5, 0, 255).astype(np.uint8)[:, None]
    return out


def toned(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.LUT(image, table.reshape(1, 256, 3)))
