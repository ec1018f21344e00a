"""SyncNet as it was published: the network, what it sees and hears, and its distances by shift.

Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016, with the layers, inputs and shifts of the published
second version: five frames of the whole face at 224 x 224 (BGR, 0 to 255) on one side, 0.2 s of 13 MFCC a 100th of a second on
the other, 1,024 numbers from each, distances at shifts of up to 15 frames.

The published pipeline crops faces by a detector of its own (S3FD). Here the crop is laid by its rule around the box of the face
mesh, so that numbers come near those of papers and are the same procedure for every system, but not digit for digit theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.errors import ModelMissing
from dyconv.faces import face_box
from dyconv.time import SAMPLE_RATE
from training.evaluation.evidence import Arrays, Chunk, Extraction, Shown
from training.evaluation.faces import VERSION as FACES
from training.evaluation.foreign import exact, tensors

SHIFTS = 15  # frames to either side
WINDOW = 5  # frames, 0.2 s
SIDE = 224
_STEPS = 4  # of sound in a frame
_MEDIAN = 13  # frames over which the place of the crop is steadied
_BATCH = 32  # windows at once
_ROOM = 0.4  # of the crop around the box
_CEPSTRA, _BANDS, _FFT, _LENGTH, _HOP, _LIFTER, _EMPHASIS = 13, 26, 512, 400, 160, 22, 0.97
_TINY = np.finfo(np.float64).eps


class SyncNet(nn.Module):
    """The network, its parts named as in the published file of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_plane(1, 64, 3, padding=1),
            nn.Identity(),  # the published network pools one by one here
            *_plane(64, 192, 3, padding=1),
            nn.MaxPool2d((3, 3), (1, 2)),
            *_plane(192, 384, 3, padding=1),
            *_plane(384, 256, 3, padding=1),
            *_plane(256, 256, 3, padding=1),
            nn.MaxPool2d((3, 3), (2, 2)),
            *_plane(256, 512, (5, 4)),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_volume(3, 96, (5, 7, 7), stride=(1, 2, 2)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_volume(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_volume(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_volume(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            *_volume(256, 256, (1, 3, 3), padding=(0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_volume(256, 512, (1, 6, 6)),
        )

    def watch(self, pictures: Tensor) -> Tensor:
        """Float [n - 4, 1024], of each five frames, of BGR pictures 0 to 255, float [3, n, 224, 224].

        Only the first layer looks over time, so that windows are gone through together.
        """
        return self.netfclip(self.netcnnlip(pictures[None])[0, :, :, 0, 0].T)

    def hear(self, cepstra: Tensor) -> Tensor:
        """Float [B, 1024] of MFCC, float [B, 1, 13, 20]."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))


def _plane(inputs: int, width: int, size: int | tuple[int, int], padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(inputs, width, size, padding=padding), nn.BatchNorm2d(width), nn.ReLU()]


def _volume(
    inputs: int,
    width: int,
    size: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int, int] = (0, 0, 0),
) -> list[nn.Module]:
    return [nn.Conv3d(inputs, width, size, stride, padding), nn.BatchNorm3d(width), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def filled(state: Mapping[str, Tensor], where: Path) -> SyncNet:
    """The network with published weights, in evaluation mode.

    Raises:
        ModelMissing: where they are of another network.
    """
    net = SyncNet()
    try:
        lost = net.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ModelMissing(f"{where} is not SyncNet: {error}", hint="run: dyconv models pull --force syncnet") from error
    missing = [name for name in lost.missing_keys if not name.endswith("num_batches_tracked")]  # older files have none
    if missing or lost.unexpected_keys:
        found = f"without {missing[0]}" if missing else f"with {lost.unexpected_keys[0]}"
        raise ModelMissing(f"{where} is not SyncNet: it is {found}", hint="run: dyconv models pull --force syncnet")
    return net.eval()


class SyncNetDistances:
    """`syncnet.distances` float32 [T, 31]: distance of what is seen around a frame from what is heard at shifts -15 to 15.

    NaN where the five frames from two before to two after are not all there, or do not all show the face. The last window of a
    video is left out, as the published code does.

    Args:
        weights: the published file.
        named: what stands for it in the version.
    """

    name = "syncnet"
    partner = False

    def __init__(self, weights: Path, device: torch.device, named: str) -> None:
        self._weights, self._device = weights, device
        self._net: SyncNet | None = None
        self.version = f"1.{FACES}.{named}"

    def begin(self, shown: Shown) -> Extraction:
        """
        Raises:
            ModelMissing: where the file of weights is damaged.
        """
        if self._net is None:
            self._net = filled(tensors(self._weights), self._weights).to(self._device)
        return _Reading(self._net, self._device, shown)


class _Reading:
    """Pictures wait until the place of their crop is known, crops until their window is full."""

    def __init__(self, net: SyncNet, device: torch.device, shown: Shown) -> None:
        self._net, self._device, self._shown = net, device, shown
        self._boxes: list[np.ndarray] = []  # of all frames: their centre and half side
        self._waiting: list[np.ndarray] = []
        self._crops: list[np.ndarray] = []
        self._present: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []
        self._done = 0  # frames that are cropped

    def feed(self, chunk: Chunk) -> None:
        self._present.append(chunk.present)
        self._boxes += list(squares_of(chunk.landmarks))
        self._waiting += list(chunk.pictures)
        self._crop(len(self._boxes) - _MEDIAN // 2)

    def _crop(self, limit: int) -> None:
        """Cut out faces up to a frame, and watch them."""
        while self._done < limit:
            around = self._boxes[max(0, self._done - _MEDIAN // 2) : self._done + _MEDIAN // 2 + 1]
            self._crops.append(face_of(self._waiting.pop(0), np.median(around, axis=0)))
            self._done += 1
            if len(self._crops) == _BATCH + WINDOW - 1:
                self._watch()

    def _watch(self) -> None:
        count = len(self._crops) - WINDOW + 1
        if count < 1:
            return
        pictures = torch.from_numpy(np.stack(self._crops)).to(self._device).float().permute(3, 0, 1, 2)
        with exact():
            self._seen.append(self._net.watch(pictures).cpu().numpy())
        del self._crops[:count]

    def finish(self) -> Arrays:
        self._crop(len(self._boxes))
        self._watch()
        out = np.full((self._shown.frames, 2 * SHIFTS + 1), np.nan, np.float32)
        windows = self._shown.frames - WINDOW
        if windows > 0:
            heard = self._listen(windows)
            seen = torch.from_numpy(np.concatenate(self._seen)[:windows])
            here = np.lib.stride_tricks.sliding_window_view(np.concatenate(self._present), WINDOW)[:windows].all(axis=1)
            out[WINDOW // 2 : WINDOW // 2 + windows][here] = distances_of(seen, heard).numpy()[here]
        return {"syncnet.distances": out}

    def _listen(self, windows: int) -> Tensor:
        cepstra = torch.from_numpy(mfcc(self._shown.voice).astype(np.float32)).T
        need = (windows - 1) * _STEPS + WINDOW * _STEPS
        cepstra = functional.pad(cepstra, (0, max(0, need - cepstra.shape[1])))
        parts = cepstra.unfold(1, WINDOW * _STEPS, _STEPS)[:, :windows].permute(1, 0, 2)[:, None]
        with exact():
            return torch.cat([self._net.hear(part.to(self._device)).cpu() for part in parts.split(64)])


def squares_of(landmarks: np.ndarray) -> np.ndarray:
    """Centre x, y and half the larger side of the face's box, float64 [T, 3], of landmarks [T, 478, 3]."""
    box = face_box(landmarks).astype(np.float64)
    half = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]) / 2
    return np.column_stack([(box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2, half])


def face_of(picture: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Face BGR uint8 [224, 224, 3] of uint8 RGB [S, S, 3]: 2.8 half sides wide, more of it below than above the centre.

    What lies outside the picture is grey, as in the published code.
    """
    import cv2

    x, y, half = (float(value) for value in square)
    half = max(half, 4.0)
    side = 2 * half * (1 + _ROOM)
    scale = side / SIDE
    left, top = x - side / 2, y - half
    matrix = np.array([[scale, 0, left + scale / 2 - 0.5], [0, scale, top + scale / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    grey = (110, 110, 110)
    cut = cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=grey)
    return np.ascontiguousarray(cut[..., ::-1])


def distances_of(seen: Tensor, heard: Tensor) -> Tensor:
    """Float [n, 31] of vectors [n, D]: Euclidean distance of each from what is heard 15 windows before it to 15 after.

    Beyond the ends zeros are heard, and a millionth is added to each difference, as in the published code.
    """
    padded = functional.pad(heard, (0, 0, SHIFTS, SHIFTS))
    each = [functional.pairwise_distance(seen, padded[shift : shift + len(seen)]) for shift in range(2 * SHIFTS + 1)]
    return torch.stack(each, dim=1)


def mfcc(voice: np.ndarray) -> np.ndarray:
    """Mel-frequency cepstra float64 [n, 13], 100 a second, of a voice float32 [N] at 16 kHz.

    As SyncNet's code has them from `python_speech_features` 0.6: 16-bit samples, pre-emphasis 0.97, windows of 25 ms without a
    taper, 26 triangular mel bands of the power spectrum, DCT-II, sinusoidal lifter 22, the first one replaced by log energy.
    """
    from scipy.fft import dct

    samples = np.clip(np.rint(voice.astype(np.float64) * 32768), -32768, 32767)
    samples = np.concatenate([samples[:1], samples[1:] - _EMPHASIS * samples[:-1]])
    count = 1 + max(0, -(-(len(samples) - _LENGTH) // _HOP))
    padded = np.zeros((count - 1) * _HOP + _LENGTH)
    padded[: len(samples)] = samples
    windows = np.lib.stride_tricks.sliding_window_view(padded, _LENGTH)[::_HOP]
    power = np.abs(np.fft.rfft(windows, _FFT)) ** 2 / _FFT
    energy = power.sum(axis=1)
    bands = power @ mel_bank().T
    logs = np.log(np.where(bands == 0, _TINY, bands))
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_CEPSTRA) / _LIFTER)
    cepstra = dct(logs, type=2, axis=1, norm="ortho")[:, :_CEPSTRA] * lifter
    cepstra[:, 0] = np.log(np.where(energy == 0, _TINY, energy))
    return np.asarray(cepstra)


@cache
def mel_bank() -> np.ndarray:
    """Triangular bands float64 [26, 257] from 0 to 8 kHz, their corners at whole bins of the spectrum."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    bins = np.floor((_FFT + 1) * corners / SAMPLE_RATE)
    low, middle, high = (bins[start : start + _BANDS, None] for start in range(3))
    place = np.arange(_FFT // 2 + 1)
    rising, falling = (place - low) / (middle - low), (high - place) / (high - middle)
    return np.clip(np.where(place < middle, rising, falling), 0.0, None)
