"""From a photograph or drawing to a portrait: one face, cut out as the pipeline cuts faces, with its landmarks.

The window is that of `dyconv.stages.crop`: a square around the face mesh, 1.5 times its larger side, filled at the
picture's edges with the nearest pixels. Side faces and drawings work as far as the face mesh is found on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import UsageError
from dyconv.faces import MESH_POINTS, face_box
from dyconv.models import registry
from dyconv.models.slots import Detection, FaceDetector, FaceIdentity, FaceLandmarker

DETECTOR, LANDMARKER, IDENTITY = "mediapipe_face", "mediapipe_mesh", "appearance"  # those of the stage `tracks`
MARGIN = 1.5
_PRESENT = 0.5  # landmarker's score from which a face is there
# How a picture is looked at until a face is found: share of its larger side that is put around it (a face that fills the
# picture is found with some room), and blur as a share of it (a face drawn with many lines is found when they run together).
_LARGEST = 2048  # px: larger pictures are made smaller for looking; the mesh is found in 192 px of it anyway
_LOOKS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.004), (0.5, 0.008))


@dataclass(frozen=True)
class FaceModels:
    """The pipeline's own models, loaded once."""

    detector: FaceDetector
    landmarker: FaceLandmarker
    identity: FaceIdentity

    @classmethod
    def load(cls) -> FaceModels:
        """
        Raises:
            ModelMissing: where their weights are not on this machine.
        """
        return cls(load_model(DETECTOR), load_model(LANDMARKER), load_model(IDENTITY))


def load_model(name: str) -> Any:
    """A model of the registry; the number of torch's threads, which it sets for workers, stays what it was."""
    import torch

    threads = torch.get_num_threads()
    try:
        return registry.load(name)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class FaceCrop:
    """One face of a picture.

    Attributes:
        image: uint8 RGB [S, S, 3].
        landmarks: float32 [478, 3] in its pixels.
        box: the window in the picture, float32 [4].
        face: which face it is, 1 the leftmost.
        faces: how many were found.
    """

    image: np.ndarray
    landmarks: np.ndarray
    box: np.ndarray
    face: int
    faces: int


@dataclass(frozen=True)
class Found:
    """A face in a picture uint8 RGB [H, W, 3]: landmarks float32 [478, 3], which one it is from the left, and of how many."""

    picture: np.ndarray
    landmarks: np.ndarray
    face: int
    faces: int

    def cut(self, size: int, like: np.ndarray | None = None) -> FaceCrop:
        """The face at `size` x `size` pixels.

        Args:
            like: landmarks [478, 3] of a face in a crop of that size: the window is laid so that this face is as large and
                lies where that one does, as if both were frames of one clip. By default the window is 1.5 faces wide.
        """
        from dyconv.stages.crop import to_crop

        box = window_of(self.landmarks, like, size)
        image = cut_rgb(self.picture, box, size)
        return FaceCrop(image, to_crop(self.landmarks, box, size), box, self.face, self.faces)


def find_portrait(picture: str | Path | np.ndarray, models: FaceModels, *, face: int | None = None) -> Found:
    """The face of a photograph or drawing.

    Args:
        picture: a file that Pillow reads (turned upright as its EXIF says), or uint8 RGB [H, W, 3].
        face: which one, counted from the left from 1; the largest if not given.

    Raises:
        UsageError: where the picture cannot be read, no face with landmarks is found, or there are fewer than `face`.
    """
    from dyconv.synth.puppet import read_picture

    name = "the picture" if isinstance(picture, np.ndarray) else str(picture)
    image = picture if isinstance(picture, np.ndarray) else read_picture(Path(picture))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        found = f"{image.dtype} {list(image.shape)}"
        raise UsageError(
            f"expected {name} as uint8 [H, W, 3] of at least 16 x 16 pixels, found {found}", hint="give another one"
        )
    meshes = find_faces(image, models)
    if not meshes:
        raise UsageError(
            f"expected a face in {name}, found none ({image.shape[1]} x {image.shape[0]} pixels looked at)",
            hint="give a picture in which eyes, nose and mouth of one person are seen, upright and not from behind",
        )
    if face is not None and not 1 <= face <= len(meshes):
        raise UsageError(f"expected face {face} in {name}, found {len(meshes)}", hint="faces are counted from the left, from 1")
    widths = [float(np.ptp(mesh[:MESH_POINTS, 0])) for mesh in meshes]
    taken = int(np.argmax(widths)) if face is None else face - 1
    return Found(image, meshes[taken], taken + 1, len(meshes))


def window_of(mesh: np.ndarray, like: np.ndarray | None, size: int) -> np.ndarray:
    """The square float32 [4] that a face [478, 3] is cut out by; see `Found.cut`."""
    from dyconv.models.mesh_basis import canonical
    from dyconv.models.mesh_motion import fit_pose
    from dyconv.stages.crop import window

    if like is None:
        return window(face_box(mesh)[None], MARGIN, 0.0)
    scales, _, places = fit_pose(np.stack([mesh, like])[:, :MESH_POINTS].astype(np.float64), canonical())
    ratio = float(scales[0] / scales[1])  # pixels of the picture in one of the crop
    side = max(2, 2 * round(size * ratio / 2))
    corner = 2 * np.rint((places[0, :2] - places[1, :2] * side / size) / 2)
    return np.concatenate([corner, corner + side]).astype(np.float32)


def find_faces(image: np.ndarray, models: FaceModels) -> list[np.ndarray]:
    """Landmarks float32 [478, 3] of every face of uint8 RGB [H, W, 3], from left to right."""
    import cv2

    scale = min(1.0, _LARGEST / max(image.shape[:2]))
    small = image if scale == 1 else np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    longer = max(small.shape[:2])
    for room, blur in _LOOKS:
        border = round(room * longer)
        seen = np.pad(small, ((border, border), (border, border), (0, 0)), mode="edge") if border else small
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), blur * longer)) if blur else seen
        meshes = _meshes(seen, models.detector.detect(seen), models.landmarker)
        if meshes:
            shift = np.array([border, border, 0], np.float32)
            found = ((mesh - shift) * np.float32(1 / scale) for mesh in meshes)
            return sorted(found, key=lambda mesh: float(mesh[:468, 0].mean()))
    return []


def _meshes(image: np.ndarray, faces: Sequence[Detection], landmarker: FaceLandmarker) -> list[np.ndarray]:
    """Of each face that the landmarker sees too, once."""
    from dyconv.tracking.geometry import iou

    meshes: list[np.ndarray] = []
    for found in faces:
        mesh, score = landmarker.landmarks(image, found.box, found.keypoints)
        box = face_box(mesh)[None]
        if score >= _PRESENT and not any(iou(box, face_box(other)[None])[0, 0] > 0.5 for other in meshes):
            meshes.append(mesh)
    return meshes


def cut_rgb(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The window `box` of uint8 RGB [H, W, 3] as [size, size, 3]."""
    from dyconv.stages.crop import cut

    return np.stack([cut(image[..., channel], box, size) for channel in range(3)], axis=-1)
