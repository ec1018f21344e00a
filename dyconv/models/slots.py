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

SLOTS = (
    *("face_detector", "face_landmarker", "face_identity"),
    *("vad", "active_speaker", "diarizer", "enhancer", "separator"),
    "motion_encoder",
)


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


@dataclass(frozen=True)
class FaceTrack:
    """One face through one shot, as an active speaker model wants it.

    Attributes:
        landmarks: float32 [T, 478, 3], any value where absent.
        present: bool [T], where the face was found.
        thumbs: uint8 [T, S, S], what the model's own `thumb` made of each frame, zeros where absent; None for a model
            that does not look at pictures.
    """

    landmarks: np.ndarray
    present: np.ndarray
    thumbs: np.ndarray | None = None


@dataclass(frozen=True)
class AvOffset:
    """By how many 25 fps frames the sound is later than the lips (negative: earlier), and how sure that is, 0 to 1.

    A confidence near 0 says that no shift makes sound and lips fit: another voice, a dub, or lips that do not move.
    """

    frames: float
    confidence: float


@runtime_checkable
class ActiveSpeaker(Protocol):
    thumb_px: int  # side S of the pictures it looks at; 0: it looks at landmarks only

    def thumb(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Grey uint8 [S, S] of one face: picture uint8 [H, W, 3], box float32 [4], mesh float32 [478, 3], in its pixels."""
        ...

    def score(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """How well a face goes with the sound.

        Args:
            track: T frames of one face.
            samples: mono 16 kHz float32 [T * 640] of the same frames.
            speech: float32 [T], VAD probability.

        Returns:
            float32 [T], log odds that this face is one that speaks; 0 where nothing is known.
        """
        ...

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        """Shift of the sound against these lips within +-15 frames; None where there is too little speech to tell."""
        ...


@dataclass(frozen=True)
class Diarization:
    """Who is heard when, by voice alone.

    Attributes:
        activity: float32 [S, T], 0 to 1, one row a voice, one column a 25 fps frame; several may be 1 at once.
        embeddings: float32 [S, D], L2-normalised, of each voice.
        overlap: float32 [T], probability that several are heard at once; None where only the activity tells.
        vectors: float32 [T, D], unit length, how whoever is heard around a frame sounds; None where the model does not say.
    """

    activity: np.ndarray
    embeddings: np.ndarray
    overlap: np.ndarray | None = None
    vectors: np.ndarray | None = None


@runtime_checkable
class Diarizer(Protocol):
    def diarize(self, samples: np.ndarray, *, min_speakers: int = 1, max_speakers: int | None = None) -> Diarization:
        """Voices in mono 16 kHz float32 [N], the one heard longest first; no rows where nobody speaks."""
        ...


@runtime_checkable
class Enhancer(Protocol):
    method: str  # written to the record

    def speech(self, mix: np.ndarray) -> np.ndarray:
        """The speech of everybody, float32 [N], in mono 16 kHz float32 [N]; the rest is what is left of the mix."""
        ...


@runtime_checkable
class Separator(Protocol):
    method: str  # written to the record, so that a reader knows how a voice was made

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Each voice alone.

        Args:
            mix: mono 16 kHz float32 [N].
            activity: who speaks when, float32 [P, T] in 0 to 1.
            enrolment: for each of the P people some seconds of nobody but them, mono 16 kHz, from anywhere in the source;
                empty arrays, or nothing at all, where there are none.

        Returns:
            float32 [P, N]. What is in none of the voices is the rest: voices and rest sum to the mix.
        """
        ...


@runtime_checkable
class MotionEncoder(Protocol):
    name: str
    hash: str  # names the latent space; a renderer made for another one is refused
    names: Sequence[str]  # what each of the D columns is, for latents that can be read

    def encode(self, frames: Sequence[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
        """Motion latents float32 [T, D] from face pictures uint8 [T, S, S, 3] and landmarks [T, 478, 3] in their pixels."""
        ...
