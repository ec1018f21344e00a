"""Stage 1 as it learns: the encoder gets a footing, then encoder and renderer, auxiliary heads that fade, a later adversary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dyconv.errors import UsageError
from dyconv.infp.config import Stage1Config
from dyconv.infp.motion import MotionEncoder
from dyconv.infp.stage1 import Stage1, load_stage1, save_stage1
from training.infp.adversary import PatchDiscriminator, detecting, r1
from training.infp.learner import Learner, check_sizes, on, rate_at
from training.infp.losses import decaying
from training.infp.probes import AuxiliaryHeads
from training.infp.runs import Run, Stage1Train
from training.infp.stage1_objective import Batch, Counts, Objective
from training.infp.world import World


class _Lesson(nn.Module):
    """The loss as a module, so that processes share its gradients."""

    def __init__(self, model: Stage1, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, position: int, counts: Counts | None) -> tuple[dict[str, Tensor], Tensor]:
        terms, made = self.objective(self.model, batch, position, counts)
        return terms, made.picture


class _Footing(nn.Module):
    """The encoder by itself, and what its latents tell."""

    def __init__(self, encoder: MotionEncoder, heads: AuxiliaryHeads, weight: float) -> None:
        super().__init__()
        self.encoder, self.heads, self.weight = encoder, heads, weight

    def forward(self, batch: Batch, position: int, counts: Counts | None) -> tuple[dict[str, Tensor], Tensor]:
        """Like `_Lesson`, with the driver in the place of the frames that are not made yet."""
        return {"heads": self.weight * self.heads.loss(self.encoder(batch.driver_mask), batch.targets)}, batch.driver


class _Judging(nn.Module):
    """What the adversary pays."""

    def __init__(self, judge: PatchDiscriminator, penalty: float) -> None:
        super().__init__()
        self.judge, self.penalty = judge, penalty

    def forward(self, made: Tensor, real: Tensor, penalised: bool) -> dict[str, Tensor]:
        terms = {"judge": detecting(self.judge(made)[0], self.judge(real)[0])}
        if penalised:
            terms["judge_r1"] = self.penalty * r1(self.judge, real)
        return terms


class Stage1Learner(Learner):
    model: Stage1
    mean: Stage1

    def __init__(self, run: Run, world: World, *, model: Stage1 | None = None, compiled: bool = False) -> None:
        super().__init__(run, world)
        assert isinstance(run.model, Stage1Config) and isinstance(run.train, Stage1Train)
        self.train = run.train
        model = model or Stage1(run.model)
        self.heads = AuxiliaryHeads(run.model.latent, run.model.directions).to(world.device)
        self.judge = PatchDiscriminator().to(world.device).requires_grad_(False)
        self.perceptual = _perceptual(world) if run.train.perceptual else None
        self.begin(model, [self.heads])
        if compiled:
            self.model.compile()
        self.judge_optimiser = torch.optim.Adam(self.judge.parameters(), run.train.judge_rate, betas=(0.0, 0.99))
        self._phase: tuple[bool, bool, bool] | None = None
        self._lesson: nn.Module = nn.Identity()
        self._judging: nn.Module = nn.Identity()

    def terms(self, batch: Batch, position: int) -> dict[str, Tensor]:
        judged = self._enter(position)
        parts = self.world.size * self.train.accumulate
        counts = Counts(*self.world.shares(Counts.of(batch), parts)) if parts > 1 else None
        told: dict[str, Tensor] = {}
        pictures: list[tuple[Tensor, Tensor]] = []
        for index, (piece, _) in enumerate(self.pieces(on(batch, self.world.device))):
            with self.alone(self._lesson, index == self.train.accumulate - 1):
                with self.autocast():
                    terms, made = self._lesson(piece, position, counts)
                self._backward(terms, told)
            pictures.append((made.detach(), piece.driver))
        told["grad_norm"] = self.descend(self.optimiser, rate_at(self.train, position, self.train.rate))
        self.follow(position)
        if judged:
            self._judge(pictures, position, told)
        return told

    def _backward(self, terms: dict[str, Tensor], told: dict[str, Tensor]) -> None:
        share = 1 / self.train.accumulate
        (torch.stack([value.float() for value in terms.values()]).sum() * share).backward()
        for name, value in terms.items():
            told[name] = told.get(name, 0.0) + value.detach().float() * share

    def _judge(self, pictures: list[tuple[Tensor, Tensor]], position: int, told: dict[str, Tensor]) -> None:
        """A step of the adversary on the same frames."""
        self.judge.requires_grad_(True)
        for index, (made, real) in enumerate(pictures):
            with self.alone(self._judging, index == len(pictures) - 1):
                with self.autocast():
                    terms = self._judging(made, real, position % self.train.r1_every == 0)
                self._backward(terms, told)
        self.descend(self.judge_optimiser, rate_at(self.train, position, self.train.judge_rate))
        self.judge.requires_grad_(False)

    def _enter(self, position: int) -> bool:
        """Who takes part from this step on: heads that have faded and an adversary yet to come have no part in the gradient.

        Returns:
            Whether the adversary does.
        """
        footing = position < self.train.footing and bool(self.train.weights.heads)
        judged = 0 < self.train.judge_from <= position and not footing
        headed = bool(self.train.weights.heads) and decaying(position, self.train.weights.heads_until) > 0
        if (footing, headed, judged) == self._phase:
            return judged
        self._phase = (footing, headed, judged)
        if footing:
            self._lesson = self.world.wrapped(_Footing(self.model.encoder, self.heads, self.train.weights.heads))
            return False
        objective = Objective(
            self.train.weights,
            heads=self.heads if headed else None,
            discriminator=self.judge if judged else None,
            perceptual=self.perceptual,
        )
        self._lesson = self.world.wrapped(_Lesson(self.model, objective))
        if judged:
            self.judge.requires_grad_(True)
            self._judging = self.world.wrapped(_Judging(self.judge, self.train.r1 / 2 * self.train.r1_every))
            self.judge.requires_grad_(False)
        return judged

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "heads": self.heads.state_dict(),
            "judge": self.judge.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "judge_optimiser": self.judge_optimiser.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("model", "mean", "heads", "judge", "optimiser", "judge_optimiser"):
            getattr(self, name).load_state_dict(state[name])

    def save(self, out: Path) -> list[Path]:
        paths = [out / "encoder.safetensors", out / "renderer.safetensors"]
        for path in paths:
            save_stage1(self.mean, path, half=True, parts=(path.stem,))
        return paths


def _perceptual(world: World) -> nn.Module:
    from training.infp.perceptual import Perceptual

    return Perceptual().to(world.device)


def initial(run: Run, files: Sequence[str]) -> Stage1:
    """The model of weights to begin with: one file that holds both parts, or an encoder's and a renderer's.

    Raises:
        ModelMissing: where a file is missing, damaged or of something else.
        UsageError: where they are not of the run's sizes.
    """
    if len(files) > 2:
        raise UsageError(f"expected one file or two to begin with, found {len(files)}", hint="--init encoder --init renderer")
    model = load_stage1(*files)
    check_sizes(model.config, run.model, files)
    return model
