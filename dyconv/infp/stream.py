"""Motion while people talk: sound goes in as it comes, latents come out chunk by chunk.

`Stage2.generate` pushes what it is given into this, so live and offline are the same computation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dyconv.errors import UsageError
from dyconv.infp.audio import cut_frames
from dyconv.time import FPS, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from dyconv.infp.stage2 import Guidance, Stage2

Sound = Tensor | np.ndarray


class Stream:
    """One conversation, or a batch of them in step.

    Args:
        batch: number of conversations; None: one, and no batch dimension anywhere.
        chunk: frames generated at once; fewer are sooner there and less well planned. By default the config's window.
        For the others see `Stage2.generate`.

    Attributes:
        latency: seconds from when a frame's sound is heard to when its latent can be there, in the worst case and without
            the time to compute: the chunk must be complete, and `ahead` frames after it.

    Raises:
        UsageError: for a chunk longer than the window, or shapes that do not fit.
    """

    def __init__(
        self,
        model: Stage2,
        *,
        batch: int | None = None,
        style: Sound | None = None,
        seed: int = 0,
        previous: Sound | None = None,
        guidance: Guidance | None = None,
        chunk: int | None = None,
        steps: int | None = None,
        eta: float = 0.0,
    ) -> None:
        from dyconv.infp.stage2 import Guidance

        config = model.config
        self._model, self._single = model, batch is None
        self.chunk = config.window if chunk is None else chunk
        if not 1 <= self.chunk <= config.window:
            raise UsageError(f"expected a chunk of 1 to {config.window} frames, found {chunk}", hint="choose a shorter chunk")
        self.latency = (self.chunk + model.ahead) / FPS
        self._guidance = guidance or Guidance(config.guide_motion, config.guide_style)
        self._steps, self._eta = steps or config.sample_steps, eta
        self._generator = torch.Generator().manual_seed(seed)
        size = batch or 1
        with torch.no_grad():
            self._style = model.style_vector(_latents(style, config.latent, "style"), size)
            self._previous, self._known = self._begin(_latents(previous, config.latent, "previous"), size)
        self._sound = torch.zeros(2, size, model.before * SAMPLES_PER_FRAME, device=model.device)  # silence before the start
        self._used = 0  # samples at the buffer's start that no later window needs
        self._finished = False
        self._empty = torch.zeros(size, 0, config.latent, device=model.device)

    def _begin(self, previous: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
        """Codes [B, context, codes] before the first frame, and which are there."""
        model, context = self._model, self._model.config.context
        codes = torch.zeros(size, context, model.config.coded, device=model.device)
        known = torch.zeros(size, context, dtype=torch.bool, device=model.device)
        if previous is not None and previous.shape[-2]:
            given = model.codes.encode(previous.to(model.device))[..., -context:, :]
            codes[:, context - given.shape[-2] :] = given
            known[:, context - given.shape[-2] :] = True
        return codes, known

    def push(self, own: Sound | None, partner: Sound | None) -> Tensor:
        """Latents [k, latent] (or [B, k, latent]) that can be told after these samples [n] (or [B, n]), k >= 0.

        Args:
            own, partner: the next samples of both, equally many; None for silence as long as the other.

        Raises:
            UsageError: where both are None, shapes do not fit, or the stream is finished.
        """
        if self._finished:
            raise UsageError("sound was pushed after finish()", hint="start another Stream, with previous= the last latents")
        if own is not None and partner is not None and own.shape[-1] != partner.shape[-1]:
            raise UsageError(
                f"{own.shape[-1]} samples of own and {partner.shape[-1]} of partner", hint="push both tracks in step"
            )
        sound = both(own, partner)
        if sound.ndim != (2 if self._single else 3) or not (self._single or sound.shape[1] == self._sound.shape[1]):
            wanted = "[n]" if self._single else f"[{self._sound.shape[1]}, n]"
            raise UsageError(f"expected samples {wanted}, found {list(sound.shape[1:])}", hint="see Stream(batch=...)")
        sound = sound.view(2, self._sound.shape[1], sound.shape[-1]).to(self._sound.device)
        self._sound = torch.cat([self._sound[..., self._used :], sound], dim=-1)
        self._used = 0
        return self._made(self._whole())

    def finish(self) -> Tensor:
        """The rest of the latents: silence follows. A frame that has begun counts. Nothing may be pushed after it."""
        self._finished = True
        parts = []
        while (left := -(-self._left() // SAMPLES_PER_FRAME)) > 0:
            parts.append(self._window(min(self.chunk, left)))
        return self._made(parts)

    def _whole(self) -> list[Tensor]:
        """Latents of all chunks whose sound is there."""
        parts = []
        while self._left() >= (self.chunk + self._model.ahead) * SAMPLES_PER_FRAME:
            parts.append(self._window(self.chunk))
        return parts

    def _left(self) -> int:
        """Samples of frames that are not generated yet."""
        return self._sound.shape[-1] - self._used - self._model.before * SAMPLES_PER_FRAME

    def _made(self, parts: list[Tensor]) -> Tensor:
        made = torch.cat([self._empty, *parts], dim=1)
        return made[0] if self._single else made

    @torch.no_grad()
    def _window(self, length: int) -> Tensor:
        """Latents [B, length, latent] of the next frames."""
        model = self._model
        first = self._used // SAMPLES_PER_FRAME
        own, partner = cut_frames(self._sound, first, first + model.before + length + model.ahead)
        self._used += length * SAMPLES_PER_FRAME
        predict = model.predictor(own, partner, self._style, self._previous, self._known, self._guidance)
        shape = (len(own), length, model.config.coded)
        codes = model.diffusion.sample(predict, shape, self._generator, steps=self._steps, eta=self._eta)
        codes = torch.where(self._known[:, -1:, None], join(self._previous[:, -1:], codes, model.config.join), codes)
        context = self._previous.shape[1]
        self._previous = torch.cat([self._previous, codes], dim=1)[:, -context:]
        self._known = torch.cat([self._known, self._known.new_ones(codes.shape[:2])], dim=1)[:, -context:]
        return model.codes.decode(codes)


def join(last: Tensor, codes: Tensor, frames: int) -> Tensor:
    """Codes [B, T, D] whose jump from the `last` frame [B, 1, D] is spread over some frames, in equal steps."""
    frames = min(frames, codes.shape[1])
    fade = 1.0 - torch.arange(1, frames + 1, device=codes.device, dtype=codes.dtype) / (frames + 1)
    moved = torch.cat([fade, fade.new_zeros(codes.shape[1] - frames)])
    return codes - moved[:, None] * (codes[:, :1] - last)


def both(own: Sound | None, partner: Sound | None) -> Tensor:
    """Two voices [n] or [B, n] as one float32 [2, ...]; what is missing is silence.

    Raises:
        UsageError: where there is none, or they are not alike.
    """
    voices = [None if voice is None else torch.as_tensor(voice).float() for voice in (own, partner)]
    given = [voice for voice in voices if voice is not None]
    if not given or any(voice.ndim not in (1, 2) or voice.shape[:-1] != given[0].shape[:-1] for voice in given):
        found = ", ".join("none" if voice is None else str(list(voice.shape)) for voice in voices)
        raise UsageError(f"expected samples [n] or [B, n] of own and partner, found {found}", hint="give at least one voice")
    longest = max(given, key=lambda voice: voice.shape[-1])
    silence = torch.zeros_like(longest)[..., :0]
    parts = [silence if voice is None else voice.to(longest.device) for voice in voices]
    return torch.stack([functional.pad(voice, (0, longest.shape[-1] - voice.shape[-1])) for voice in parts])


def _latents(values: Sound | None, latent: int, name: str) -> Tensor | None:
    if values is None:
        return None
    latents = torch.as_tensor(values).float()
    if latents.ndim not in (2, 3) or latents.shape[-1] != latent:
        raise UsageError(
            f"expected {name} as motion latents [frames, {latent}], found {list(latents.shape)}",
            hint="encode the clip with the Stage-1 encoder this model was trained with",
        )
    return latents
