"""Train `target_tasnet`: `python -m training.separation.train --voices FOLDER --out FOLDER --minutes 25`.

FOLDER of voices is what `training.separation.voices` wrote. Overlaps are composed once and explained by what is known of
both voices (see `dyconv.models.target_tasnet_net`); the network then learns from them, in either order of the two people,
how to correct the log odds. The loss is the signal-to-noise ratio of both voices where both speak. The learning rate falls
as a cosine over the wall-clock budget. Every tenth voice of the training split is kept for watching progress; held-out
voices are never read here.
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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dyconv.models.target_tasnet_net import (
    SEEN,
    Corrector,
    Shape,
    analyse,
    columns,
    exemplars,
    explained,
    features_of,
)
from dyconv.time import SAMPLES_PER_FRAME
from training.separation.compose import Composer, Overlap
from training.separation.voices import load_voices

_LOG = logging.getLogger(__name__)
_SOFT = 1e-3  # of the voice's energy: no gain above 30 dB
_EMA = 0.99


class Lesson(NamedTuple):
    """One excerpt: features [5, SEEN, T] in both orders; complex mix and first voice [SEEN, T]; columns of the overlap."""

    features: Tensor
    exchanged: Tensor
    mix: Tensor
    voices: Tensor
    both: Tensor


def lesson(item: Overlap) -> Lesson | None:
    """What the network sees of an excerpt, and what it should have said. None where a voice is unknown."""
    samples = torch.from_numpy(item.voices.sum(axis=0) + item.rest)
    level = samples.square().mean().sqrt() + 1e-5
    active = item.activity > 0.5
    solo = np.repeat(active & ~active[::-1], SAMPLES_PER_FRAME, axis=1)
    known = []
    for person in range(2):
        own = torch.from_numpy(np.concatenate([item.enrolment[person], samples.numpy()[solo[person]]]))
        if not item.enrolment[person].any() or len(own) < SAMPLES_PER_FRAME:
            return None
        known.append(exemplars(own))
    spectrum, voices = analyse(samples / level), analyse(torch.from_numpy(item.voices) / level)
    alone = columns(torch.from_numpy((active & ~active[::-1]).astype(np.float32)))
    shares = explained(spectrum.abs(), *known)
    both = columns(torch.from_numpy(item.both.astype(np.float32)))
    return Lesson(
        features_of(spectrum.abs(), shares, alone).half(),
        features_of(spectrum.abs(), shares[::-1], alone.flip(0)).half(),
        *(spectrum[:SEEN], voices[:, :SEEN], both),
    )


def loss_of(net: Corrector, lessons: Sequence[Lesson], exchanged: Sequence[bool]) -> Tensor:
    """Mean over voices of the noise in the overlap against the voice, in dB: of the masked spectrum, without phases."""
    given = [item.exchanged if swap else item.features for item, swap in zip(lessons, exchanged, strict=True)]
    features = torch.stack(given).float()
    with torch.autocast("cpu", torch.bfloat16):
        odds = net(features)
    mask = torch.sigmoid(odds.float())
    out = []
    for index, (item, swap) in enumerate(zip(lessons, exchanged, strict=True)):
        for person in range(2):
            own = mask[index] if (person == 1) == swap else 1 - mask[index]
            true = item.voices[person]
            error = (torch.view_as_real(own * item.mix - true).square().sum(dim=-1) * item.both).sum()
            signal = (torch.view_as_real(true).square().sum(dim=-1) * item.both).sum() + 1e-2
            out.append(10 * torch.log10(error / signal + _SOFT))
    return torch.stack(out).mean()


def schedule(share: float, step: int, peak: float) -> float:
    """Learning rate after this share of the budget: 30 steps of warm-up, then a cosine to a fiftieth."""
    return peak * min(1.0, (step + 1) / 30) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, share))))


def compose(composer: Composer, count: int) -> list[Lesson]:
    found: list[Lesson] = []
    with torch.inference_mode():
        while len(found) < count:
            if (item := lesson(composer.draw())) is not None:
                found.append(item)
    return [Lesson(*(part.clone() for part in item)) for item in found]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    voices = load_voices(given.voices / "train.npz")
    watch = compose(Composer([voice for index, voice in enumerate(voices) if index % 10 == 5], 1, plain=True), 24)
    lessons = compose(Composer([voice for index, voice in enumerate(voices) if index % 10 != 5], given.seed), given.lessons)
    _LOG.info("%d lessons composed", len(lessons))
    net = Corrector(Shape(given.width))
    mean = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=given.rate, weight_decay=0.01)
    step, spent = 0, 0.0
    if given.resume and (given.out / "state.pt").exists():
        state = torch.load(given.out / "state.pt", weights_only=True)
        net.load_state_dict(state["net"])
        mean.load_state_dict(state["mean"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = int(state["step"]), float(state["spent"])
    began, saved = time.monotonic() - spent, -math.inf
    while (spent := time.monotonic() - began) < given.minutes * 60:
        if time.monotonic() - saved > given.check:
            saved = time.monotonic()
            keep_state(given.out, net, mean, optimizer, step, spent, watch)
        optimizer.param_groups[0]["lr"] = schedule(spent / (given.minutes * 60), step, given.rate)
        chosen = [lessons[index] for index in random.choice(len(lessons), given.batch, replace=False)]
        loss = loss_of(net, chosen, [bool(coin) for coin in random.random(given.batch) < 0.5])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 3.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - min(_EMA, step / (step + 20)))
    keep_state(given.out, net, mean, optimizer, step, spent, watch)


@torch.no_grad()
def keep_state(
    folder: Path,
    net: Corrector,
    mean: Corrector,
    optimizer: torch.optim.Optimizer,
    step: int,
    spent: float,
    watch: Sequence[Lesson],
) -> None:
    """Write what is needed to go on and to export, and log the loss on watched voices."""
    loss = np.mean([float(loss_of(mean, [item], [False])) for item in watch])
    _LOG.info("step %d, %.0f s: %.3f dB of noise on watched voices", step, spent, loss)
    state = {"net": net.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
    temporary = folder / "state.tmp"
    torch.save({**state, "step": step, "spent": spent, "shape": json.dumps(net.shape.to_json())}, temporary)
    os.replace(temporary, folder / "state.pt")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--lessons", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--check", type=float, default=180.0, help="seconds between checkpoints")
    return parser.parse_args()


if __name__ == "__main__":
    main()
