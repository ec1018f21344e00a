"""Audio features at 25 fps, for the tracks of both people alike.

An encoder sees whole frames of 640 samples. For the features of frames i to j it wants the samples of frames i - `past` to
j + `ahead`, no more and no less: so features are the same whether a track comes at once or in pieces, and `ahead` / 25
seconds is all they add to the latency of a live agent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.errors import ModelMissing
from dyconv.infp.config import Stage2Config
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

_HOP = SAMPLES_PER_FRAME // 4
_QUIET = 1e-5  # mel energy that counts as silence


class AudioEncoder(nn.Module):
    """Samples float32 [B, (past + T + ahead) * 640] to features [B, T, width]."""

    past: int
    ahead: int

    def frames(self, samples: Tensor) -> int:
        """T.

        Raises:
            ValueError: where the samples are not whole frames, or too few.
        """
        count, rest = divmod(samples.shape[-1], SAMPLES_PER_FRAME)
        if rest or count <= self.past + self.ahead:
            raise ValueError(
                f"expected whole frames of {SAMPLES_PER_FRAME} samples, more than {self.past} + {self.ahead} of them, "
                f"found {samples.shape[-1]} samples"
            )
        return count - self.past - self.ahead


def audio_encoder(config: Stage2Config) -> AudioEncoder:
    """The encoder that a config asks for.

    Raises:
        ModelMissing: where it is a hub model that is not on this machine.
    """
    if config.audio_model:
        return HubEncoder(config.audio_model, config.width)
    return MelEncoder(config.bands, config.width)


def sound_around(config: Stage2Config) -> tuple[int, int]:
    """Frames of sound that a window needs before its first and after its last frame; no model is loaded."""
    kind: type[AudioEncoder] = HubEncoder if config.audio_model else MelEncoder
    return kind.past + config.context, kind.ahead


def cut_frames(samples: Tensor, start: int, stop: int) -> Tensor:
    """Samples of frames [start, stop) of a track [..., N]; silence before its start and after its end."""
    first, last = start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME
    length = samples.shape[-1]
    inside = samples[..., min(max(first, 0), length) : min(max(last, 0), length)]
    before = min(max(-first, 0), last - first)
    return functional.pad(inside, (before, last - first - before - inside.shape[-1]))


class MelEncoder(AudioEncoder):
    """Log-mel bands in steps of 10 ms, then convolutions trained along with everything else.

    No convolution pads: a frame's features are a function of 0.6 s of sound, and of nothing else.
    """

    past = 14
    ahead = 2
    _reach = (2, 4)  # dilations of the convolutions over earlier frames
    window: Tensor
    bank: Tensor

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        size = 3 * _HOP
        bank = melscale_fbanks(size // 2 + 1, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("bank", bank, persistent=False)
        self.fine = nn.Conv1d(bands, width, 5)
        self.frame = nn.Conv1d(width, width, 4, stride=4)
        self.near = nn.Conv1d(width, width, 3)
        self.earlier = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=dilation) for dilation in self._reach)
        self.norm = nn.LayerNorm(width)

    def mel(self, samples: Tensor) -> Tensor:
        """Log-mel [B, bands, 4 F - 2] of F frames: of 10 ms steps 1 to 4 F - 2, each with its neighbours; silence is -1.4."""
        with torch.autocast(samples.device.type, enabled=False):
            spectrum = torch.stft(
                samples.float(), len(self.window), _HOP, window=self.window.float(), center=False, return_complex=True
            )
            energy = self.bank.float().T @ torch.view_as_real(spectrum).square().sum(dim=-1)
        return (energy.clamp(min=_QUIET).log() + 6.0) / 4.0

    def forward(self, samples: Tensor) -> Tensor:
        count = self.frames(samples) + self.past + self.ahead
        fine = functional.gelu(self.fine(self.mel(samples)))  # steps 3 to 4 F - 4
        frames = functional.gelu(self.frame(fine[..., 1 : 1 + 4 * (count - 2)]))  # frames 1 to F - 2
        frames = frames[..., 1:-1] + functional.gelu(self.near(frames))
        for layer, reach in zip(self.earlier, self._reach, strict=True):
            frames = frames[..., 2 * reach :] + functional.gelu(layer(frames))
        return self.norm(frames.transpose(1, 2))


class HubEncoder(AudioEncoder):
    """wav2vec2, HuBERT or WavLM as published: frozen, all its layers weighted, two of its 20 ms steps a frame.

    Its weights are not part of this module's state: they are loaded from where they came from.

    Args:
        name: hub id or local folder.

    Raises:
        ModelMissing: where the transformers package or the model is not on this machine.
    """

    past = 50
    ahead = 5

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self._held = [_hub_model(name)]  # in a list: neither trained nor stored
        settings = self._held[0].config
        self.layers = nn.Parameter(torch.zeros(settings.num_hidden_layers + 1))
        self.project = nn.Linear(settings.hidden_size, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, samples: Tensor) -> Tensor:
        wanted = self.frames(samples)
        net = self._held[0].to(samples.device)
        level = samples.std(dim=-1, keepdim=True).clamp(min=0.02)  # silence stays silent
        padded = functional.pad(samples / level, (_HOP // 4, _HOP // 4))  # 400 samples a step of 320: now two steps a frame
        with torch.no_grad():
            hidden = torch.stack(net(padded, output_hidden_states=True).hidden_states, dim=-1)
        mixed = (hidden.to(self.layers.dtype) @ self.layers.softmax(0)).unflatten(1, (-1, 2)).mean(2)
        return self.norm(self.project(mixed[:, self.past : self.past + wanted]))


def _hub_model(name: str) -> Any:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise ModelMissing(
            f"audio features by {name} need the transformers package", hint="run: pip install transformers"
        ) from error
    try:
        net = AutoModel.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelMissing(
            f"no audio model {name} on this machine: {reason}",
            hint=f"run: hf download {name}   (or set audio_model to a folder that holds config.json and model.safetensors)",
        ) from error
    return net.eval().requires_grad_(False)
