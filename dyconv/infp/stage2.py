"""Stage 2 of INFP: from the two voices of a conversation to the motion latents of one of the two people.

The same weights talk where only the own voice is heard, listen where only the partner's is, and do both in a conversation.
No argument anywhere says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dyconv.bounds import parse_json
from dyconv.errors import ModelMissing, UsageError
from dyconv.infp.audio import audio_encoder, sound_around
from dyconv.infp.codes import MotionCodes
from dyconv.infp.config import Stage2Config
from dyconv.infp.denoiser import Denoiser
from dyconv.infp.diffusion import Diffusion, Loss, Predict, Share
from dyconv.infp.guider import MotionGuider, StyleEncoder
from dyconv.models.sized import sized_by
from dyconv.records import dump
from dyconv.store import write_atomic
from dyconv.time import SAMPLES_PER_FRAME

_FORMAT = "dyconv.infp.stage2"


class Guidance(NamedTuple):
    """Scales of classifier-free guidance; 1 is the plain conditional model, 0 leaves the condition out."""

    motion: float
    style: float


@dataclass(frozen=True)
class Window:
    """A batch of windows to learn from. T frames, of which `mask` says which are real.

    Attributes:
        motion: latents [B, T, latent].
        own, partner: samples [B, (before + T + ahead) * 640], where `before` and `ahead` are the model's.
        previous, known: latents [B, context, latent] of the frames right before, and which of them are there, bool.
        style, style_known: latents [B, S, latent] of other frames of the same person, and which are there, bool.
        mask: bool [B, T].
    """

    motion: Tensor
    own: Tensor
    partner: Tensor
    previous: Tensor
    known: Tensor
    style: Tensor
    style_known: Tensor
    mask: Tensor


class Conditions(NamedTuple):
    """What the denoiser is given: f_m [B, S, width], codes [B, C, codes] before the window, bool [B, C] which are there."""

    motion: Tensor
    previous: Tensor
    known: Tensor


class Stage2(nn.Module):
    """
    Attributes:
        encoder_hash: of the Stage-1 encoder whose latents are generated; "" where it was never said.
        before: frames of sound before a window that it needs.
        ahead: frames of sound after a window that it needs.

    Raises:
        ModelMissing: where the config asks for an audio model that is not on this machine.
    """

    def __init__(self, config: Stage2Config, *, encoder_hash: str = "") -> None:
        super().__init__()
        self.config, self.encoder_hash = config, encoder_hash
        self.codes = MotionCodes(config.latent, config.codes)
        self.audio = audio_encoder(config)
        self.guider = MotionGuider(config.bank, config.width, config.heads)
        self.style = StyleEncoder(config.coded, config.width, config.heads)
        self.denoiser = Denoiser(config)
        self.diffusion = Diffusion(config.steps, config.schedule, config.predicts)
        self.before, self.ahead = sound_around(config)

    @property
    def device(self) -> torch.device:
        return self.codes.mean.device

    def loss(self, window: Window, generator: torch.Generator, share: Share | None = None) -> Loss:
        """The training loss of a batch. Noise, steps and what is left out come from the generator.

        Args:
            share: where the batch is a part of a larger one, so that its rows get what they would get there.
        """
        config, size = self.config, len(window.motion)
        rows = share.rows if share else size
        chances = torch.rand((3, rows, 1), generator=generator, device=generator.device).to(self.device)
        if share:
            chances = share.of(chances, size, dim=1)
        no_style, no_motion, no_previous = chances < chances.new_tensor(
            [config.drop_style, config.drop_motion, config.drop_motion]
        ).view(3, 1, 1)
        style = self.style(self.codes.encode(window.style), window.style_known & ~no_style)
        motion = self.motion(window.own, window.partner, style)
        motion = torch.where(no_motion[..., None], self.guider.without, motion)
        given = Conditions(motion, self.codes.encode(window.previous), window.known & ~no_previous)

        def predict(noisy: Tensor, step: Tensor) -> Tensor:
            return self.denoiser(noisy, step, *given, mask=window.mask)

        clean = self.codes.encode(window.motion)
        return self.diffusion.loss(predict, clean, generator, mask=window.mask, velocity=config.velocity, share=share)

    def motion(self, own: Tensor, partner: Tensor, style: Tensor) -> Tensor:
        """f_m [B, context + T, width] of both voices [B, (before + T + ahead) * 640] in a style [B, width]."""
        own_features, partner_features = self.audio(torch.cat([own, partner])).chunk(2)
        return self.guider(own_features, partner_features, style)

    def style_vector(self, latents: Tensor | np.ndarray | None, batch: int = 1) -> Tensor | None:
        """s_m [batch, width] of some latents [S, latent] or [batch, S, latent] of a person; None for None."""
        if latents is None:
            return None
        frames = self.codes.encode(torch.as_tensor(latents, device=self.device))
        return self.style(frames if frames.ndim == 3 else frames.expand(batch, -1, -1))

    def predictor(
        self, own: Tensor, partner: Tensor, style: Tensor | None, previous: Tensor, known: Tensor, guidance: Guidance
    ) -> Predict:
        """The noise of a window under guidance.

        With e(m, s) the noise given motion features and previous codes or not, and style or not, it is
        e(-, -) + g_motion (e(m, -) - e(-, -)) + g_style (e(m, s) - e(m, -)); terms that cancel out are not computed.
        """
        plain = self.style.without.expand(len(own), -1)
        without = Conditions(
            self.guider.without.expand(len(own), self.audio.frames(own), -1),
            torch.zeros_like(previous),
            torch.zeros_like(known),
        )
        terms = [(1.0 - guidance.motion, None), (guidance.motion - (guidance.style if style is not None else 0.0), plain)]
        if style is not None:
            terms.append((guidance.style, style))
        used = [(weight, term) for weight, term in terms if weight] or [(0.0, plain)]
        given = [without if term is None else Conditions(self.motion(own, partner, term), previous, known) for _, term in used]
        stacked = Conditions(*(torch.cat(parts) for parts in zip(*given, strict=True)))

        def predict(noisy: Tensor, step: Tensor) -> Tensor:
            count = len(used)
            noises = self.denoiser(noisy.repeat(count, 1, 1), step.repeat(count), *stacked).chunk(count)
            return sum((weight * noise for (weight, _), noise in zip(used, noises, strict=True)), torch.zeros_like(noisy))

        return predict

    def generate(
        self,
        own: Tensor | np.ndarray | None,
        partner: Tensor | np.ndarray | None,
        style: Tensor | np.ndarray | None = None,
        *,
        seed: int = 0,
        previous: Tensor | np.ndarray | None = None,
        guidance: Guidance | None = None,
        chunk: int | None = None,
        steps: int | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        """Motion latents float32 [T, latent] (or [B, T, latent]) of voices [N] (or [B, N]) of any length, T = ceil(N / 640).

        Window by window, the last frames of one given to the next: only the result grows with the length.

        Args:
            own, partner: mono 16 kHz samples; None, or what is missing at the end of the shorter one, is silence.
            style: latents [S, latent] of frames that show the manner of moving.
            seed: the same seed gives the same motion.
            previous: latents [C, latent] of the frames right before the first.
            guidance: by default the config's.
            chunk: frames generated at once; by default the config's window.
            steps, eta: of the sampler, see `Diffusion.sample`.

        Raises:
            UsageError: where both voices are None, or shapes do not fit.
        """
        from dyconv.infp.stream import Stream, both

        voices = both(own, partner)
        stream = Stream(
            self,
            batch=voices.shape[1] if voices.ndim == 3 else None,
            style=style,
            seed=seed,
            previous=previous,
            guidance=guidance,
            chunk=chunk,
            steps=steps,
            eta=eta,
        )
        pieces = voices.split(stream.chunk * SAMPLES_PER_FRAME, dim=-1)
        return torch.cat([*(stream.push(*piece) for piece in pieces), stream.finish()], dim=-2)

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write weights, config and encoder hash to one safetensors file, complete or not at all.

        Args:
            half: store weights of matrices as float16.
        """
        from safetensors.torch import save

        tensors = {
            name: (value.half() if half and value.ndim > 1 and not name.startswith("codes.") else value).contiguous().cpu()
            for name, value in self.state_dict().items()
        }
        header = {"format": _FORMAT, "config": self.config.to_json(), "encoder": self.encoder_hash}
        # One entry: safetensors writes several in any order, and the same model shall give the same bytes.
        write_atomic(Path(path), save(tensors, metadata={"dyconv": dump(header).decode()}))

    @classmethod
    def load(cls, path: str | Path, *, encoder_hash: str | None = None) -> Stage2:
        """The model of a file, in evaluation mode, float32.

        Args:
            encoder_hash: of the encoder or renderer it is to be used with; None: any.

        Raises:
            ModelMissing: where the file is missing, damaged or of something else.
            UsageError: where it was trained on latents of another encoder.
        """
        header, tensors = _read(Path(path))
        made_for = header.get("encoder", "")
        if encoder_hash is not None and encoder_hash != made_for:
            raise UsageError(
                f"{path} generates motion latents of encoder {made_for[:8] or '(not said)'}, "
                f"but encoder {encoder_hash[:8]} is in use",
                hint="use the Stage-1 weights it was trained with, or train Stage 2 on latents of this encoder",
            )
        if not isinstance(made_for, str):
            raise ModelMissing(f"{path}: its header does not name an encoder", hint=_TRAIN)
        with sized_by(tensors.values(), Path(path), _TRAIN):
            model = cls(Stage2Config.from_json(header["config"]), encoder_hash=made_for)
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        return model.eval()


_TRAIN = "make it with: python -m training.train stage2"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            header = parse_json((file.metadata() or {}).get("dyconv", "{}"))
            if not isinstance(header, dict) or header.get("format") != _FORMAT or "config" not in header:
                raise ModelMissing(f"{path} holds something else than INFP Stage 2", hint=_TRAIN)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelMissing(f"{path} is no readable safetensors file: {error}", hint=_TRAIN) from error
