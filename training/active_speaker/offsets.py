"""Which training clips are out of sync: `python -m training.active_speaker.offsets --data D --state S --out offsets.json`.

A network trained on all clips as they are finds those whose sound is late or early; trained on with their sound moved into
time, it becomes sharper.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch

from dyconv.models.mouth_sync import best_shift, prominence
from training.active_speaker.data import load_clips
from training.active_speaker.export import curve_of, load_state

_LOG = logging.getLogger(__name__)
_SURE = 0.45  # prominence
_SMALLEST = 0.8  # frames


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = load_state(given.state)
    found = {}
    for clip in [clip for part in load_clips(given.data) for clip in part if clip.talks]:
        frames = min(clip.frames, 500)
        speech = float(clip.speech[:frames].sum())
        if speech < 25:
            continue
        curve = curve_of(net, clip, clip.sound, clip.speech, 0, frames)
        shift, height = best_shift(curve), prominence(curve, speech)
        if height > _SURE and abs(shift) >= _SMALLEST:
            found[clip.name] = round(shift, 2)
        _LOG.info("%-50s %6.2f %6.2f %s", clip.name, shift, height, "moved" if clip.name in found else "")
    given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
