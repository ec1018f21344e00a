"""How good separation is on held-out speakers: `python -m training.separation.measure --voices FOLDER`.

SI-SDR improvement in the overlap, of the weights that are packaged, by the sexes of the two, by the length of the overlap
and by the level of one voice against the other; and how often the two come out exchanged.
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from dyconv.models import registry
from dyconv.models.slots import Separator
from dyconv.score_metrics import si_sdr_db
from dyconv.time import FPS, SAMPLES_PER_FRAME
from training.corpora import data_dir, speakers
from training.separation.compose import Composer, Overlap
from training.separation.voices import Voice, load_voices

_LOG = logging.getLogger(__name__)


def overlaps_of_strangers(count: int) -> Iterator[Overlap]:
    """Some overlaps of held-out speakers, straight from their files (no cache needed)."""
    voices = []
    for name, paths in list(speakers(held_out=True).items())[:10]:
        parts = [soundfile.read(path, dtype="int16")[0] for path in paths[:6]]
        voices.append(Voice(f"ocean/{name}", np.concatenate(parts), ""))
    composer = Composer(voices, 2, plain=True)
    for index in range(count):
        yield composer.draw((index % 10, (3 * index + 1) % 10 if (3 * index + 1) % 10 != index % 10 else (index + 5) % 10))


def gains(model: Separator, item: Overlap, *, enrolled: bool) -> tuple[list[float], bool]:
    """SI-SDR improvement of both voices in the overlap, in dB, and whether they fit better exchanged, by 1 dB each."""
    mix = item.voices.sum(axis=0) + item.rest
    found = model.separate(mix, item.activity, list(item.enrolment) if enrolled else ())
    inside = np.repeat(item.both, SAMPLES_PER_FRAME)
    true = item.voices[:, inside]
    score = np.array([[si_sdr_db(true[p], found[q, inside]) or 0.0 for q in range(2)] for p in range(2)])
    before = [si_sdr_db(true[p], mix[inside]) or 0.0 for p in range(2)]
    return [float(score[p, p] - before[p]) for p in range(2)], bool(np.trace(score) + 2.0 < np.trace(score[::-1]))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voices", type=Path, required=True, help="folder with held_out.npz of training.separation.voices")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--model", default="target_tasnet")
    parser.add_argument("--enrol", type=float, default=8.0, help="seconds of enrolment; the stage gives up to 24")
    parser.add_argument("--without-enrolment", action="store_true")
    parser.add_argument("--noisy", action="store_true", help="with noise, rooms, telephones and misjudged turns")
    given = parser.parse_args()
    listed = (data_dir() / "speech" / "speechocean762" / "spk2gender").read_text().split()
    sex = dict(zip(listed[::2], listed[1::2], strict=True))
    model = registry.load(given.model)
    composer = Composer(load_voices(given.voices / "held_out.npz"), 11, plain=not given.noisy, enrol_s=(given.enrol,) * 2)
    found: dict[str, list[float]] = defaultdict(list)
    exchanged: dict[str, list[bool]] = defaultdict(list)
    for _ in range(given.count):
        item = composer.draw()
        gained, swapped = gains(model, item, enrolled=not given.without_enrolment)
        for group in _groups(item, sex):
            found[group] += gained
            exchanged[group].append(swapped)
    for group in sorted(found):
        values = np.array(found[group])
        _LOG.info(
            "%-28s %4d voices: %5.2f dB better (median %5.2f, 10 %% below %5.2f), exchanged %.1f %%",
            *(group, len(values), values.mean(), np.median(values), np.percentile(values, 10)),
            100 * np.mean(exchanged[group]),
        )


def _groups(item: Overlap, sex: dict[str, str]) -> list[str]:
    """What an excerpt counts for."""
    pair = "".join(sorted(sex.get(name.split("/")[1], "?") for name in item.names))
    seconds = float(item.both.sum()) / FPS
    inside = np.repeat(item.both, SAMPLES_PER_FRAME)
    power = (item.voices[:, inside] ** 2).mean(axis=1) + 1e-9
    level = abs(10 * np.log10(power[1] / power[0]))
    length = "under 1 s" if seconds < 1 else "1 to 2 s" if seconds < 2 else "over 2 s"
    apart = "within 2 dB" if level < 2 else "2 to 4 dB" if level < 4 else "over 4 dB"
    return ["all", f"sexes {pair}", f"overlap {length}", f"levels {apart}"]


if __name__ == "__main__":
    main()
