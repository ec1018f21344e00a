"""Export and measure `htdemucs_small`: `python -m training.cleanup.export --checkpoint FILE --voices FILE --sounds FILE`.

Takes the moving average of a checkpoint of `training.cleanup.train`, writes it to `dyconv/weights`, and measures what was
written on held-out voices and sounds.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch

from dyconv.models.demucs_enhancer import SHAPE, DemucsEnhancer
from dyconv.models.demucs_load import save_network
from dyconv.stages.clean import level_db
from dyconv.store import sha256_of
from dyconv.time import SAMPLE_RATE
from training.cleanup.mix import Mixer
from training.cleanup.sounds import load_sounds
from training.cleanup.train import gain_db
from training.separation.voices import load_voices

_LOG = logging.getLogger(__name__)
TARGET = Path(__file__).resolve().parents[2] / "dyconv" / "weights" / "htdemucs_small" / "model.safetensors"
_SECONDS, _COUNT = 6, 16
_LEVELS_DB = (-5.0, 0.0, 5.0, 10.0, 20.0)


def measure(enhancer: DemucsEnhancer, mixer: Mixer) -> dict[str, dict[str, list[float]]]:
    """By kind and level: [mean gain in SI-SDR, tenth percentile, median of rest against speech], all in dB."""
    out: dict[str, dict[str, list[float]]] = {}
    for kind in ("music", "noise", "made"):
        for snr_db in _LEVELS_DB:
            rng = np.random.default_rng(11)
            gains, rests = [], []
            for _ in range(_COUNT):
                pair = mixer.draw(rng, kind, snr_db)
                mix = pair.sum(axis=0)
                speech = enhancer.speech(mix)
                gains.append(gain_db(pair, speech))
                rests.append(level_db(mix - speech, speech))
            found = [np.mean(gains), np.percentile(gains, 10), np.median(rests)]
            out.setdefault(kind, {})[f"{snr_db:g}"] = [round(float(value), 2) for value in found]
    rng = np.random.default_rng(11)
    rests = []
    for _ in range(2 * _COUNT):
        speech = mixer.draw(rng, "made", 60.0)[0]
        rests.append(level_db(speech - enhancer.speech(speech), speech))
    out["clean"] = {"rest": [round(float(np.percentile(rests, part)), 2) for part in (50, 90, 100)]}
    return out


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--voices", type=Path, required=True, help="held_out.npz of training.separation.voices")
    parser.add_argument("--sounds", type=Path, required=True, help="held_out.npz of training.cleanup.sounds")
    parser.add_argument("--to", type=Path, default=TARGET)
    given = parser.parse_args()
    from demucs.htdemucs import HTDemucs

    torch.set_num_threads(1)
    state = torch.load(given.checkpoint, weights_only=True)
    net = HTDemucs(**SHAPE)
    net.load_state_dict(state["average"])
    save_network(given.to, net, SHAPE)
    sounds = load_sounds(given.sounds)
    mixer = Mixer(load_voices(given.voices), sounds["music"], sounds["noise"], _SECONDS * SAMPLE_RATE)
    _LOG.info("%s: step %d, sha256 %s", given.to, state["step"], sha256_of(given.to))
    _LOG.info("%s", json.dumps(measure(DemucsEnhancer(given.to), mixer), indent=1))


if __name__ == "__main__":
    main()
