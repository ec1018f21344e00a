"""Do lips and voice belong together: by SyncNet (LSE-C, LSE-D) and by this project's own network.

Both judge a face against its own real voice. Where that is silent, neither is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.faces import face_box
from training.evaluation.distances import Mean, mean_sums
from training.evaluation.evidence import Arrays, Chunk, Evidence, Extraction, Extractor, Shown
from training.evaluation.faces import VERSION as FACES
from training.evaluation.foreign import find, pinned, unavailable
from training.evaluation.metric import Choice, Family, Metric, Sums
from training.evaluation.results import Unavailable

if TYPE_CHECKING:
    from dyconv.models.mouth_sync import MouthSync

OWN = "mouth_sync"
NETWORK = "syncnet"
_QUIET = -4.0  # log10 energy: -40 dB of full scale
_LEAST_HEARD = 25  # frames of voice that LSE is taken of
_SURE = 0.3  # confidence from which a shift is one: lips that hardly move have any, and often 0
_LEAST_SPEECH = 50.0  # frames of speech that the own network's shift is taken of: by less it is often a wrong one


def family(choice: Choice) -> Family:
    """LSE-C and LSE-D, and the own network's offset and confidence."""
    from training.evaluation.syncnet import SyncNetDistances

    own: list[Metric] = [Offset(), WithinOne(), Confidence(), Lag()]
    extractors: list[Extractor] = [MouthSyncVectors()]
    published: list[Metric] = [LseC(), LseD()]
    missing: tuple[Unavailable, ...] = ()
    try:
        extractors.append(SyncNetDistances(find(NETWORK, choice), choice.device, (pinned(NETWORK).sha256 or "")[:12]))
    except ModelMissing as error:
        missing = tuple(unavailable(metric.name, error) for metric in published)
        published = []
    return Family((*own, *published), tuple(extractors), unavailable=missing)


class MouthSyncVectors:
    """Arrays of the network `mouth_sync`: `mouth_sync.lips` and `mouth_sync.voice` float32 [T, 48], unit vectors of lips and of
    sound, and `mouth_sync.talking` float32 [T], probability of speech, 0 where the face is absent."""

    name = OWN
    partner = False

    def __init__(self) -> None:
        from dyconv.models import registry

        self.version = f"1.{FACES}.{'.'.join(each[:12] for each in registry.weight_hashes(OWN))}"
        self._models: tuple[MouthSync, Any] | None = None

    def begin(self, shown: Shown) -> Extraction:
        """
        Raises:
            ModelMissing: where the weights, which come with this project, are gone.
        """
        return _Reading(*self.models(), shown.voice)

    def models(self) -> tuple[MouthSync, Any]:
        """The network and the voice activity detector, loaded when first needed."""
        if self._models is None:
            from dyconv.infp.portraits import load_model
            from dyconv.models.silero import SileroVad

            self._models = load_model(OWN), SileroVad()
        return self._models


class _Reading:
    def __init__(self, network: MouthSync, vad: Any, voice: np.ndarray) -> None:
        self._network, self._vad, self._voice = network, vad, voice
        self._thumbs: list[np.ndarray] = []
        self._landmarks: list[np.ndarray] = []
        self._present: list[np.ndarray] = []

    def feed(self, chunk: Chunk) -> None:
        side = self._network.thumb_px
        thumbs = np.zeros((len(chunk), side, side), np.uint8)
        for index in np.flatnonzero(chunk.present):
            points = chunk.landmarks[index]
            thumbs[index] = self._network.thumb(chunk.pictures[index], face_box(points), points)
        self._thumbs.append(thumbs)
        self._landmarks.append(chunk.landmarks)
        self._present.append(chunk.present)

    def finish(self) -> Arrays:
        from dyconv.models.slots import FaceTrack

        parts = (self._landmarks, self._present, self._thumbs)
        track = FaceTrack(*(np.concatenate(part) for part in parts))
        lips, voice = self._network.vectors(track, self._voice)
        talking = np.where(track.present, self._vad.speech(self._voice), 0.0).astype(np.float32)
        return {f"{OWN}.lips": lips, f"{OWN}.voice": voice, f"{OWN}.talking": talking}


class _OwnSync(Mean):
    """What is told by the shift of one clip; clips with under two seconds of speech do not count.

    A shift is looked for within +-15 frames. Where lips hardly move, or belong to another voice, any may come out: a confidence
    below 0.3 says that there is none.
    """

    def __init__(self, what: str, *, better: str, unit: str, about: str) -> None:
        about = f"{about}, by the network mouth_sync"
        super().__init__(f"sync.{OWN}.{what}", better=better, unit=unit, about=about, needs=frozenset({OWN}))
        self._network: MouthSync | None = None

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        talking = np.where(mask, evidence.made[f"{OWN}.talking"], 0.0)
        if talking.sum() < _LEAST_SPEECH:
            return None
        if self._network is None:
            from dyconv.infp.portraits import load_model

            self._network = load_model(OWN)
        found = self._network.offset_of(evidence.made[f"{OWN}.lips"], evidence.made[f"{OWN}.voice"], talking)
        return None if found is None else mean_sums(np.array([self.of(found.frames, found.confidence)]))

    def of(self, frames: float, confidence: float) -> float:
        """The number of a clip; NaN where it has none."""
        raise NotImplementedError


class Offset(_OwnSync):
    """Frames by which the voice is late or early, of clips that have a shift at all."""

    def __init__(self) -> None:
        about = "frames by which the voice is earlier or later than the lips, mean over clips in which both fit somewhere"
        super().__init__("offset", better="lower", unit="frames", about=about)

    def of(self, frames: float, confidence: float) -> float:
        return abs(frames) if confidence >= _SURE else float("nan")


class Lag(_OwnSync):
    """Which way they are off."""

    def __init__(self) -> None:
        about = "frames by which the voice is later than the lips, mean over clips in which both fit somewhere"
        super().__init__("lag", better="truth", unit="frames", about=about)

    def of(self, frames: float, confidence: float) -> float:
        return frames if confidence >= _SURE else float("nan")


class WithinOne(_OwnSync):
    """The share of clips in time, out of all."""

    def __init__(self) -> None:
        about = "share of all clips in which lips and voice fit, no more than a frame apart"
        super().__init__("within_1", better="higher", unit="", about=about)

    def of(self, frames: float, confidence: float) -> float:
        return float(abs(frames) <= 1.0 and confidence >= _SURE)


class Confidence(_OwnSync):
    """How sure the network is that there is a shift at which lips and voice fit."""

    def __init__(self) -> None:
        about = "how sure it is that lips and voice fit at some shift, 0 to 1, mean over clips"
        super().__init__("confidence", better="higher", unit="", about=about)

    def of(self, frames: float, confidence: float) -> float:
        return confidence


class _Lse(Mean):
    """Of the mean over a clip's frames of SyncNet's distance at each shift; then the mean over clips."""

    def sums(self, evidence: Evidence, mask: np.ndarray) -> Sums | None:
        distances = evidence.made[f"{NETWORK}.distances"]
        used = mask & ~np.isnan(distances[:, 0])
        if not used.any() or (evidence.own[used] > _QUIET).sum() < _LEAST_HEARD:
            return None
        return mean_sums(np.array([self.of(distances[used].astype(np.float64).mean(axis=0))]))

    def of(self, distances: np.ndarray) -> float:
        """The number of mean distances [31] by shift."""
        raise NotImplementedError


class LseC(_Lse):
    """Confidence (Sync-C): how far the best shift stands out."""

    def __init__(self) -> None:
        about = (
            "SyncNet's confidence: median over shifts of +-15 frames of the mean distance, less its minimum; mean over clips"
        )
        super().__init__("lse-c", better="higher", unit="", about=about, needs=frozenset({NETWORK}))

    def of(self, distances: np.ndarray) -> float:
        return float(np.median(distances) - distances.min())


class LseD(_Lse):
    """Distance (Sync-D): at the best shift."""

    def __init__(self) -> None:
        about = "SyncNet's distance of lips and voice at the best shift of +-15 frames, mean over clips"
        super().__init__("lse-d", better="lower", unit="", about=about, needs=frozenset({NETWORK}))

    def of(self, distances: np.ndarray) -> float:
        return float(distances.min())
