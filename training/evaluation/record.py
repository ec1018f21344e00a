"""What a build's record says of a person in a clip, as plain numbers."""

from __future__ import annotations

from dyconv.records import PERSONS, Key
from dyconv.shards.sample import Sample


def record_of(sample: Sample, person: str) -> dict[str, float]:
    """Numbers by name: the record's measures, and `crop_px`, the side in source pixels of what became the face video.

    Measures of the person are told without their `p0.` (`bleed_db`, `si_sdr_est_db`), those of the partner not at all.
    """
    found = {}
    for name, value in sample.clip.measures.items():
        whose, _, rest = name.partition(".")
        if isinstance(value, int | float) and (whose == person or whose not in PERSONS):
            found[rest if whose == person else name] = float(value)
    crop = Key.of(person, "crop")
    if crop in sample:
        box = sample.arrays(crop)["box"]
        found["crop_px"] = float(box[2] - box[0])
    return found
