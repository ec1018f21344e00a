"""Motion latents of many people, as they lie in shards: for what is fitted before a training begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dyconv.errors import UsageError
from dyconv.records import PERSONS, Key
from dyconv.shards import open_shards

_PER_PERSON = 250  # frames of one person of a clip: many people rather than much of some


def sample_latents(data: Sequence[str], encoder: str, *, seed: int = 0, most: int = 50_000) -> np.ndarray:
    """Latents float32 [N, latent] of frames that show a face, evenly from each build, the same for the same seed.

    Raises:
        UsageError: where there are none, or they are of another encoder.
    """
    rng = np.random.default_rng(seed)
    out: list[np.ndarray] = []
    for build in data:
        count = 0
        keys = [Key.of(person, "motion") for person in PERSONS]
        for sample in open_shards(build, keys=keys, encoder_hash=encoder, shuffle=64, seed=seed, rank=0, world_size=1):
            for key in keys:
                if key in sample:
                    held = sample.arrays(key)
                    shown = np.flatnonzero(held["present"])
                    some = rng.permutation(shown)[:_PER_PERSON]
                    out.append(held["latents"][np.sort(some)])
                    count += len(some)
            if count * len(data) >= most:
                break
    if not sum(len(one) for one in out):
        raise UsageError(f"no motion latents in {', '.join(data)}", hint="run the stage encode_motion, and pack again")
    return np.concatenate(out).astype(np.float32)
