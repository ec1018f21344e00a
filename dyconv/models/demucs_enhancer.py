"""Speech out of music and noise by demucs: our small network (`htdemucs_small`), or the published one (`htdemucs`).

Both are files in the format of demucs' own hub repositories: safetensors with the network's class and arguments as
JSON. Only demucs' network classes are made from such a file, and nothing is unpickled; demucs' older `.th` files are
pickles and are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ModelMissing
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
_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
_SPEECH = ("speech", "vocals")  # what a network may call it
_BLOCK_S, _JOIN_S = 60, 1  # worked on at once, and how long two blocks fade into each other


class DemucsEnhancer:
    """A demucs network as an `Enhancer`; memory does not grow with the length of the sound but for the result.

    Stems do not quite sum to the mix. What is missing is shared by the speech and the others, half and half (Wisdom et al.,
    "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019): nearly clean speech keeps
    2 dB more of itself.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelMissing if the file is not a demucs network in safetensors with speech (or vocals) among its sources."""
        self._net = load_network(path)
        self._source = next(index for index, name in enumerate(self._net.sources) if name in _SPEECH)
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


def load_network(path: Path) -> Any:
    """A demucs network from a safetensors file in the format of demucs' hub repositories.

    Raises:
        ModelMissing: for any other file, saying what it is expected to be.
    """
    from demucs.hf import load_safetensors_model
    from safetensors import SafetensorError, safe_open

    hint = "demucs' hub repositories (adefossez/HTDemucs, ...) hold such files; its .th files are pickles and are not read"
    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelMissing(f"{path} is no safetensors file: {error}", hint=hint) from error
    if about.get("klass") not in _CLASSES or "structure" in about:
        raise ModelMissing(f"{path} holds {about.get('klass', 'no network')}, expected one of {', '.join(_CLASSES)}", hint=hint)
    net = load_safetensors_model(path)
    if not set(net.sources) & set(_SPEECH):
        raise ModelMissing(f"{path} takes out {', '.join(net.sources)}, expected speech or vocals among them", hint=hint)
    return net.float().eval()


def save_network(path: Path, net: Any, kwargs: dict[str, Any]) -> None:
    """Write a network made by `demucs.htdemucs.HTDemucs(**kwargs)` in the format of demucs' hub repositories, float16."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    about = {"klass": _CLASSES[0], "args": "[]", "kwargs": json.dumps(kwargs)}
    save_file(state, str(path), metadata=about)
