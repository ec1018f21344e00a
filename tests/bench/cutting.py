"""Part `cuts`: scenes, normalize, clips and pack over twelve clips, beside one pass of ffmpeg that knows the cuts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from dyconv import recipes
from dyconv.records import Key
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.store import Store
from dyconv.time import FPS
from tests.bench.cost import Cost, middle, spent
from tests.bench.media import CUTS, SECONDS, make_clip, read_marks

COUNT = 12
WORKERS = 2
WANTED = 0.6


def measure(folder: Path, *, count: int = COUNT, repeats: int = 1) -> dict[str, Any]:
    """Run both over the same files and compare what was written with the truth."""
    paths = make_clips(folder / "media", count)
    recipe = recipes.load("cuts")
    encoder = encoder_of(recipe)
    ours: list[Cost] = []
    stages: dict[str, float] = {}
    for number in range(repeats):
        with spent(ours):
            out = str(folder / f"ours-{number}")
            summary = run(recipe, manifest_of(folder, paths), out, RunOptions("local", workers=WORKERS))
        stages = {row.stage: round(row.seconds, 2) for row in summary.funnel.stages}
    pairs: list[Cost] = []
    alone: list[Cost] = []
    for number in range(repeats):
        with spent(pairs):
            _ffmpeg(paths, folder / f"pair-{number}", encoder, together=WORKERS, threads=1)
        with spent(alone):
            _ffmpeg(paths, folder / f"alone-{number}", encoder, together=1, threads=0)
    mine, pair, single = middle(ours), middle(pairs), middle(alone)
    best, how = (pair, "two files at a time, one thread each") if pair < single else (single, "one file at a time, own threads")
    return {
        "media_s": count * SECONDS,
        "ours_s": round(mine.wall, 2),
        "ours_cpu_s": round(mine.cpu, 2),
        "ours_stage_s": stages,
        "ffmpeg_s": round(best.wall, 2),
        "ffmpeg_cpu_s": round(best.cpu, 2),
        "ffmpeg_how": how,
        "ffmpeg_other_s": round(max(pair, single).wall, 2),
        "encoder": encoder,
        "ratio": round(best.wall / mine.wall, 3),
        "cpu_ratio": round(best.cpu / mine.cpu, 3),
        "wanted_ratio": WANTED,
        "x_real_time": round(count * SECONDS / mine.wall, 1),
        **compare(Store(folder / f"ours-{repeats - 1}"), count),
    }


def make_clips(media: Path, count: int) -> list[Path]:
    """The first `count` synthetic clips, those that are not there yet."""
    media.mkdir(parents=True, exist_ok=True)
    paths = [media / f"clip{number:02d}.mp4" for number in range(count)]
    missing = [(path, number) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            list(pool.map(make_clip, *zip(*missing, strict=True)))
    return paths


def encoder_of(recipe: Any) -> dict[str, str]:
    """x264's preset and crf as `normalize` of the recipe sets them."""
    normalize = recipe.stage("normalize").config()
    return {"preset": str(normalize.get("preset", "veryfast")), "crf": str(normalize.get("crf", 20))}


def manifest_of(folder: Path, paths: Sequence[Path]) -> Path:
    """Write a manifest of the files."""
    manifest = folder / "manifest.csv"
    rows = [f"{path.stem},{path.absolute().as_uri()},own" for path in paths]
    manifest.write_text("\n".join(["id,url,licence", *rows]) + "\n")
    return manifest


def _ffmpeg(paths: Sequence[Path], out: Path, encoder: dict[str, str], *, together: int, threads: int) -> None:
    """One decode and frame-accurate encode of every file into its three shots."""
    import imageio_ffmpeg

    out.mkdir(parents=True, exist_ok=True)
    edges = [0.0, *map(float, CUTS), float(SECONDS)]
    limit = ["-threads", str(threads)] if threads else []
    coded = ["-c:v", "libx264", "-preset", encoder["preset"], "-crf", encoder["crf"], *limit, "-c:a", "aac"]
    waiting, running = list(paths), []
    while waiting or running:
        while waiting and len(running) < together:
            path = waiting.pop(0)
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *limit, "-i", str(path)]
            for number, (start, end) in enumerate(pairwise(edges)):
                command += ["-ss", str(start), "-t", str(round(end - start, 3)), *coded, str(out / f"{path.stem}_{number}.mp4")]
            running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        first = running.pop(0)
        if first.wait() != 0:
            raise RuntimeError(f"ffmpeg failed: {first.args!r}")


def compare(store: Store, count: int) -> dict[str, Any]:
    """Cuts and sync of what was written, against the truth."""
    errors: list[float] = []
    foreign, offsets, clips, frames = 0, [], 0, 0
    starts: dict[str, list[float]] = {}
    for clip in kept_clips(store):
        clips += 1
        starts.setdefault(clip.source.id, []).append(float(clip.span.start))
        marks = read_marks(store.local(clip.assets[Key.VIDEO].path), store.local(clip.assets[Key.MIX].path))
        foreign += sum(shot != median(marks.shots) for shot in marks.shots)
        offsets += marks.offsets
        frames += len(marks.shots)
    for found in starts.values():
        errors += [min((abs(start - float(cut)) for start in found), default=99.0) * FPS for cut in CUTS]
    wanted = count * (len(CUTS) + 1)
    return {
        "clips": clips,
        "clips_wanted": wanted,
        "cut_error_frames_max": round(max(errors, default=99.0), 3),
        "foreign_frames": foreign,
        "av_offset_frames_max": round(max(map(abs, offsets), default=99.0), 3),
        "av_offset_frames_median": round(median(offsets), 3) if offsets else None,
        "events": len(offsets),
        "lost_s": round(count * SECONDS - frames / FPS, 2),
    }
