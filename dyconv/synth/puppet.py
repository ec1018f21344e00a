"""A photograph that moves: the picture is bent over the triangles of its face mesh.

The mesh of the photograph and three rings of points around the head are joined into triangles once (Delaunay). For each
frame the points are moved (jaw, lips, lids, brows, head) and every triangle of the picture follows them. The outermost ring
never moves, so that the background stays whole. What opens between the lips is drawn: the teeth that the photograph shows
there or a hint of them, and the dark of the mouth.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyconv.bounds import PICTURE_PIXELS
from dyconv.errors import UsageError
from dyconv.models.slots import FaceDetector, FaceLandmarker
from dyconv.synth.motion import Motion

# Points of the MediaPipe mesh; right and left are the person's own, lips run from the right corner to the left one.
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
LIDS = (  # upper lid, lower lid, fold above the upper lid: outer to inner corner
    ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155), (247, 30, 29, 27, 28, 56, 190)),
    ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382), (467, 260, 259, 257, 258, 286, 414)),
)
BROWS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
        136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
_MESH = 468
_RINGS = ((1.22, 1.0), (1.55, 0.6), (2.1, 0.0))  # size relative to the face oval, share of the head's movement
_JAW = 0.28  # lip opening at `open` = 1, in mouth widths


@dataclass(frozen=True)
class Portrait:
    """One face in a photograph: uint8 RGB [H, W, 3] and its mesh float32 [478, 3] in pixels."""

    image: np.ndarray
    points: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """Tight box of the mesh, x0 y0 x1 y1."""
        return np.concatenate([self.points[:, :2].min(0), self.points[:, :2].max(0)])


# What Pillow raises for bytes that are no picture; its own errors are an OSError and one that only it has.
PICTURE_DAMAGE: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError)
PICTURE_DAMAGE += (OverflowError, MemoryError, EOFError, struct.error, zlib.error)


def read_picture(path: Path) -> np.ndarray:
    """A photograph as uint8 RGB [H, W, 3], turned upright as its EXIF says; what is transparent is white.

    Raises:
        UsageError: if it is not there or not a picture.
    """
    from PIL import Image, ImageOps

    damage: tuple[type[Exception], ...] = (Image.DecompressionBombError, *PICTURE_DAMAGE)
    try:
        with Image.open(path) as image:
            if PICTURE_PIXELS.passed_by(image.width * image.height):
                size = f"{image.width} x {image.height} pixels"
                raise UsageError(f"{path} has {size}, at most {PICTURE_PIXELS.now} are read", hint=PICTURE_PIXELS.hint)
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                solid = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid)
            return np.asarray(upright.convert("RGB"))
    except FileNotFoundError as error:
        raise UsageError(f"no such file: {path}") from error
    except damage as error:
        raise UsageError(f"{path} is not a readable picture: {error}") from error


def portrait(image: np.ndarray, detector: FaceDetector, landmarker: FaceLandmarker, name: str = "the picture") -> Portrait:
    """Find the one face of a picture.

    Raises:
        UsageError: if there is none, or more than one of a similar size (they would be seen, and not be in the truth).
    """
    faces = detector.detect(image)
    widest = max((float(face.box[2] - face.box[0]) for face in faces), default=0.0)
    large = [face for face in faces if float(face.box[2] - face.box[0]) > 0.4 * widest]
    if not large:
        raise UsageError(f"no face found in {name}", hint="give a picture that shows one face from the front")
    if len(large) > 1:
        raise UsageError(f"{len(large)} faces found in {name}, expected one", hint="cut the picture to one person")
    points, score = landmarker.landmarks(image, large[0].box, large[0].keypoints)
    if score < 0.5:
        raise UsageError(f"the face in {name} is too turned or hidden for a mesh (score {score:.2f})")
    return Portrait(image, points)


class Puppet:
    """One portrait drawn into a fixed picture, then bent frame by frame.

    Args:
        canvas: the still picture uint8 RGB [H, W, 3] that the portrait was drawn into.
        points: mesh float32 [478, 3] in pixels of `canvas`.
        motion: how it moves.
    """

    def __init__(self, canvas: np.ndarray, points: np.ndarray, motion: Motion) -> None:
        from scipy.spatial import Delaunay

        self._canvas = canvas
        self._motion = motion
        self._head = _Head(points)
        self._still = self._head.rest
        self._triangles = Delaunay(self._still).simplices.astype(np.int32)
        low = np.floor(self._still.min(0)).astype(int)
        high = np.ceil(self._still.max(0)).astype(int) + 1
        self._low, self._high = np.maximum(low, 0), np.minimum(high, np.array(canvas.shape[1::-1]))
        self._step = 2 if float(np.ptp(points[:, 0])) > 90 else 1  # the map is made this much coarser than the picture
        self._mouth = _Mouth(canvas, points)

    def draw(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The picture uint8 RGB [H, W, 3] of this frame, and the mesh [478, 2] as it is drawn there."""
        import cv2

        moved, mesh = self._head.moved(self._motion, frame)
        (x0, y0), (x1, y1) = self._low, self._high
        lookup = self._lookup(moved)
        out = self._canvas.copy()
        out[y0:y1, x0:x1] = cv2.remap(
            self._canvas, lookup[..., 0], lookup[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self._mouth.draw(out, mesh)
        return out, mesh

    def _lookup(self, moved: np.ndarray) -> np.ndarray:
        """For each pixel of the head's rectangle where in the canvas it comes from: float32 [h, w, 2].

        Every moved triangle is filled with its number, and each pixel goes back through its triangle's affine map.
        """
        import cv2

        width, height = (self._high - self._low).tolist()
        step = self._step
        small = (-(-width // step) + 1, -(-height // step) + 1)
        local = (moved - self._low) / step
        corners = np.rint(local[self._triangles] * 16).astype(np.int32)
        number = np.full((small[1], small[0]), len(corners), np.float32)  # outside the rings nothing moves
        sides = corners[:, 1:].astype(np.int64) - corners[:, :1]
        area = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
        for index in np.argsort(area, kind="stable").tolist():  # slivers first: their outlines must not cover others
            cv2.fillConvexPoly(number, corners[index], index, lineType=cv2.LINE_8, shift=4)
        still = np.array([[step, 0, self._low[0], 0, step, self._low[1]]], np.float32)
        affines = np.concatenate([_affines(local[self._triangles], self._still[self._triangles]), still])
        affine = affines[number.astype(np.int32)]
        y, x = np.mgrid[0 : small[1], 0 : small[0]].astype(np.float32)
        coarse = np.stack([affine[..., 0] * x + affine[..., 1] * y + affine[..., 2],
                           affine[..., 3] * x + affine[..., 4] * y + affine[..., 5]], -1)  # fmt: skip
        coarse = cv2.GaussianBlur(coarse, (3, 3), 0.7)  # a shut lid is a step in the map: without this it is jagged
        if step == 1:
            return np.ascontiguousarray(coarse[:height, :width])
        grow = np.array([[step, 0, 0], [0, step, 0]], np.float32)
        return np.asarray(
            cv2.warpAffine(coarse, grow, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )


def _affines(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Affine maps float32 [n, 6] that carry triangles `source` [n, 3, 2] to `target` [n, 3, 2].

    A triangle squeezed to a line has none; it covers no pixel that matters, and gets its target's first corner.
    """
    a, b, c = source[:, 0], source[:, 1] - source[:, 0], source[:, 2] - source[:, 0]
    p, q, r = target[:, 0], target[:, 1] - target[:, 0], target[:, 2] - target[:, 0]
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
    flat = np.abs(area) < 1e-4
    inverse = np.where(flat, 0, 1 / np.where(flat, 1, area))
    out = np.empty((len(source), 6))
    for axis in range(2):
        along_x = (q[:, axis] * c[:, 1] - r[:, axis] * b[:, 1]) * inverse
        along_y = (r[:, axis] * b[:, 0] - q[:, axis] * c[:, 0]) * inverse
        out[:, 3 * axis] = along_x
        out[:, 3 * axis + 1] = along_y
        out[:, 3 * axis + 2] = p[:, axis] - along_x * a[:, 0] - along_y * a[:, 1]
    return out.astype(np.float32)


class _Head:
    """The points of a head and how each of them answers to a movement."""

    def __init__(self, points: np.ndarray) -> None:
        mesh = points.astype(np.float64)
        self._right, self._down = _axes(mesh)
        self._width = float(np.ptp(mesh[:, 0]))
        self._mouth_width = float(np.linalg.norm(mesh[78, :2] - mesh[308, :2]))
        centre = mesh[list(OVAL), :2].mean(0)
        depth = mesh[:, 2] - mesh[[234, 454], 2].mean()
        rings = [centre + (mesh[list(OVAL), :2] - centre) * size for size, _ in _RINGS]
        self._flat = np.concatenate([mesh[:, :2], *rings])
        self._depth = np.concatenate([depth, np.zeros(len(OVAL) * len(_RINGS))])
        self._follow = np.concatenate([np.ones(len(mesh)), *(np.full(len(OVAL), share) for _, share in _RINGS)])
        self._pivot = mesh[152, :2] + self._down * 0.25 * self._width  # the neck
        self._drawn = np.r_[0:_MESH, len(mesh) : len(self._flat)]  # irises move with the lids' triangles
        self.rest = self._flat[self._drawn]
        self._shapes = self._expressions(mesh)

    def _expressions(self, mesh: np.ndarray) -> dict[str, np.ndarray]:
        """For each expression the movement of every point [M, 2] at full strength."""
        total = len(self._flat)
        middle = (mesh[78, :2] + mesh[308, :2]) / 2
        across = (self._flat - middle) @ self._right / self._mouth_width
        below = (self._flat - middle) @ self._down / self._mouth_width
        jaw = np.clip(below / 0.25, 0, 1) * np.exp(-np.square(across / 1.1)) * np.exp(-np.square(np.maximum(below - 1.2, 0)))
        lower, upper = list(INNER_LOWER[1:-1] + OUTER_LOWER[1:-1]), list(INNER_UPPER[1:-1] + OUTER_UPPER[1:-1])
        jaw[lower] = 1 - np.square(np.clip(np.abs(across[lower]) / 0.52, 0, 1))
        jaw[upper] = -0.16 * (1 - np.square(np.clip(np.abs(across[upper]) / 0.52, 0, 1)))
        jaw *= np.where(np.arange(total) < len(mesh), 1, self._follow)
        corners = np.exp(-np.square(across / 0.75) - np.square(below / 0.35)) * np.tanh(across * 3)
        shapes = {
            "open": jaw[:, None] * self._down * _JAW * self._mouth_width,
            "spread": corners[:, None] * self._right * 0.09 * self._mouth_width,
            "blink": np.zeros((total, 2)),
            "brow": np.zeros((total, 2)),
        }
        for lids in LIDS:
            for high, low, fold in zip(*lids, strict=True):
                gap = mesh[low, :2] - mesh[high, :2]
                shapes["blink"][high], shapes["blink"][low], shapes["blink"][fold] = gap * 0.92, -gap * 0.06, gap * 0.3
        shapes["brow"][list(BROWS)] = -self._down * 0.03 * self._width
        return shapes

    def moved(self, motion: Motion, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The points that are drawn [M, 2], and the mesh [478, 2], in one frame."""
        shape = self._flat.copy()
        for name, movement in self._shapes.items():
            shape += float(getattr(motion, name)[frame]) * movement
        yaw, pitch, roll = (float(value[frame]) for value in (motion.yaw, motion.pitch, motion.roll))
        local = shape - self._pivot
        x, y = local @ self._right, local @ self._down
        x = x * np.cos(yaw) - self._depth * np.sin(yaw)
        y = y * np.cos(pitch) - self._depth * np.sin(pitch) * 0.8
        turned = np.stack([x * np.cos(roll) - y * np.sin(roll), x * np.sin(roll) + y * np.cos(roll)], -1)
        turned += np.array([motion.x[frame], motion.y[frame]]) * self._width
        placed = self._pivot + turned[:, :1] * self._right + turned[:, 1:] * self._down
        out = self._flat + (placed - self._flat) * self._follow[:, None]
        return out[self._drawn], out[:478]


def _axes(mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of the face in the picture: to the picture's right along the eyes, and down."""
    right = mesh[263, :2] - mesh[33, :2]
    right = right / max(float(np.linalg.norm(right)), 1e-6)
    return right, np.array([-right[1], right[0]])


class _Mouth:
    """What is seen between the lips."""

    def __init__(self, canvas: np.ndarray, points: np.ndarray) -> None:
        import cv2

        self._upper = points[list(INNER_UPPER), :2].astype(np.float64)
        lower = points[list(INNER_LOWER), :2].astype(np.float64)
        self._width = float(np.linalg.norm(self._upper[0] - self._upper[-1]))
        ring = np.concatenate([self._upper, lower[::-1][1:-1]])
        cheek = canvas[tuple(np.clip(np.rint(points[[50, 280], 1::-1]).astype(int), 0, np.array(canvas.shape[:2]) - 1).T)]
        skin = cheek.astype(np.float32).mean(0)
        dark = skin * np.array([0.22, 0.12, 0.11], np.float32)
        inside: np.ndarray = np.full(canvas.shape, dark, np.float32)
        gap = float(np.linalg.norm(points[13, :2] - points[14, :2])) / self._width
        if gap > 0.06:  # the photograph shows what is behind the lips: keep it, it moves with the upper lip
            shown = np.zeros(canvas.shape[:2], np.float32)
            cv2.fillPoly(shown, [np.rint(ring * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
            soft = np.asarray(cv2.GaussianBlur(shown, (0, 0), max(0.6, 0.015 * self._width)))[..., None]
            inside = canvas * soft + inside * (1 - soft)
        else:
            inside = self._teeth(inside, points, np.minimum(skin * np.array([0.95, 0.98, 1.0]) + 15, 225).astype(np.float32))
        self._inside = inside

    def _teeth(self, inside: np.ndarray, points: np.ndarray, colour: np.ndarray) -> np.ndarray:
        import cv2

        _, down = _axes(points.astype(np.float64))
        inner = self._upper[2:-2]
        reach = np.sin(np.linspace(0.2, 0.8, len(inner)) * np.pi)[:, None] * 0.12 * self._width
        band = np.concatenate([inner - down * 0.08 * self._width, (inner + down * reach)[::-1]])
        mask = np.zeros(inside.shape[:2], np.float32)
        cv2.fillPoly(mask, [np.rint(band * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.6, 0.02 * self._width))[..., None] * 0.8
        return np.asarray(colour * mask + inside * (1 - mask), np.float32)

    def draw(self, out: np.ndarray, mesh: np.ndarray) -> None:
        """Draw the inside of the mouth over `out`, between the inner lips of the moved `mesh` [478, 2]."""
        import cv2

        ring = np.concatenate([mesh[list(INNER_UPPER)], mesh[list(INNER_LOWER[-2:0:-1])]])
        low = np.maximum(np.floor(ring.min(0)).astype(int) - 3, 0)
        high = np.minimum(np.ceil(ring.max(0)).astype(int) + 4, np.array(out.shape[1::-1]))
        if (high <= low).any():
            return
        size = (high - low).tolist()
        mask = np.zeros((size[1], size[0]), np.float32)
        cv2.fillPoly(mask, [np.rint((ring - low) * 16).astype(np.int32)], 1.0, cv2.LINE_AA, shift=4)
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.5, 0.012 * self._width))[..., None]
        map_back = _rigid(mesh[list(INNER_UPPER)] - low, self._upper)
        inside = cv2.warpAffine(
            self._inside,
            map_back,
            (size[0], size[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        part = out[low[1] : high[1], low[0] : high[0]]
        part[:] = (part * (1 - mask) + inside * mask + 0.5).astype(np.uint8)


def _rigid(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation and shift [2, 3] that bring points `source` [n, 2] nearest to `target` [n, 2]."""
    a, b = source - source.mean(0), target - target.mean(0)
    angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], 1)
