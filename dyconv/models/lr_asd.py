"""LR-ASD with its published weights, brought by hand: a research-grade active speaker model.

Liao et al., "LR-ASD: Lightweight and Robust Network for Active Speaker Detection", IJCV 2025; weights under the MIT
licence. Of the two published files, the one trained on AVA films is used: on real talking heads it told speakers from
others far better than the one fine-tuned on TalkSet, whose sound statistics are not those of plain speech.
"""

from __future__ import annotations

import os
import pickle
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.models.mouth_crop import face_picture
from dyconv.models.registry import Weight
from dyconv.models.slots import AvOffset, FaceTrack
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    import torch

    from dyconv.models.lr_asd_net import LrAsdNet

VARIABLE = "DYCONV_LR_ASD"  # names the file of weights, where it lies elsewhere than in the model cache
_SHA256 = "85e6c77fc981595234790d1e128ebb60352d37726b2445e0ef8891e2512fe9e3"
_SIZE = 112
_SIDE, _LOWER = 1.2, 0.0  # of the face box, which ends at the hairline: the whole head, as AVA's boxes show it
_BLOCK, _MARGIN = 500, 50  # frames scored at once, and read on either side of them
_PICTURES = 100  # frames whose features are made at once
_REACH = 9  # frames the picture features look to either side
_SHORTEST = 12
# python_speech_features' defaults, which the weights were trained on.
_WINDOW, _HOP, _FFT, _FILTERS, _CEPSTRA, _LIFTER, _EMPHASIS = 400, 160, 512, 26, 13, 22, 0.97


def weight() -> Weight:
    """The file that `DYCONV_LR_ASD` names, else its place in the model cache."""
    origin = "weight/pretrain_AVA.model of github.com/Junhua-Liao/LR-ASD"
    if wanted := os.environ.get(VARIABLE):
        return Weight(path=str(Path(wanted).resolve()), sha256=None, origin=f"{origin} ({VARIABLE})")
    return Weight(path="lr_asd/pretrain_AVA.model", sha256=_SHA256, origin=origin)


class LrAsd:
    """LR-ASD's own log odds, not calibrated any further.

    Args:
        weights: its published state dict (`weight/pretrain_AVA.model` of its repository).

    Raises:
        ModelMissing: if the file is not there, or is not that state dict.
    """

    thumb_px = _SIZE

    def __init__(self, weights: Path) -> None:
        self._net = load_lr_asd(weights)

    def thumb(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`: the lower face, uint8 [112, 112]."""
        return face_thumb(image, box)

    def score(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """See `dyconv.models.slots.ActiveSpeaker`. 0 where the face is absent, and for tracks under half a second."""
        import torch

        if track.thumbs is None:
            raise ValueError("LR-ASD looks at pictures: expected thumbs in the track, found None")
        frames = len(track.present)
        odds = np.zeros(frames, np.float32)
        if int(track.present.sum()) < _SHORTEST:
            return odds
        with torch.inference_mode():
            seen = self._watch(track.thumbs)
            heard = self._net.hear(torch.from_numpy(mfcc(samples, frames))[None])
            for start in range(0, frames, _BLOCK):
                low, high = max(0, start - _MARGIN), min(frames, start + _BLOCK + _MARGIN)
                block = self._net.judge(seen[:, low:high], heard[:, low:high])[0].numpy()
                odds[start : start + _BLOCK] = block[start - low : start - low + _BLOCK]
        return np.where(track.present, odds, np.float32(0))

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        """None: it was trained to call a face a speaker, and its score hardly falls within some frames of shift."""
        return None

    def _watch(self, thumbs: np.ndarray) -> torch.Tensor:
        import torch

        parts = []
        for start in range(0, len(thumbs), _PICTURES):
            low, high = max(0, start - _REACH), min(len(thumbs), start + _PICTURES + _REACH)
            block = self._net.watch(torch.from_numpy(thumbs[low:high].astype(np.float32))[None])
            parts.append(block[:, start - low : start - low + min(_PICTURES, len(thumbs) - start)])
        return torch.cat(parts, dim=1)


def face_thumb(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """What the network looks at, uint8 [112, 112], of a picture uint8 RGB [H, W, 3] and a face box in its pixels."""
    return face_picture(image, box, _SIZE, _SIDE, _LOWER)


def load_lr_asd(path: Path) -> LrAsdNet:
    """The network with a published state dict, ready for inference.

    Raises:
        ModelMissing: if the file is not there, or holds something else.
    """
    import torch

    from dyconv.models.lr_asd_net import LrAsdNet

    hint = f"get weight/pretrain_AVA.model of github.com/Junhua-Liao/LR-ASD, and set {VARIABLE} to where it lies"
    if not path.is_file():
        raise ModelMissing(f"model lr_asd needs its published weights, found no file {path}", hint=hint)
    net = LrAsdNet()
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except (RuntimeError, pickle.UnpicklingError, AttributeError, TypeError, EOFError) as error:
        found = str(error).splitlines()[0]
        raise ModelMissing(f"{path} is not LR-ASD's state dict: {found}", hint=hint) from error
    return net.eval()


def mfcc(samples: np.ndarray, frames: int) -> np.ndarray:
    """13 cepstra every 10 ms of mono 16 kHz float32 in -1 to 1: float32 [frames * 4, 13].

    Mel cepstra as Davis and Mermelstein (1980), with the settings of python_speech_features: samples scaled to 16 bits,
    pre-emphasis, windows of 25 ms that are not tapered, 26 filters, liftered; log energy in place of the first one.
    """
    from scipy.fft import dct

    count = frames * (SAMPLES_PER_FRAME // _HOP)
    scaled = np.zeros(count * _HOP + _WINDOW)
    part = samples[: len(scaled)].astype(np.float64) * 32768.0
    scaled[: len(part)] = part
    scaled[1:] -= _EMPHASIS * scaled[:-1]
    windows = np.lib.stride_tricks.sliding_window_view(scaled, _WINDOW)[::_HOP][:count]
    power = np.abs(np.fft.rfft(windows, _FFT, axis=1)) ** 2 / _FFT
    tiny = np.finfo(np.float64).eps
    logs = np.log(np.maximum(power @ _filters().T, tiny))
    cepstra = dct(logs, type=2, axis=1, norm="ortho")[:, :_CEPSTRA]
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_CEPSTRA) / _LIFTER)
    cepstra[:, 0] = np.log(np.maximum(power.sum(axis=1), tiny))
    return cepstra.astype(np.float32)


@cache
def _filters() -> np.ndarray:
    """Triangles [26, 257] between whole FFT bins, evenly spaced in mel from 0 to 8 kHz."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hz = 700.0 * (10.0 ** (np.linspace(0.0, top, _FILTERS + 2) / 2595.0) - 1.0)
    edges = np.floor((_FFT + 1) * hz / SAMPLE_RATE)
    bins = np.arange(_FFT // 2 + 1)[None]
    low, middle, high = (edges[shift : shift + _FILTERS, None] for shift in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0.0, None)
