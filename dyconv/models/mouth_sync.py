"""Our own active speaker model: does this face speak what is heard, and by how much is the sound shifted.

A small network (see `mouth_sync_net`) looks at grey pictures of the mouth and at the lips of the face mesh with the head's
motion taken out, and listens to log mel bands. Trained by `training.active_speaker`; what it was trained on and how good it is,
`dyconv/weights/mouth_sync/card.md` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.models.mouth_crop import mouth_picture
from dyconv.models.mouth_sync_input import REACH, THUMB, level_of, lip_shapes, mel_bands, standardised
from dyconv.models.slots import AvOffset, FaceTrack
from dyconv.time import FPS, frame_samples

if TYPE_CHECKING:
    import torch

SHIFTS = 15  # frames to either side in which the sound is looked for
_BLOCK = 250  # frames gone through at once
_MARGIN = 64  # frames read on either side of a block: more than anything in the network reaches
_SHORTEST = 5  # frames of a face that are too few to tell anything
_LIMIT = 8.0  # log odds
_ENOUGH_S = 1.0  # of speech, to look for a shift


class MouthSync:
    """Calibrated log odds per frame that a face speaks what is heard, and the shift between its lips and the sound.

    Args:
        weights: safetensors of `MouthSyncNet`.
    """

    thumb_px = THUMB

    def __init__(self, weights: Path) -> None:
        from safetensors.torch import load_file

        from dyconv.models.mouth_sync_net import MouthSyncNet

        self._net = MouthSyncNet()
        self._net.load_state_dict(load_file(weights))  # float16 in the file, float32 in the network
        self._net.eval()

    def thumb(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`: mouth and chin, uint8 [48, 48]."""
        return mouth_picture(image, landmarks, THUMB, REACH)

    def score(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`. Within -8 to 8; without `thumbs` it goes by the landmarks alone."""
        import torch

        frames = len(track.present)
        odds = np.zeros(frames, np.float32)
        if int(track.present.sum()) < _SHORTEST:
            return odds
        with torch.inference_mode():
            for start, low, seen, heard in self._blocks(track, samples):
                block = self._net.log_odds(seen, heard)[0].numpy()
                odds[start : start + _BLOCK] = block[start - low : start - low + _BLOCK]
        return np.where(track.present, np.clip(odds, -_LIMIT, _LIMIT), np.float32(0))

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        """See `dyconv.models.slots.ActiveSpeaker`. None with under a second of speech while the face is seen."""
        talking = np.where(track.present, speech, 0.0)
        if float(talking.sum()) < _ENOUGH_S * FPS:
            return None
        return self.offset_of(*self.vectors(track, samples), talking)

    def vectors(self, track: FaceTrack, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors float32 [T, 48] of lips and of sound: their dot product says how well they agree."""
        import torch

        lips, voice = (np.zeros((len(track.present), self._net.seen_sync.out_features), np.float32) for _ in range(2))
        with torch.inference_mode():
            for start, low, seen, heard in self._blocks(track, samples):
                for target, vectors in zip((lips, voice), self._net.sync(seen, heard), strict=True):
                    target[start : start + _BLOCK] = vectors[0, start - low : start - low + _BLOCK].numpy()
        return lips, voice

    def offset_of(self, lips: np.ndarray, voice: np.ndarray, talking: np.ndarray) -> AvOffset | None:
        """The shift of `vectors`, or None with under a second of speech.

        Args:
            talking: float32 [T], weight of each frame: speech while the face is seen.
        """
        if float(talking.sum()) < _ENOUGH_S * FPS:
            return None
        curve = agreement(lips, voice, talking)
        return AvOffset(best_shift(curve), self._confidence(prominence(curve, float(talking.sum()))))

    def _confidence(self, height: float) -> float:
        slope, middle = self._net.confidence.tolist()
        return float(1 / (1 + np.exp(-np.clip(slope * (height - middle), -30, 30))))

    def _blocks(self, track: FaceTrack, samples: np.ndarray) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor]]:
        """Vectors of lips and sound, block by block: first frame of the block, and of what was read for it, [1, n, 96] each."""
        import torch

        frames = len(track.present)
        shapes = lip_shapes(track.landmarks, track.present)
        level = level_of(samples, frames)
        for start in range(0, frames, _BLOCK):
            low, high = max(0, start - _MARGIN), min(frames, start + _BLOCK + _MARGIN)
            empty = np.zeros((high - low, THUMB, THUMB), np.float32)
            thumbs = empty if track.thumbs is None else standardised(track.thumbs[low:high])
            thumbs[~track.present[low:high]] = 0.0
            seen = self._net.watch(torch.from_numpy(thumbs)[None], torch.from_numpy(shapes[low:high])[None])
            begin, end = frame_samples(low), frame_samples(high)
            bands = mel_bands(samples[begin:end], high - low, level)
            yield start, low, seen, self._net.hear(torch.from_numpy(bands)[None])


def agreement(lips: np.ndarray, voice: np.ndarray, talking: np.ndarray) -> np.ndarray:
    """How well lips and sound agree at shifts -15 to 15: float64 [31], weighted means over the frames that have a partner.

    What a frame agrees with everything is taken off, half from either side, so that no shift gains by the company it keeps.

    Args:
        lips, voice: unit vectors float32 [T, C] of each frame.
        talking: float32 [T], weight of each frame of the lips.
    """
    of_lips, of_voice = 0.5 * lips @ voice.mean(axis=0), 0.5 * voice @ lips.mean(axis=0)
    out = np.zeros(2 * SHIFTS + 1)
    for place, shift in enumerate(range(-SHIFTS, SHIFTS + 1)):
        here = slice(max(0, -shift), max(0, len(lips) - max(0, shift)))
        there = slice(here.start + shift, here.stop + shift)
        if here.start < here.stop:
            each = (lips[here] * voice[there]).sum(axis=1) - of_lips[here] - of_voice[there]
            out[place] = talking[here] @ each / max(float(talking[here].sum()), 1.0)
    return out


def best_shift(curve: np.ndarray) -> float:
    """Shift in frames at which agreement [31] is highest, between frames by a parabola through three of them."""
    best = int(curve.argmax())
    if not 0 < best < len(curve) - 1:
        return float(best - SHIFTS)
    before, at, after = (float(value) for value in curve[best - 1 : best + 2])
    bend = before - 2 * at + after
    step = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return best - SHIFTS + float(np.clip(step, -0.5, 0.5))


def prominence(curve: np.ndarray, frames: float) -> float:
    """How far the best of agreement [31] stands out of shifts far from it, in steps of what chance does.

    Chance shrinks with the square root of the frames of speech, up to ten seconds.
    """
    best = int(curve.argmax())
    rest = np.delete(curve, slice(max(0, best - 3), best + 4))
    return float((curve[best] - np.median(rest)) * np.sqrt(min(frames, 10.0 * FPS) / FPS))
