"""Speech out of music and noise by demucs: our small network (`htdemucs_small`), or the published one (`htdemucs`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.models.demucs_load import SPEECH, load_network
from dyconv.time import SAMPLE_RATE

# Of `demucs.htdemucs.HTDemucs`; what is not named is demucs' default.
SHAPE: dict[str, Any] = {
    "sources": ["speech", "rest"],
    "audio_channels": 1,
    "samplerate": SAMPLE_RATE,
    "segment": 3,
    "nfft": 1024,
    "channels": 16,
    "t_layers": 1,
    "t_heads": 4,
}
_BLOCK_S, _JOIN_S = 60, 1  # worked on at once, and how long two blocks fade into each other


class DemucsEnhancer:
    """A demucs network as an `Enhancer`; memory does not grow with the length of the sound but for the result.

    Stems do not quite sum to the mix. What is missing is shared by the speech and the others, half and half (Wisdom et al.,
    "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019): speech that is nearly clean
    loses a decibel less.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing if the file is not a demucs network with speech (or vocals) among its sources."""
        self._net = load_network(path)
        self._source = next(index for index, name in enumerate(self._net.sources) if name in SPEECH)
        self.method = f"demucs {type(self._net).__name__} {path.parent.name}/{path.name}"

    def speech(self, mix: np.ndarray) -> np.ndarray:
        """The speech float32 [N] of mono 16 kHz `mix` float32 [N]. The same input gives the same output."""
        out = np.zeros(len(mix), np.float32)
        join = _JOIN_S * SAMPLE_RATE
        rise = np.linspace(0.0, 1.0, join, dtype=np.float32)
        for start, stop in _blocks(len(mix)):
            part = self._speech(mix[start:stop])
            if start:
                part[:join] *= rise
                out[start : start + join] *= 1.0 - rise
            out[start:stop] += part
        return out

    def _speech(self, mix: np.ndarray) -> np.ndarray:
        import torch
        from demucs.apply import apply_model
        from demucs.audio import convert_audio

        net = self._net
        if not np.any(mix):
            return np.zeros(len(mix), np.float32)
        with torch.inference_mode():
            sound = convert_audio(torch.from_numpy(mix)[None], SAMPLE_RATE, net.samplerate, net.audio_channels)
            level = sound.std() + 1e-8
            stems = apply_model(net, (sound / level)[None], shifts=0, overlap=0.25)[0] * level
            speech = stems[self._source] + (sound - stems.sum(dim=0)) / 2
            mono = convert_audio(speech, net.samplerate, SAMPLE_RATE, 1)[0].numpy()
        return np.pad(mono[: len(mix)], (0, max(0, len(mix) - len(mono)))).astype(np.float32)


def _blocks(samples: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges that overlap by the join; a short last one is part of the one before."""
    block, join = _BLOCK_S * SAMPLE_RATE, _JOIN_S * SAMPLE_RATE
    start = 0
    while samples - start > 2 * block:
        yield start, start + block
        start += block - join
    yield start, samples
