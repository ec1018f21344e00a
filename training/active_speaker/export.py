"""From a training state to packaged weights: `python -m training.active_speaker.export --data D --state S --out W`.

Takes the running average of the parameters, calibrates verdicts and offsets on the training clips that were kept aside, and
writes them as float16.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from dyconv.models.mouth_sync import agreement, best_shift, prominence
from dyconv.models.mouth_sync_input import mel_bands, standardised
from dyconv.models.mouth_sync_net import MouthSyncNet
from dyconv.time import FPS, SAMPLES_PER_FRAME
from training.active_speaker.compose import SOUNDS, Composer
from training.active_speaker.data import Clip, load_clips, load_sounds
from training.active_speaker.train import FRAMES, batch_of

_LOG = logging.getLogger(__name__)
_WINDOWS = 240
_EDGE = (64 - 48) // 2  # of a prepared mouth picture, around the network's own


def load_state(path: Path) -> MouthSyncNet:
    state = torch.load(path, map_location="cpu", weights_only=True)
    net = MouthSyncNet()
    net.load_state_dict(state["average"])
    _LOG.info("step %d after %.1f minutes", state["step"], state["spent"] / 60)
    return net.eval()


def calibrate_verdicts(net: MouthSyncNet, composer: Composer) -> None:
    """Scale and shift by logistic regression, both answers weighted alike, so that the odds are evidence and no prior."""
    logits, labels = [], []
    for _ in range(_WINDOWS // 12):
        batch = batch_of([composer.window() for _ in range(12)])
        with torch.inference_mode():
            seen = net.watch(batch.thumbs, batch.shapes).repeat_interleave(SOUNDS, 0)
            logits.append(net.judge(seen, net.hear(batch.bands)).numpy()[:, 8:-8].ravel())
        labels.append((batch.speaks.numpy()[:, 8:-8] > 0.5).ravel())
    odds, truth = np.concatenate(logits), np.concatenate(labels)
    scale, shift = logistic(odds, truth)
    net.scale.fill_(scale)
    net.shift.fill_(shift)
    right = 0.5 * ((odds[truth] * scale + shift > 0).mean() + (odds[~truth] * scale + shift < 0).mean())
    _LOG.info("verdicts: scale %.3f, shift %.3f, balanced accuracy %.3f on composed windows", scale, shift, right)


def logistic(values: np.ndarray, truth: np.ndarray, steps: int = 50) -> tuple[float, float]:
    """Slope and offset of log odds in `values`, by Newton's method with a slight pull to 0; classes weighted alike."""
    weight = np.where(truth, 0.5 / max(truth.sum(), 1), 0.5 / max((~truth).sum(), 1)) * len(truth)
    columns = np.stack([values, np.ones_like(values)], axis=1).astype(np.float64)
    beta = np.zeros(2)
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-np.clip(columns @ beta, -30, 30)))
        slope = columns.T @ (weight * (truth - chance)) - 0.1 * beta
        curve = (columns * (weight * chance * (1 - chance))[:, None]).T @ columns + 0.1 * np.eye(2)
        beta = beta + np.linalg.solve(curve, slope)
    return float(beta[0]), float(beta[1])


def curve_of(net: MouthSyncNet, clip: Clip, sound: np.ndarray, speech: np.ndarray, start: int, count: int) -> np.ndarray:
    """Agreement of a clip's lips with a sound at each shift [31], over the frames of a stretch that are talked in."""
    part = slice(start, start + count)
    thumbs = standardised(clip.mouth[part, _EDGE:-_EDGE, _EDGE:-_EDGE])
    samples = sound[start * SAMPLES_PER_FRAME : (start + count) * SAMPLES_PER_FRAME].astype(np.float32) / 32768
    with torch.inference_mode():
        seen = net.watch(torch.from_numpy(thumbs)[None], torch.from_numpy(clip.shapes[part])[None])
        lips, voice = net.sync(seen, net.hear(torch.from_numpy(mel_bands(samples, count))[None]))
    return agreement(lips[0].numpy(), voice[0].numpy(), speech[part] * clip.present[part])


def calibrate_offsets(net: MouthSyncNet, clips: list[Clip], random: np.random.Generator) -> None:
    """What prominence of the best shift tells a right voice from a wrong one, or from lips at rest."""
    heights, truth = [], []
    talking = [clip for clip in clips if clip.talks and (clip.speech > 0.5).sum() > 40]
    for clip in talking:
        for other in [clip, *(talking[int(random.integers(len(talking)))] for _ in range(3))]:
            if other is not clip and other.name.split("__")[0] == clip.name.split("__")[0]:
                continue
            for _ in range(4):
                longest = min(clip.frames, other.frames)
                count = int(random.integers(min(50, longest - 1), min(longest, 250)))
                start = int(random.integers(longest - count + 1))
                speech = other.speech[start : start + count].sum()
                if speech < FPS:
                    continue
                curve = curve_of(net, clip, other.sound, other.speech, start, count)
                heights.append(prominence(curve, float(speech)))
                truth.append(other is clip and abs(best_shift(curve)) < 2.5)
    slope, offset = logistic(np.array(heights), np.array(truth))
    net.confidence.copy_(torch.tensor([slope, -offset / slope]))
    good = np.array(truth)
    _LOG.info("offsets: %d right, %d wrong, slope %.3f, middle %.3f", good.sum(), (~good).sum(), slope, -offset / slope)


def main() -> None:
    from safetensors.torch import save_file

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = load_state(given.state)
    _, kept = load_clips(given.data)
    voices, noises = load_sounds(given.packages, given.data.parent / "sounds.npz")
    calibrate_verdicts(net, Composer(kept, voices, noises, FRAMES, 1, {}))
    calibrate_offsets(net, kept, np.random.default_rng(2))
    state = net.state_dict().items()
    small = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(small, given.out)
    _LOG.info("%s: %.2f MB", given.out, given.out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
