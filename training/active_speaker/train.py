"""Train `mouth_sync`: `python -m training.active_speaker.train --data FOLDER --out FOLDER --minutes 80`.

`--data` is what `training.active_speaker.prepare` wrote. Each face is paired with several sounds at once. Four losses: the
verdict of each frame, who is heard at all, whether the lips speak, and a choice of the one right shift and sound among 30
wrong shifts and the sounds of the other faces. Where LR-ASD's features of the same faces lie in `--teacher`, the picture
side also learns to predict them.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dyconv.models.mouth_sync_net import WIDTH, MouthSyncNet
from training.active_speaker.compose import SOUNDS, Composer, Window
from training.active_speaker.data import Clip, load_clips, load_sounds

_LOG = logging.getLogger(__name__)
FRAMES, BATCH = 64, 12
_SHIFTS = 15
_RATE, _WARM = 2e-3, 100
_AVERAGE = 0.995
_SAVE_S = 180.0


class Learner(nn.Module):
    """The network with what only training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MouthSyncNet()
        self.moving = nn.Linear(WIDTH, 1)
        self.heard = nn.Linear(WIDTH, 1)
        self.teacher = nn.Linear(WIDTH, 128)
        self.sharpness = nn.Parameter(torch.tensor(2.5))


@dataclass
class Batch:
    thumbs: Tensor
    shapes: Tensor
    moving: Tensor
    teacher: Tensor
    bands: Tensor
    speaks: Tensor
    heard: Tensor
    matching: Tensor


def batch_of(windows: list[Window]) -> Batch:
    """Windows side by side; sounds [B, SOUNDS, ...] flattened to [B * SOUNDS, ...]."""

    def pile(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(window, name) for window in windows]))

    sounds = [pile(name).flatten(0, 1) for name in ("bands", "speaks", "heard", "matching")]
    return Batch(pile("thumbs"), pile("shapes"), pile("moving"), pile("teacher"), *sounds)


def losses(learner: Learner, batch: Batch, centre: Tensor, spread: Tensor) -> dict[str, Tensor]:
    net = learner.net
    with torch.autocast("cpu", torch.bfloat16):
        seen = net.watch(batch.thumbs, batch.shapes)
        heard = net.hear(batch.bands)
        verdict = net.judge(seen.repeat_interleave(SOUNDS, 0), heard)
    verdict, seen, heard = verdict.float(), seen.float(), heard.float()
    known = ~batch.moving.isnan()
    taught = ~batch.teacher.isnan()
    out = {
        "verdict": functional.binary_cross_entropy_with_logits(verdict, batch.speaks),
        "moving": _where(learner.moving(seen)[..., 0], batch.moving, known),
        "heard": functional.binary_cross_entropy_with_logits(learner.heard(heard)[..., 0], batch.heard),
        "sync": sync_loss(learner, seen, heard, batch.matching),
    }
    goal = ((batch.teacher - centre) / spread).clamp(-4, 4)
    miss = functional.smooth_l1_loss(learner.teacher(seen), torch.where(taught, goal, torch.zeros(())), reduction="none")
    out["teacher"] = (miss * taught).sum() / taught.sum().clamp(min=1)
    out["right"] = ((verdict.detach() > 0) == (batch.speaks > 0.5)).float().mean()
    return out


def _where(logits: Tensor, goal: Tensor, known: Tensor) -> Tensor:
    goal = torch.where(known, goal, torch.zeros(()))
    each = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def sync_loss(learner: Learner, seen: Tensor, heard: Tensor, matching: Tensor) -> Tensor:
    """Each face must find its own sound at its own time among other times and other sounds, and each sound its face."""
    weight = matching.view(-1, SOUNDS, matching.shape[1])[:, 0]
    good = weight.sum(1) >= 15
    if good.sum() < 2:
        return seen.new_zeros(())
    lips, voice = learner.net.sync(seen[good], heard.view(-1, SOUNDS, *heard.shape[1:])[good, 0])
    weight = weight[good] / weight[good].sum(1, keepdim=True)
    late = functional.pad(voice, (0, 0, _SHIFTS, _SHIFTS)).unfold(1, 2 * _SHIFTS + 1, 1)
    shifts = torch.einsum("bt,btc,btck->bk", weight, lips, late)
    cross = torch.einsum("bt,btc,dtc->bd", weight, lips, voice)
    own = torch.eye(len(cross), dtype=torch.bool)
    sharp = learner.sharpness.exp()
    total = shifts.new_zeros(())
    for other in (cross, cross.T):
        scores = torch.cat([shifts, other.masked_fill(own, -1e4)], dim=1) * sharp
        goal = torch.full((len(scores),), _SHIFTS)
        total = total + functional.cross_entropy(scores, goal)
    return total / 2


WEIGHTS = {"verdict": 1.0, "moving": 0.2, "heard": 0.1, "sync": 0.3, "teacher": 0.5}


def save(
    path: Path, learner: Learner, best: torch.optim.Optimizer, average: dict[str, Tensor], step: int, spent: float
) -> None:
    """Everything needed to go on, written whole or not at all; `spent` in seconds."""
    temporary = path.with_suffix(".tmp")
    kept = {"learner": learner.state_dict(), "optimizer": best.state_dict(), "average": average}
    torch.save({**kept, "step": step, "spent": spent}, temporary)
    os.replace(temporary, path)


def targets(clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """Mean and deviation [128] of the teacher's features, by which they are standardised."""
    views = [clip.teacher for clip in clips if clip.teacher is not None]
    joined = np.concatenate(views).astype(np.float32) if views else np.zeros((2, 128), np.float32)
    return torch.from_numpy(joined.mean(0)), torch.from_numpy(joined.std(0) + 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, required=True, help="where training.corpora.fetch_packages put them")
    parser.add_argument("--teacher", type=Path, default=None)
    parser.add_argument("--offsets", type=Path, default=None, help="JSON of offsets by clip, to train on sound moved into time")
    parser.add_argument("--minutes", type=float, default=80.0)
    parser.add_argument("--steps", type=int, default=6000, help="steps the rate falls over; fewer are taken if time runs out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    run(given)


def run(given: argparse.Namespace) -> None:
    began = time.monotonic()
    clips, _ = load_clips(given.data, given.teacher)
    voices, noises = load_sounds(given.packages, given.data.parent / "sounds.npz")
    _LOG.info("%d clips, %d voices, %d noises", len(clips), len(voices), len(noises))
    learner = Learner()
    average = {name: value.clone() for name, value in learner.net.state_dict().items()}
    best = torch.optim.AdamW(learner.parameters(), lr=_RATE, weight_decay=0.02)
    step, spent, path = 0, 0.0, given.out / "state.pt"
    if given.resume and path.is_file():
        state = torch.load(path, map_location="cpu", weights_only=True)
        learner.load_state_dict(state["learner"])
        if "optimizer" in state:
            best.load_state_dict(state["optimizer"])
        average, step, spent = state["average"], state["step"], state["spent"]
    offsets = json.loads(given.offsets.read_text()) if given.offsets else {}
    composer = Composer(clips, voices, noises, FRAMES, given.seed + step, offsets)
    centre, spread = targets(clips)
    seen: dict[str, float] = {}
    saved = began
    while step < given.steps and time.monotonic() - began < given.minutes * 60:
        done = max(step / given.steps, (spent + time.monotonic() - began) / (spent + given.minutes * 60))
        for group in best.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM) * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0))) + 1e-5
        values = losses(learner.train(), batch_of([composer.window() for _ in range(BATCH)]), centre, spread)
        best.zero_grad(set_to_none=True)
        loss: Tensor = sum((values[name] * weight for name, weight in WEIGHTS.items()), torch.zeros(()))
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 2.0)
        best.step()
        step += 1
        keep = min(_AVERAGE, step / (step + 20))
        for name, value in learner.net.state_dict().items():
            average[name] = keep * average[name] + (1 - keep) * value if value.is_floating_point() else value
        for name, value in values.items():
            seen[name] = 0.97 * seen.get(name, value.item()) + 0.03 * value.item()
        if step % 25 == 0:
            _LOG.info("%d %.0f s %s", step, time.monotonic() - began, {name: round(value, 3) for name, value in seen.items()})
        if time.monotonic() - saved > _SAVE_S:
            saved = time.monotonic()
            save(path, learner, best, average, step, spent + saved - began)
    total = spent + time.monotonic() - began
    save(path, learner, best, average, step, total)
    _LOG.info("done: %d steps, %.1f minutes", step, total / 60)


if __name__ == "__main__":
    main()
