"""Train `htdemucs_small`: `python -m training.cleanup.train --voices FILE --sounds FILE --out FOLDER --minutes 70`.

The network is demucs' own `HTDemucs` (Rouard, Massa and Defossez, "Hybrid transformers for music source separation",
ICASSP 2023) with two sources, speech and rest, at 16 kHz. The loss is the mean absolute error of both, in units of the mix's
level, plus the signal-to-noise ratio of the speech. The learning rate falls as a cosine over the wall-clock budget.
VOICES is what `training.separation.voices` wrote, SOUNDS what `training.cleanup.sounds` wrote.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyconv.models.demucs_enhancer import SHAPE
from dyconv.score_metrics import si_sdr_db
from dyconv.time import SAMPLE_RATE
from training.cleanup.mix import Mixer
from training.cleanup.sounds import load_sounds
from training.separation.voices import load_voices

_LOG = logging.getLogger(__name__)
_SECONDS = 3
_BATCH = 4
_CHECK_S = 300.0
_EMA = 0.996


def loss_of(found: Tensor, true: Tensor) -> Tensor:
    """Found and true sources [B, 2, 1, N], speech first."""
    level = true.sum(dim=1, keepdim=True).square().mean(dim=-1, keepdim=True).sqrt() + 1e-3
    absolute = ((found - true) / level).abs().mean()
    speech, error = true[:, 0], found[:, 0] - true[:, 0]
    ratio = (error.square().sum(dim=-1) + 1e-3) / (speech.square().sum(dim=-1) + 1e-3)
    return absolute + 0.05 * 10 * torch.log10(ratio + 1e-3).mean() / 2


@torch.inference_mode()
def improvement(net: torch.nn.Module, mixer: Mixer, *, count: int = 16) -> dict[str, float]:
    """SI-SDR in dB that the speech gains, by kind and level of what lies under it."""
    out = {}
    for kind in ("music", "noise"):
        for snr_db in (0.0, 5.0, 10.0):
            rng = np.random.default_rng(7)
            pairs = np.stack([mixer.draw(rng, kind, snr_db) for _ in range(count)])
            found = net(torch.from_numpy(pairs.sum(axis=1))[:, None])[:, 0, 0].numpy()
            gains = [gain_db(pair, speech) for pair, speech in zip(pairs, found, strict=True)]
            out[f"{kind} {snr_db:.0f} dB"] = round(float(np.mean(gains)), 2)
    return out


def gain_db(pair: np.ndarray, speech: np.ndarray) -> float:
    """SI-SDR in dB of found `speech` [N] over that of the mix, against known speech and rest [2, N]."""
    after, before = si_sdr_db(pair[0], speech), si_sdr_db(pair[0], pair.sum(axis=0))
    assert after is not None and before is not None
    return after - before


class Trainer:
    """Network, its moving average and the optimiser; a checkpoint holds all three."""

    def __init__(self, mixer: Mixer, folder: Path, minutes: float, rate: float) -> None:
        from demucs.htdemucs import HTDemucs

        self.mixer, self.folder, self.budget, self.rate = mixer, folder, minutes * 60, rate
        self.net = HTDemucs(**SHAPE)
        self.average = copy.deepcopy(self.net).eval()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=rate, weight_decay=1e-3)
        self.step, self.spent = 0, 0.0

    @property
    def file(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        state: dict[str, Any] = {"step": self.step, "spent": self.spent}
        state |= {name: getattr(self, name).state_dict() for name in ("net", "average", "optimizer")}
        temporary = self.file.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.file)

    def resume(self) -> None:
        state = torch.load(self.file, weights_only=True)
        for name in ("net", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.spent = state["step"], state["spent"]

    def run(self, seed: int) -> None:
        rng = np.random.default_rng([seed, self.step])
        checked = self.spent
        while self.spent < self.budget:
            started = time.monotonic()
            for group in self.optimizer.param_groups:
                warm = min(1.0, (self.step + 1) / 100)
                group["lr"] = self.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.spent / self.budget)))
            loss = self._step(rng)
            self.step += 1
            self.spent += time.monotonic() - started
            if self.step % 50 == 0:
                _LOG.info("step %d, %.0f s, loss %.3f", self.step, self.spent, loss)
            if self.spent - checked > _CHECK_S:
                checked = self.spent
                self.save()
                _LOG.info("step %d: %s", self.step, improvement(self.average, self.mixer, count=8))
        self.save()

    def _step(self, rng: np.random.Generator) -> float:
        true = torch.from_numpy(np.stack([self.mixer.draw(rng) for _ in range(_BATCH)]))[:, :, None]
        loss = loss_of(self.net(true.sum(dim=1)), true)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        keep = min(_EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return float(loss.detach())


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=Path, required=True, help="train.npz of training.separation.voices")
    parser.add_argument("--sounds", type=Path, required=True, help="train.npz of training.cleanup.sounds")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    sounds = load_sounds(given.sounds)
    mixer = Mixer(load_voices(given.voices), sounds["music"], sounds["noise"], _SECONDS * SAMPLE_RATE)
    trainer = Trainer(mixer, given.out, given.minutes, given.rate)
    if given.resume and trainer.file.is_file():
        trainer.resume()
    parameters = sum(value.numel() for value in trainer.net.parameters())
    _LOG.info("%.2f M parameters, %d voices", parameters / 1e6, len(mixer.voices))
    trainer.run(given.seed)


if __name__ == "__main__":
    main()
