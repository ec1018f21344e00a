"""Part `peers`: the twelve clips of part `cuts` by us and by video2dataset, one run after the other, with the errors of both.

Both cut at detected cuts and write tars of clips. We run the `cuts` recipe up to the shards. Its exact mode encodes each file
again with forced keyframes, once with our preset and once with its own; its keyframe mode copies packets. Whatever was
written is read by the marks in it: shot patches, flashes and tones (`tests.bench.media`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from dyconv import recipes
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from dyconv.time import FPS
from tests.bench import cutting, dirty, video2dataset
from tests.bench.cost import Cost, spent
from tests.bench.media import CUTS, SECONDS, read_foreign_marks
from tests.bench.video2dataset import PeerMissing, Written

COUNT = 12
WANTED = 4.0
_SHORTEST, _LONGEST = 2.0, 20.0


def measure(folder: Path, *, count: int = COUNT, repeats: int = 1) -> dict[str, Any]:
    """Time and errors of both; `unavailable` says why where the peer cannot be had."""
    paths = cutting.make_clips(folder / "media", count)
    recipe = recipes.load("cuts")
    preset = " ".join(f"-{name} {value}" for name, value in cutting.encoder_of(recipe).items())
    try:
        python = video2dataset.environment()
    except PeerMissing as error:
        return {"unavailable": str(error), "wanted_ratio": WANTED}
    modes = {"exact": ("exact", preset), "exact_own_preset": ("exact", ""), "keyframe": ("keyframe", preset)}
    ours: list[Cost] = []
    theirs: dict[str, list[Cost]] = {name: [] for name in modes}
    for number in range(repeats):
        out = folder / f"ours-{number}"
        shutil.rmtree(out, ignore_errors=True)
        with spent(ours):
            run(recipe, cutting.manifest_of(folder, paths), str(out), RunOptions("local", workers=cutting.WORKERS))
        for name, (mode, how) in modes.items():
            with spent(theirs[name]):
                _peer(python, folder / name, paths, mode, how)
    return {
        "media_s": count * SECONDS,
        "wanted_ratio": WANTED,
        "ours": {**_cost(ours), **_worst(cutting.compare(Store(folder / f"ours-{repeats - 1}"), count))},
        "video2dataset": {
            name: {**_cost(theirs[name]), **_ratios(ours, theirs[name]), **errors_of(folder / name / "out", paths)}
            for name in modes
        },
        "dirty": dirty.verdicts(folder / "dirty", python, preset),
    }


def _peer(python: Path, folder: Path, paths: Sequence[Path], mode: str, preset: str) -> None:
    urls = [str(path.absolute()) for path in paths]
    video2dataset.run(python, folder, urls, mode, preset=preset, shortest=_SHORTEST, longest=_LONGEST)


def _cost(costs: list[Cost]) -> dict[str, float]:
    return {
        "wall_s": round(median(cost.wall for cost in costs), 2),
        "cpu_s": round(median(cost.cpu for cost in costs), 2),
    }


def _ratios(ours: list[Cost], theirs: list[Cost]) -> dict[str, float]:
    """Their seconds over ours, run by run, and the median of that."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "ratio": round(median(other.wall / own.wall for own, other in pairs), 2),
        "cpu_ratio": round(median(other.cpu / own.cpu for own, other in pairs), 2),
    }


def _worst(found: dict[str, Any]) -> dict[str, Any]:
    names = ("clips", "clips_wanted", "cut_error_frames_max", "foreign_frames", "av_offset_frames_max", "lost_s")
    return {name: found[name] for name in names}


def errors_of(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """What is wrong in the clips of its tars, named as in `cutting.compare`."""
    written = [sample for sample in video2dataset.samples(folder) if sample.video]
    errors = [
        _nearest(cut, [one.span[0] for one in _of(path, written) if one.span]) for path in paths for cut in map(float, CUTS)
    ]
    foreign, offsets, frames = 0, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        for sample in written:
            path = Path(scratch) / "clip.mp4"
            path.write_bytes(sample.video)
            marks = read_foreign_marks(path)
            frames += len(marks.shots)
            foreign += sum(shot != median(marks.shots) for shot in marks.shots)
            offsets += marks.offsets
    return {
        "clips": len(written),
        "clips_wanted": len(paths) * len(list(pairwise([0, *CUTS, SECONDS]))),
        "cut_error_frames_max": round(max(errors, default=99.0), 3),
        "foreign_frames": foreign,
        "av_offset_frames_max": round(max(map(abs, offsets), default=99.0), 3),
        "lost_s": round(len(paths) * SECONDS - frames / FPS, 2),
    }


def _of(path: Path, written: list[Written]) -> list[Written]:
    return [sample for sample in written if sample.url == str(path.absolute())]


def _nearest(cut: float, starts: Sequence[float]) -> float:
    """Frames from a true cut to the nearest start of a clip."""
    return min((abs(start - cut) for start in starts), default=99.0) * FPS
