"""What a training is looked at and measured by on the way: observers of `trainer.Trainer`, of the weights' running mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dyconv.infp.blocks import to_pixels
from dyconv.infp.config import Stage1Config, Stage2Config
from dyconv.infp.stage1 import Stage1
from dyconv.infp.stage2 import Window
from training.infp.data import Batches, DataPlan, stage1_batches, stage2_batches
from training.infp.learner import on, rows_of
from training.infp.losses import l1, region_l1, ssim_loss
from training.infp.monitor import Monitor
from training.infp.probes import Probe
from training.infp.stage1_learner import Stage1Learner
from training.infp.stage1_objective import Batch
from training.infp.stage2_learner import Stage2Learner

_SHOWN = 6  # rows of a sheet
_AT_ONCE = 16  # rows that go through a network together
_TOLD = ("mouth_open", "eye_open_right", "eye_open_left", "head_yaw", "head_pitch", "head_roll")


@dataclass
class Rows:
    """The first rows of builds, as they are and always the same; read when they are first needed."""

    data: Sequence[str]
    plan: DataPlan
    count: int
    encoder: str = ""
    _held: Any = None

    def of(self, config: Stage1Config | Stage2Config) -> Any:
        if self._held is None:
            plan = replace(self.plan, batch=self.count, rank=0, world_size=1, workers=0, augment=False)
            batches: Batches[Any]
            if isinstance(config, Stage1Config):
                batches = stage1_batches(self.data, config, plan)
            else:
                batches = stage2_batches(self.data, config, plan, encoder_hash=self.encoder)
            try:
                self._held = next(batches)
            finally:
                batches.close()
        return self._held


@dataclass
class Sheet:
    """Stage 1: one row a pair: portrait, masked driver, what is made of them, driver."""

    rows: Rows
    every: int

    @torch.inference_mode()
    def __call__(self, learner: Stage1Learner, position: int, monitor: Monitor) -> None:
        batch: Batch = rows_of(self.rows.of(learner.mean.config), 0, _SHOWN)
        made, _ = reenacted(learner, batch)
        columns = [to_pixels(pictures).numpy() for pictures in (batch.portrait, batch.driver_mask, made, batch.driver)]
        monitor.picture(position, "sheet", np.concatenate([np.concatenate(column) for column in columns], axis=1))


@dataclass
class Reenactment:
    """Stage 1 on people it does not learn from: frames against the driver's, beside the portrait that stands still, and R^2 of
    a linear probe on the latents, fitted on people it learns from.

    Losses are L1 in -1..1; `region` is over mouth and eyes, each alike; `region_share` is against the still portrait.
    """

    known: Rows
    unknown: Rows
    every: int

    @torch.inference_mode()
    def __call__(self, learner: Stage1Learner, position: int, monitor: Monitor) -> None:
        config = learner.mean.config
        known, unknown = cast(Batch, self.known.of(config)), cast(Batch, self.unknown.of(config))
        made, latents = reenacted(learner, unknown)
        figures = {
            f"{name}{which}": value
            for which, pictures in (("", made), ("_static", unknown.portrait))
            for name, value in errors(pictures, unknown).items()
        }
        figures["region_share"] = figures["region"] / max(figures["region_static"], 1e-9)
        probe = Probe(encoded(learner, known.driver_mask), known.targets.numpy())
        r2 = probe.r2(latents.numpy(), unknown.targets.numpy())
        monitor.log(position, {**figures, **{f"r2_{name}": r2[name] for name in _TOLD}}, under="val")


@dataclass
class Windows:
    """Stage 2 on people it does not learn from: its loss, with always the same noise."""

    unknown: Rows
    every: int

    @torch.inference_mode()
    def __call__(self, learner: Stage2Learner, position: int, monitor: Monitor) -> None:
        window: Window = self.unknown.of(learner.mean.config)
        found: list[Tensor] = []
        for start in range(0, len(window.motion), _AT_ONCE):
            part = on(rows_of(window, start, start + _AT_ONCE), learner.world.device)
            with learner.autocast():
                loss = learner.mean.loss(part, torch.Generator().manual_seed(start))
            found.append(torch.stack([loss.error, loss.velocity]).float().cpu())
        error, velocity = torch.stack(found).mean(dim=0).tolist()
        monitor.log(position, {"error": error, "velocity": velocity}, under="val")


def reenacted(learner: Stage1Learner, batch: Batch) -> tuple[Tensor, Tensor]:
    """Frames [B, 3, S, S] and latents [B, latent] of the running mean, float32 on the CPU."""
    made: list[Tensor] = []
    latents: list[Tensor] = []
    model: Stage1 = learner.mean
    for start in range(0, len(batch.driver), _AT_ONCE):
        part = on(rows_of(batch, start, start + _AT_ONCE), learner.world.device)
        with learner.autocast():
            frames, found = model(part.portrait, part.portrait_mask, part.driver_mask)
        made.append(frames.picture.float().cpu())
        latents.append(found.float().cpu())
    return torch.cat(made), torch.cat(latents)


def encoded(learner: Stage1Learner, masks: Tensor) -> np.ndarray:
    """Latents float32 [B, latent] of masked pictures."""
    parts = []
    for part in masks.split(_AT_ONCE):
        with learner.autocast():
            parts.append(learner.mean.encoder(part.to(learner.world.device)).float().cpu())
    return torch.cat(parts).numpy()


def errors(made: Tensor, batch: Batch) -> dict[str, float]:
    """Of frames [B, 3, S, S] against the driver's."""
    return {
        "l1": float(l1(made, batch.driver)),
        "region": float(region_l1(made, batch.driver, batch.regions)),
        "ssim": 1 - float(ssim_loss(made, batch.driver)),
    }
