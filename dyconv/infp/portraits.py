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
from dyconv.faces import face_box
from dyconv.models import registry
from dyconv.models.slots import Detection, FaceDetector, FaceIdentity, FaceLandmarker

DETECTOR, LANDMARKER, IDENTITY = "mediapipe_face", "mediapipe_mesh", "appearance"  # those of the stage `tracks`
MARGIN = 1.5
_PRESENT = 0.5  # landmarker's score from which a face is there
_BORDERS = (0.0, 0.5)  # shares of the larger side put around a picture: a face that fills it is found with some room


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


def read_portrait(picture: Path | np.ndarray, size: int, models: FaceModels, *, face: int | None = None) -> FaceCrop:
    """The face of a photograph or drawing, at `size` x `size` pixels.

    Args:
        picture: a file that Pillow reads (turned upright as its EXIF says), or uint8 RGB [H, W, 3].
        face: which one, counted from the left from 1; the largest if not given.

    Raises:
        UsageError: where the picture cannot be read, no face with landmarks is found, or there are fewer than `face`.
    """
    from dyconv.stages.crop import to_crop, window
    from dyconv.synth.puppet import read_picture

    name = "the picture" if isinstance(picture, np.ndarray) else str(picture)
    image = picture if isinstance(picture, np.ndarray) else read_picture(picture)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 16:
        raise UsageError(f"expected a picture uint8 [H, W, 3] of 16 pixels or more, found {image.dtype} {image.shape}")
    meshes = find_faces(image, models)
    if not meshes:
        raise UsageError(
            f"expected a face in {name}, found none ({image.shape[1]} x {image.shape[0]} pixels looked at)",
            hint="give a picture in which eyes, nose and mouth of one person are seen, upright and not from behind",
        )
    if face is not None and not 1 <= face <= len(meshes):
        raise UsageError(f"expected face {face} in {name}, found {len(meshes)}", hint="faces are counted from the left, from 1")
    widths = [float(np.ptp(mesh[:468, 0])) for mesh in meshes]
    taken = int(np.argmax(widths)) if face is None else face - 1
    box = window(face_box(meshes[taken])[None], MARGIN, 0.0)
    crop = cut_rgb(image, box, size)
    return FaceCrop(crop, to_crop(meshes[taken], box, size), box, taken + 1, len(meshes))


def find_faces(image: np.ndarray, models: FaceModels) -> list[np.ndarray]:
    """Landmarks float32 [478, 3] of every face of uint8 RGB [H, W, 3], from left to right."""
    for share in _BORDERS:
        border = round(share * max(image.shape[:2]))
        padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="edge") if border else image
        meshes = _meshes(padded, models.detector.detect(padded), models.landmarker)
        if meshes:
            shift = np.array([border, border, 0], np.float32)
            return sorted((mesh - shift for mesh in meshes), key=lambda mesh: float(mesh[:468, 0].mean()))
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
