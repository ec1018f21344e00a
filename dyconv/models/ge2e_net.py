"""The voice encoder of Wan et al. 2018 ("Generalized end-to-end loss for speaker verification") as Resemblyzer published it.

Three LSTM layers over 1.6 s of mel energies (40 bands, 25 ms windows every 10 ms, no logarithm) give one vector a piece.
The model is one of pyannote.audio's, so that its pipelines take it as an embedding; what a mask covers is the mean of the
pieces inside it. Windows of a pipeline overlap, so the vector of each piece is remembered until `forget`.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.audio import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications
from torch import Tensor

from dyconv.errors import ModelMissing
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

PIECE = 25600  # samples, 1.6 s: what the network was trained on
STEP = 3200  # samples between pieces
LEVEL_DB = -30.0  # of a recording, to which quieter ones are raised
_WINDOW, _HOP, _BANDS = 400, 160, 40
_FRAMES = PIECE // _HOP
_HIDDEN, _LAYERS = 256, 3
_BATCH = 64
_AROUND = 6  # frames of 25 a second on either side
_SHARE = 0.3  # pieces less inside a mask than this share of the best one do not count
_WINDOW_S = 5.0


class VoiceEncoder(Model):
    """Vectors float32 [.., 256], not negative, of unit length, of mono 16 kHz sound [B, 1, N] at `LEVEL_DB`."""

    bands: Tensor

    def __init__(self, sample_rate: int = SAMPLE_RATE, num_channels: int = 1, task: Any = None) -> None:
        from torchaudio.functional import melscale_fbanks

        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        bands = melscale_fbanks(_WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, _BANDS, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("bands", bands, persistent=False)
        self.lstm = torch.nn.LSTM(_BANDS, _HIDDEN, _LAYERS, batch_first=True)
        self.linear = torch.nn.Linear(_HIDDEN, _HIDDEN)
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=_WINDOW_S, min_duration=PIECE / SAMPLE_RATE
        )
        self._heard: dict[bytes, np.ndarray] = {}

    @property
    def dimension(self) -> int:
        return _HIDDEN

    def forget(self) -> None:
        """Before another recording: what is remembered takes 5 kB for a second of sound."""
        self._heard.clear()

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Vectors [B, 256] of the whole, or [B, 256] or [B, S, 256] of what weights [B, F] or [B, S, F] in 0 to 1 cover."""
        rows = [
            self._vectors(wave[0].numpy(), None if weights is None else weights[index].numpy())
            for index, wave in enumerate(waveforms)
        ]
        return torch.from_numpy(np.stack(rows))

    def around(self, samples: np.ndarray, frames: int) -> np.ndarray:
        """Vectors float32 [frames, 256] of half a second around each 25 fps frame, every second one computed.

        Too short for a recogniser, but enough to tell two voices of one recording apart once it is known how they sound.
        """
        half = _AROUND * SAMPLES_PER_FRAME
        padded = np.pad(samples, (half, half + 2 * SAMPLES_PER_FRAME + max(0, frames * SAMPLES_PER_FRAME - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)[SAMPLES_PER_FRAME :: 2 * SAMPLES_PER_FRAME]
        windows = windows[: -(-frames // 2)]
        found = np.zeros((len(windows), _HIDDEN), np.float32)
        with torch.inference_mode():
            for start in range(0, len(windows), _BATCH):
                part = torch.from_numpy(np.ascontiguousarray(windows[start : start + _BATCH]))
                found[start : start + _BATCH] = self._embedded(part).numpy()
        return np.repeat(found, 2, axis=0)[:frames]

    def _vectors(self, samples: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        starts = range(0, max(1, len(samples) - PIECE + 1), STEP)
        pieces = self._pieces([samples[start : start + PIECE] for start in starts])
        if weight is None:
            return _unit(pieces.mean(axis=0))
        covered = np.stack([_covered(row, starts, len(samples)) for row in np.atleast_2d(weight)])
        vectors = _unit(covered @ pieces)
        return vectors if weight.ndim > 1 else vectors[0]

    def _pieces(self, pieces: list[np.ndarray]) -> np.ndarray:
        """Vectors [len(pieces), 256], each computed once."""
        keys = [hashlib.blake2b(piece.tobytes(), digest_size=16).digest() for piece in pieces]
        new = {key: piece for key, piece in zip(keys, pieces, strict=True) if key not in self._heard}
        for start in range(0, len(new), _BATCH):
            chosen = list(new)[start : start + _BATCH]
            padded = np.stack([np.pad(new[key], (0, PIECE - len(new[key]))) for key in chosen])
            self._heard.update(zip(chosen, self._embedded(torch.from_numpy(padded)).numpy(), strict=True))
        return np.stack([self._heard[key] for key in keys])

    def _embedded(self, pieces: Tensor) -> Tensor:
        window = torch.hann_window(_WINDOW, device=pieces.device)
        spectrum = torch.stft(pieces, _WINDOW, _HOP, window=window, pad_mode="constant", return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(dim=-1).transpose(1, 2)[:, :_FRAMES]
        hidden = self.lstm(power @ self.bands)[1][0][-1]
        vectors = torch.relu(self.linear(hidden))
        return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-6)


def load_voice_encoder(path: Path) -> VoiceEncoder:
    """The encoder with Resemblyzer's weights (`pretrained.pt`), in eval mode.

    Raises:
        ModelMissing: where the file holds something else.
    """
    model = VoiceEncoder()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        model.load_state_dict({name: value for name, value in state.items() if name.startswith(("lstm.", "linear."))})
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise ModelMissing(
            f"{path} does not hold the voice encoder: {error}", hint="run: dyconv models pull --force"
        ) from error
    return model.eval()


def levelled(samples: np.ndarray) -> np.ndarray:
    """Samples raised to `LEVEL_DB`, digital silence not counted; louder ones as they are."""
    sounding = samples[samples != 0]
    level = float(np.sqrt(np.mean(np.square(sounding, dtype=np.float64)))) if len(sounding) else 0.0
    gain = 10 ** (LEVEL_DB / 20) / level if level > 0 else 1.0
    return (samples * max(gain, 1.0)).astype(np.float32)


def _covered(weight: np.ndarray, starts: range, samples: int) -> np.ndarray:
    """How much each piece counts, float32 [len(starts)]: the square of the share of it inside the mask [F]."""
    grid = np.interp(np.linspace(0, 1, max(samples // _HOP, 1)), np.linspace(0, 1, len(weight)), weight)
    running = np.concatenate([[0.0], np.cumsum(grid)])
    edges = np.array([[start, min(start + PIECE, samples)] for start in starts]) // _HOP
    share = (running[edges[:, 1]] - running[edges[:, 0]]) / _FRAMES
    count = share**2 + 1e-6
    return np.where(count >= _SHARE * count.max(), count, 0.0).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-9), dtype=np.float32)
