"""The slots a model can fill. A wrapper is any class with these methods; nothing is inherited.

Shapes: H, W picture; T frames; N samples; K faces. Pictures are uint8 RGB [H, W, 3]. Boxes are float32
`x0, y0, x1, y1` in pixels, x1 and y1 exclusive. Landmarks are float32 [478, 3]: the 468 points of the MediaPipe mesh,
then 5 of the right iris and 5 of the left, x and y in pixels, z in the same scale (smaller is nearer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

SLOTS = ("face_detector", "face_landmarker", "face_identity", "vad", "active_speaker", "separator", "motion_encoder")


@dataclass(frozen=True)
class Detection:
    """One face: box float32 [4], score 0 to 1, keypoints float32 [6, 2] (eyes, nose, mouth, ears) or None."""

    box: np.ndarray
    score: float
    keypoints: np.ndarray | None = None


@runtime_checkable
class FaceDetector(Protocol):
    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces of one picture uint8 [H, W, 3], best score first."""
        ...


@runtime_checkable
class FaceLandmarker(Protocol):
    def landmarks(
        self, image: np.ndarray, box: np.ndarray, keypoints: np.ndarray | None = None, *, irises: bool = True
    ) -> tuple[np.ndarray, float]:
        """Mesh float32 [478, 3] of the face in `box`, and how sure it is that a face is there, 0 to 1.

        Without `irises` the ten iris points may be put in the middle of each eye, where that saves time.
        """
        ...


@runtime_checkable
class FaceIdentity(Protocol):
    scope: str  # "source": comparable within one source only; "global": across sources
    threshold: float  # cosine similarity above which two descriptors are the same person

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """L2-normalised descriptor float32 [D] of the face with these landmarks [478, 3]."""
        ...


@runtime_checkable
class Vad(Protocol):
    def speech(self, samples: np.ndarray) -> np.ndarray:
        """Probability of speech float32 [T], one a 25 fps frame, of mono 16 kHz float32 [N]."""
        ...


@runtime_checkable
class ActiveSpeaker(Protocol):
    def score(self, landmarks: np.ndarray, present: np.ndarray, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """How well a face goes with the sound.

        Args:
            landmarks: float32 [T, 478, 3] of one track, any value where absent.
            present: bool [T], where the face was found.
            samples: mono 16 kHz float32 [T * 640] of the same frames.
            speech: float32 [T], VAD probability.

        Returns:
            float32 [T], log odds that this face is the one speaking; 0 where nothing is known.
        """
        ...


@runtime_checkable
class Separator(Protocol):
    method: str  # written to the record, so that a reader knows how a voice was made

    def separate(self, mix: np.ndarray, activity: np.ndarray) -> np.ndarray:
        """Voices float32 [P, N] of mono 16 kHz `mix` [N], given who speaks when, float32 [P, T] in 0 to 1."""
        ...


@runtime_checkable
class MotionEncoder(Protocol):
    name: str
    hash: str  # names the latent space; a renderer made for another one is refused
    names: Sequence[str]  # what each of the D columns is, for latents that can be read

    def encode(self, frames: Sequence[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
        """Motion latents float32 [T, D] from face pictures uint8 [T, S, S, 3] and landmarks [T, 478, 3] in their pixels."""
        ...
