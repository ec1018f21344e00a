"""Faces of a data set in numbers: where heads turn, how expressions move, how pictures look.

Measured on landmarks and one frame a person. Expressions are those of `dyconv.models.mesh_motion`, in outer-eye distances,
each against the person's own median in the clip. The gestures below are what is read off them as a stand-in for emotion: they
say what the mesh does, not what anybody feels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.faces import unpack_points
from dyconv.models.mesh_basis import EXPRESSIONS

STEP = 2  # frames: every second one is measured
_CROP_SIDE = 512.0
_EYES = (33, 263)  # outer corners
# What counts as each gesture: expressions, their mean's sign, and from how far away from the person's median on. The distances
# are 1.5 to 3 times the deviation that the expression has in the middle one of 167 people of as many public clips.
GESTURES: dict[str, tuple[tuple[str, ...], float, float]] = {
    "corners of the mouth up": (("mouth_corner_right", "mouth_corner_left"), 1.0, 0.03),
    "corners of the mouth down": (("mouth_corner_right", "mouth_corner_left"), -1.0, 0.03),
    "brows up": (("brow_inner_right", "brow_inner_left", "brow_outer_right", "brow_outer_left"), 1.0, 0.02),
    "brows together": (("brow_frown",), -1.0, 0.015),
    "mouth open": (("mouth_open",), 1.0, 0.10),
    "eyes shut": (("eye_open_right", "eye_open_left"), -1.0, 0.03),
}


@dataclass
class Faces:
    """Measured values, one list each; angles in degrees, expressions in outer-eye distances, picture values 0 to 255.

    Attributes:
        yaw, pitch, roll: of frames.
        turning: standard deviation of yaw over time, of each person of a clip.
        moving: of each expression, standard deviation over time, of each person of a clip.
        gestures: frames in which each gesture is made; `frames` were measured.
        at_once: by how many gestures a frame has, as names joined; for the entropy.
        crop_px: width of the window that the face video was cut from, pixels of VIDEO.
        present: share of a clip's frames in which the face was found.
        light, sharpness: mean luma, and variance of its Laplacian at 256 px, of one frame a person.
    """

    yaw: list[float] = field(default_factory=list)
    pitch: list[float] = field(default_factory=list)
    roll: list[float] = field(default_factory=list)
    turning: list[float] = field(default_factory=list)
    moving: dict[str, list[float]] = field(default_factory=dict)
    gestures: dict[str, int] = field(default_factory=dict)
    at_once: dict[tuple[str, ...], int] = field(default_factory=dict)
    frames: int = 0
    crop_px: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    @property
    def entropy_bits(self) -> float | None:
        """Shannon entropy over the combinations of gestures, bits; None where nothing was measured."""
        if not self.frames:
            return None
        shares = np.array(list(self.at_once.values())) / self.frames
        return float(max(0.0, -(shares * np.log2(shares)).sum()))


def measure_crop(data: bytes, into: Faces) -> None:
    """Add one person of one clip, by the bytes of their crop file."""
    from dyconv.models.mesh_motion import MeshMotion

    held = load_arrays(io.BytesIO(data))
    present = np.asarray(held["present"], bool)
    box = np.asarray(held["box"], float)
    into.present.append(float(present.mean()) if len(present) else 0.0)
    if box[2] > box[0]:
        into.crop_px.append(float(box[2] - box[0]))
    chosen = np.flatnonzero(present)[::STEP]
    points = unpack_points(held["landmarks"])[chosen]
    points = points[np.linalg.norm(points[:, _EYES[0], :2] - points[:, _EYES[1], :2], axis=1) > 1.0]  # no face is a point
    if len(points) < 5:
        return
    model = MeshMotion()
    values = model.encode([np.zeros((int(_CROP_SIDE), int(_CROP_SIDE), 3), np.uint8)], points).astype(float)
    named = dict(zip(model.names, values.T, strict=True))
    angles = {name: np.degrees(named[f"head_{name}"]) for name in ("yaw", "pitch", "roll")}
    into.yaw += angles["yaw"].tolist()
    into.pitch += angles["pitch"].tolist()
    into.roll += angles["roll"].tolist()
    into.turning.append(float(angles["yaw"].std()))
    for name in EXPRESSIONS:
        into.moving.setdefault(name, []).append(float(named[name].std()))
    _gestures(named, len(points), into)


def _gestures(named: dict[str, np.ndarray], frames: int, into: Faces) -> None:
    made = {}
    for gesture, (names, sign, least) in GESTURES.items():
        mean = np.mean([named[name] for name in names], axis=0)
        made[gesture] = sign * (mean - np.median(mean)) > least
        into.gestures[gesture] = into.gestures.get(gesture, 0) + int(made[gesture].sum())
    for frame in range(frames):
        key = tuple(gesture for gesture in GESTURES if made[gesture][frame])
        into.at_once[key] = into.at_once.get(key, 0) + 1
    into.frames += frames


def one_frame(video: bytes, into: Faces, *, frame: int = 12) -> np.ndarray | None:
    """A frame uint8 [S, S, 3] of a face video, measured on the way; None where none decodes."""
    import cv2

    from dyconv.media.video import read_frames

    shown = None
    for number, picture in enumerate(read_frames(io.BytesIO(video))):
        shown = picture
        if number >= frame:
            break
    if shown is None:
        return None
    luma = cv2.cvtColor(cv2.resize(shown, (256, 256), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    into.light.append(float(luma.mean()))
    into.sharpness.append(float(cv2.Laplacian(luma, cv2.CV_64F).var()))
    return shown
