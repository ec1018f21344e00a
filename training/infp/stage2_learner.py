"""Stage 2 as it learns. Its chance is drawn for the global batch, whoever computes which rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.errors import UsageError
from dyconv.infp.config import Stage2Config
from dyconv.infp.diffusion import Share
from dyconv.infp.stage2 import Stage2, Window
from training.infp.latents import sample_latents
from training.infp.learner import Learner, check_sizes, mixed, on, rate_at
from training.infp.runs import Run
from training.infp.world import World


class _Lesson(nn.Module):
    """The loss as a module, so that processes share its gradients."""

    def __init__(self, model: Stage2) -> None:
        super().__init__()
        self.model = model

    def forward(self, window: Window, generator: torch.Generator, share: Share | None) -> dict[str, Tensor]:
        found = self.model.loss(window, generator, share)
        return {"error": found.error, "velocity": self.model.config.velocity * found.velocity}


class Stage2Learner(Learner):
    """
    Args:
        model: whose codes are fitted.
    """

    model: Stage2
    mean: Stage2

    def __init__(self, run: Run, world: World, *, model: Stage2, compiled: bool = False) -> None:
        super().__init__(run, world)
        assert isinstance(run.model, Stage2Config)
        self.begin(model)
        if compiled:
            for part in (self.model.denoiser, self.model.guider, self.model.style):
                part.compile()
        self._lesson = world.wrapped(_Lesson(self.model))

    def terms(self, batch: Window, position: int) -> dict[str, Tensor]:
        train = self.run.train
        parts = self.world.size * train.accumulate
        whole = self.world.shares(counts(batch.mask), parts) if parts > 1 else None
        told: dict[str, Tensor] = {}
        for index, (piece, first) in enumerate(self.pieces(on(batch, self.world.device))):
            generator = torch.Generator().manual_seed(mixed(train.seed, position))
            with self.alone(self._lesson, index == train.accumulate - 1):
                with self.autocast():
                    terms = self._lesson(piece, generator, Share(first, train.batch, *whole) if whole else None)
                (torch.stack(list(terms.values())).sum() / train.accumulate).backward()
            for name, value in terms.items():
                told[name] = told.get(name, 0.0) + value.detach() / train.accumulate
        told["grad_norm"] = self.descend(self.optimiser, rate_at(train, position, train.rate))
        self.follow(position)
        return told

    def state(self) -> dict[str, Any]:
        return {
            "encoder_hash": self.model.encoder_hash,
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("model", "mean", "optimiser"):
            getattr(self, name).load_state_dict(state[name])

    def save(self, out: Path) -> list[Path]:
        path = out / "stage2.safetensors"
        self.mean.save(path, half=True)
        return [path]


def counts(mask: Tensor) -> tuple[float, float]:
    """Real frames of a mask bool [B, T], and pairs of neighbouring ones."""
    return float(mask.sum()), float((mask[:, 1:] & mask[:, :-1]).sum())


def fitted(run: Run, data: Sequence[str], encoder: str, init: Sequence[str], *, fresh: bool) -> Stage2:
    """The model to begin with; its codes are fitted to the builds' latents, unless weights bring theirs.

    Args:
        encoder: hash of the encoder of the builds' latents.
        fresh: otherwise a checkpoint will bring everything, and nothing is read.

    Raises:
        ModelMissing: where weights to begin with are missing, damaged or of something else.
        UsageError: where they are of other sizes or of another encoder.
    """
    assert isinstance(run.model, Stage2Config)
    if fresh and init:
        if len(init) > 1:
            raise UsageError(f"expected one file to begin with, found {len(init)}", hint="--init stage2.safetensors")
        model = Stage2.load(init[0], encoder_hash=encoder)
        check_sizes(model.config, run.model, init)
        return model
    torch.manual_seed(run.train.seed)
    model = Stage2(run.model, encoder_hash=encoder)
    if fresh:
        train = run.train
        latents = sample_latents(data, encoder, only=train.only, without=train.without, seed=train.seed)
        model.codes.fit(torch.from_numpy(latents))
    return model
