"""Train `target_tasnet`: `python -m training.separation.train --voices FOLDER --out FOLDER --minutes 75`.

FOLDER of voices is what `training.separation.voices` wrote. Overlaps are composed in processes of their own (see
`training.separation.lessons`), as fast as they get a processor to themselves; the network learns from the newest of them,
in either order of the two people. The loss is the noise in the sound of either voice where both speak, in dB. The learning
rate falls as a cosine over the wall-clock budget. Every tenth voice of the training split is kept for watching progress;
held-out voices are never read here.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyconv.models.target_tasnet_hints import Hints, analyse, synthesise
from dyconv.models.target_tasnet_net import Corrector, Shape
from dyconv.time import SAMPLES_PER_FRAME
from training.separation.compose import Composer
from training.separation.lessons import Lesson, Pool, draw
from training.separation.voices import load_voices

_LOG = logging.getLogger(__name__)
_SOFT = 1e-3  # of the voice's energy: no gain above 30 dB
_EMA = 0.998


def given(lessons: Sequence[Lesson], exchanged: Sequence[bool]) -> tuple[Hints, Tensor, Tensor]:
    """A batch of hints, sounds [B, 3, N] and overlap by sample [B, N], some with the two people exchanged."""
    told, sounds = [], []
    for item, swap in zip(lessons, exchanged, strict=True):
        straight = Hints(*(torch.from_numpy(part) for part in item[:3]))
        told.append(straight.exchanged() if swap else straight)
        sounds.append(torch.from_numpy(item.sounds[[0, 2, 1]] if swap else item.sounds))
    both = torch.from_numpy(np.repeat(np.stack([item.both for item in lessons]), SAMPLES_PER_FRAME, axis=1))
    return Hints(*(torch.stack(parts).float() for parts in zip(*told, strict=True))), torch.stack(sounds).float(), both.float()


def first_voice(net: Corrector, told: Hints, mix: Tensor) -> Tensor:
    """The first voice [B, N] of each mix."""
    with torch.autocast("cpu", torch.bfloat16):
        mask = net(*told)
    return synthesise(analyse(mix) * mask, mix.shape[1])


def noise_db(found: Tensor, sounds: Tensor, both: Tensor) -> Tensor:
    """What is wrong in each voice where both speak, against the voice, [B, 2]."""
    errors = torch.stack([found - sounds[:, 1], sounds[:, 0] - found - sounds[:, 2]], dim=1)
    wrong = (errors.square() * both[:, None]).sum(dim=-1)
    signal = (sounds[:, 1:].square() * both[:, None]).sum(dim=-1) + 1e-2
    return 10 * torch.log10(wrong / signal + _SOFT)


def improvement_db(found: Tensor, sounds: Tensor, both: Tensor) -> Tensor:
    """SI-SDR improvement of each voice where both speak, [B, 2]."""

    def score(made: Tensor, true: Tensor) -> Tensor:
        scale = (made * true).sum(dim=-1, keepdim=True) / (true.square().sum(dim=-1, keepdim=True) + 1e-6)
        return 10 * torch.log10((scale * true).square().sum(dim=-1) / ((made - scale * true).square().sum(dim=-1) + 1e-6))

    mix, true = sounds[:, :1] * both[:, None], sounds[:, 1:] * both[:, None]
    made = torch.stack([found, sounds[:, 0] - found], dim=1) * both[:, None]
    return score(made, true) - score(mix, true)


def schedule(share: float, step: int, peak: float) -> float:
    """Learning rate after this share of the budget: 100 steps of warm-up, then a cosine to a hundredth."""
    return peak * min(1.0, (step + 1) / 100) * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, share))))


class Learner:
    """Muon for filters and matrices (Jordan et al. 2024), AdamW for the last layer and what is no matrix."""

    def __init__(self, net: Corrector) -> None:
        named = dict(net.named_parameters())
        self.filters = [value for name, value in named.items() if value.ndim > 1 and name != "out.weight"]
        self._matrices = [torch.nn.Parameter(value.data.flatten(1)) for value in self.filters]  # the same numbers
        rest = [value for name, value in named.items() if value.ndim <= 1 or name == "out.weight"]
        self.parts = (
            torch.optim.Muon(self._matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, weight_decay=0.01),
        )

    def step(self, loss: Tensor, rate: float) -> None:
        for part in self.parts:
            part.param_groups[0]["lr"] = rate
            part.zero_grad()
        for value in self.filters:
            value.grad = None
        loss.backward()
        for matrix, value in zip(self._matrices, self.filters, strict=True):
            matrix.grad = None if value.grad is None else value.grad.flatten(1)
        torch.nn.utils.clip_grad_norm_(self.parts[1].param_groups[0]["params"], 2.0)
        for part in self.parts:
            part.step()

    def state(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load(self, states: Sequence[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asked = arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    random = np.random.default_rng(asked.seed)
    voices = load_voices(asked.voices / "train.npz")
    watched = Composer([voice for index, voice in enumerate(voices) if index % 10 == 5], 1, plain=True)
    watch = [draw(watched) for _ in range(64)]
    net = Corrector(Shape())
    mean = copy.deepcopy(net)
    learner = Learner(net)
    step, spent = 0, 0.0
    if asked.resume and (asked.out / "state.pt").exists():
        state = torch.load(asked.out / "state.pt", weights_only=True)
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        learner.load(state["learner"])
        step, spent = int(state["step"]), float(state["spent"])
    rest = [voice for index, voice in enumerate(voices) if index % 10 != 5]
    pool = Pool(rest, asked.seed + step, least=asked.least, most=asked.most, composers=asked.composers)
    began, saved, losses = time.monotonic() - spent, -math.inf, list[float]()
    while (spent := time.monotonic() - began) < asked.minutes * 60:
        if time.monotonic() - saved > asked.check:
            saved = time.monotonic()
            _LOG.info("%d lessons composed, noise %.3f dB on the last ones", pool.drawn, np.mean(losses[-200:] or [0.0]))
            keep_state(asked.out, net, mean, learner, step, spent, watch)
        pool.renew()
        chosen = [pool.lessons[index] for index in random.choice(len(pool.lessons), asked.batch, replace=False)]
        told, sounds, both = given(chosen, [bool(coin) for coin in random.random(asked.batch) < 0.5])
        loss = noise_db(first_voice(net, told, sounds[:, 0]), sounds, both).mean()
        learner.step(loss, schedule(spent / (asked.minutes * 60), step, asked.rate))
        step += 1
        losses.append(loss.item())
        follow(mean, net, min(_EMA, step / (step + 20)))
    keep_state(asked.out, net, mean, learner, step, spent, watch)


@torch.no_grad()
def follow(mean: Corrector, net: Corrector, stay: float) -> None:
    """Move the mean network (weights and what its normalization has seen) towards the one that learns."""
    torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - stay)
    for slow, fast in zip(mean.buffers(), net.buffers(), strict=True):
        slow.copy_(fast)


@torch.inference_mode()
def keep_state(
    folder: Path,
    net: Corrector,
    mean: Corrector,
    learner: Learner,
    step: int,
    spent: float,
    watch: Sequence[Lesson],
) -> None:
    """Write what is needed to go on and to export, and log how good the network is on watched voices."""
    mean.eval()
    noise, better = [], []
    for first in range(0, len(watch), 8):
        told, sounds, both = given(watch[first : first + 8], [False] * len(watch[first : first + 8]))
        found = first_voice(mean, told, sounds[:, 0])
        noise.append(noise_db(found, sounds, both))
        better.append(improvement_db(found, sounds, both))
    _LOG.info(
        "step %d, %.0f s: watched voices %.3f dB of noise, SI-SDR %.2f dB better",
        *(step, spent, torch.cat(noise).mean(), torch.cat(better).mean()),
    )
    state = {"net": net.state_dict(), "mean": mean.state_dict(), "learner": learner.state()}
    temporary = folder / "state.tmp"
    torch.save({**state, "step": step, "spent": spent, "shape": json.dumps(net.shape.to_json())}, temporary)
    os.replace(temporary, folder / "state.pt")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--least", type=int, default=300, help="lessons to begin with")
    parser.add_argument("--most", type=int, default=3000, help="lessons in memory, 1.3 MB each")
    parser.add_argument("--composers", type=int, default=1, help="processes that compose lessons beside the training")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--check", type=float, default=240.0, help="seconds between checkpoints")
    return parser.parse_args()


if __name__ == "__main__":
    main()
