"""What is said of trained weights: figures whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dyconv.infp.blocks import to_unit
from dyconv.time import FPS, SAMPLES_PER_FRAME
from training.infp.measure_stage1 import Pictures, _errors
from training.infp.measure_stage2 import Talker, measure_stage2
from training.infp.probes import TARGETS, Probe

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = 12 * FPS
MOUTH, YAW = TARGETS.index("mouth_open"), TARGETS.index("head_yaw")


def voice(seed: int) -> np.ndarray:
    """Noise as loud as a slow curve says."""
    rng = np.random.default_rng(seed)
    loud = np.interp(np.arange(FRAMES), np.arange(0, FRAMES, 6), rng.random(FRAMES // 6) ** 2)
    return (0.2 * rng.standard_normal(FRAMES * SAMPLES_PER_FRAME) * np.repeat(loud, SAMPLES_PER_FRAME)).astype(np.float32)


class Puppet:
    """Opens the mouth as loud as one of the voices is, and turns the head at random."""

    def __init__(self, hears: str) -> None:
        self.hears = hears

    def generate(self, own: Any, partner: Any, style: Any, *, seed: int, guidance: Any) -> torch.Tensor:
        heard = own if self.hears == "own" else partner
        longest = len(own if own is not None else partner)
        sound = np.zeros(longest, np.float32) if heard is None else np.asarray(heard)
        energy = np.square(sound.reshape(-1, SAMPLES_PER_FRAME)).mean(axis=1)
        latents = np.zeros((len(energy), len(TARGETS)), np.float32)
        latents[:, MOUTH] = np.log10(energy + 1e-6) + 0.01 * np.random.default_rng(seed).standard_normal(len(energy))
        latents[:, YAW] = np.sin(np.arange(len(energy)) / 9)
        return torch.from_numpy(latents)


def talkers() -> list[Talker]:
    out = []
    for seed in range(3):
        sound = voice(seed)
        wanted = np.zeros((FRAMES, len(TARGETS)), np.float32)
        wanted[:, MOUTH] = np.log10(np.square(sound.reshape(-1, SAMPLES_PER_FRAME)).mean(axis=1) + 1e-6)
        wanted[:, YAW] = 2 * np.sin(np.arange(FRAMES) / 9)
        out.append(Talker(str(seed), np.zeros((FRAMES, len(TARGETS)), np.float32), wanted, sound, np.ones(FRAMES, bool)))
    return out


def identity() -> Probe:
    """Latents that are the targets themselves."""
    values = np.random.default_rng(5).standard_normal((400, len(TARGETS)))
    return Probe(values, values, ridge=1e-9)


def test_a_talker_is_told_from_a_listener() -> None:
    told = measure_stage2(Puppet("own"), identity(), talkers())  # type: ignore[arg-type]
    assert told["r_mouth"] > 0.95 and told["r_loudness"] > 0.8 and abs(told["r_mouth_shuffled"]) < 0.5
    assert told["listening_energy_share"] < 0.01
    assert told["turns_energy_share"] < 0.2 and told["swapped_energy_share"] < 0.2
    assert told["seeds_differ"] > 0 and told["seed_repeats"] == 1
    assert told["head_var_listening_share"] == pytest.approx(0.25, rel=0.05)

    wrong = measure_stage2(Puppet("partner"), identity(), talkers())  # type: ignore[arg-type]
    assert wrong["listening_energy_share"] > 10 and wrong["turns_energy_share"] > 5


def test_errors_of_pictures() -> None:
    rng = np.random.default_rng(0)
    shown = to_unit(torch.from_numpy(rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)))
    where = torch.zeros(4, 3, 32, 32, dtype=torch.bool)
    where[:, 0, 20:28, 8:24] = where[:, 1, 4:10, 4:12] = where[:, 2, 4:10, 20:28] = True
    same = _errors(shown, shown, where).means()
    assert same["region"] == 0 and same["ssim"] == pytest.approx(1) and same["psnr"] == pytest.approx(100)
    dark = shown.clone()
    dark[:, :, 20:28, 8:24] -= 0.5
    told = (_errors(dark, shown, where) + _errors(shown, shown, where)).means()
    assert told["mouth"] == pytest.approx(0.25) and told["eyes"] == 0 and told["region"] == pytest.approx(0.5 / 3 / 2)
    assert told["frames"] == 8 and told["ssim"] < 1
    assert Pictures().means()["region"] == 0


def test_probe_tells_what_lies_on_a_line() -> None:
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((300, 40))
    targets = latents @ rng.standard_normal((40, len(TARGETS))) + 3
    targets[:, MOUTH] = rng.standard_normal(300)
    r2 = Probe(latents[:200], targets[:200]).r2(latents[200:], targets[200:])
    assert r2["head_yaw"] > 0.99 and r2["mouth_open"] < 0.2
