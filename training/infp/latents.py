"""Motion latents of many people, as they lie in shards: for what is known or fitted before a training begins."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from dyconv.errors import UsageError
from dyconv.records import PERSONS, Key
from dyconv.shards.sample import Sample
from training.infp.clips import Builds

MOTION = tuple(Key.of(person, "motion") for person in PERSONS)
_PER_PERSON = 250  # frames of one person of a clip: many people rather than much of some


def clips_of(
    data: Sequence[str],
    keys: Sequence[Key],
    *,
    encoder: str | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    seed: int | None = None,
) -> Iterator[Sample]:
    """Clips of builds shard by shard, in the order written, or with a seed shards and their clips shuffled."""
    with tempfile.TemporaryDirectory(prefix="dyconv-shards-") as cache:
        builds = Builds(data, keys, Path(cache), encoder_hash=encoder)
        shards = [
            list(items) for _, items in groupby(builds.items(only=only, without=without), lambda item: (item.build, item.shard))
        ]
        if seed is not None:
            rng = np.random.default_rng(seed)
            shards = [[shards[at][place] for place in rng.permutation(len(shards[at]))] for at in rng.permutation(len(shards))]
        for items in shards:
            for item in items:
                yield builds.sample(item)


def latent_size(data: Sequence[str], encoder: str) -> int:
    """Numbers of a latent in the builds.

    Raises:
        UsageError: where there are none.
    """
    for sample in clips_of(data, MOTION, encoder=encoder):
        for key in MOTION:
            if key in sample:
                return int(sample.arrays(key)["latents"].shape[1])
    raise _none(data)


def sample_latents(
    data: Sequence[str],
    encoder: str,
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    seed: int = 0,
    most: int = 50_000,
) -> np.ndarray:
    """Latents float32 [N, latent] of frames that show a face, the same for the same seed.

    Raises:
        UsageError: where there are none, or they are of another encoder.
    """
    rng = np.random.default_rng(seed)
    out: list[np.ndarray] = []
    for sample in clips_of(data, MOTION, encoder=encoder, only=only, without=without, seed=seed):
        for key in MOTION:
            if key in sample:
                held = sample.arrays(key)
                some = rng.permutation(np.flatnonzero(held["present"]))[:_PER_PERSON]
                out.append(held["latents"][np.sort(some)])
        if sum(map(len, out)) >= most:
            break
    if not any(map(len, out)):
        raise _none(data)
    return np.concatenate(out).astype(np.float32)


def _none(data: Sequence[str]) -> UsageError:
    return UsageError(f"no motion latents in {', '.join(data)}", hint="run the stage encode_motion, and pack again")
