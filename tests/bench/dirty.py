"""The dirty set: files as hosts have them, by us and by video2dataset, and whether what each kept is right.

A kept clip is right where it is not of a damaged file, decodes to its end, shows one shot alone, and has its clicks at its
flashes (1.5 frames of 25 fps). A verdict is `dropped` or `failed` with its reason, or `kept` with what is wrong about it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dyconv import recipes
from dyconv.ledger import read_ledger, source_standing
from dyconv.media.audio import read_audio
from dyconv.media.source import UnreadableSource
from dyconv.media.video import read_frames
from dyconv.records import Key
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.store import Store
from dyconv.time import FPS, SAMPLE_RATE
from tests.bench import video2dataset
from tests.bench.media import offsets_of, pictures_and_sound
from tests.mediagen import flip_bits, make_media, times_cfr, times_vfr, truncate

_SECONDS, _CUT = 6.0, 3.2
_EVENTS = (1.0, 2.2, 4.2, 5.2)
_LATE = 1.5  # frames of 25 fps between flash and click that are an error
_SHORT_S = 0.25  # s that may be missing of a file's good pictures


def files(folder: Path) -> dict[str, Path]:
    """The files by name; the good ones first."""
    made = {"duration": _SECONDS, "cuts": [_CUT], "events": _EVENTS, "size": (320, 180)}
    folder.mkdir(parents=True, exist_ok=True)
    good = make_media(folder / "good.mp4", options={"movflags": "+faststart"}, **made).path
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("<html>not a video</html>" * 50)
    return {
        "good": good,
        "rotated": make_media(folder / "rotated.mp4", rotation=90, **made).path,
        "wide pixels": make_media(folder / "sar.mp4", sar=Fraction(4, 3), **made).path,
        "varying rate": make_media(folder / "vfr.mp4", times=times_vfr(_SECONDS), **made).path,
        "starts at 1.5 s": make_media(folder / "late.mp4", start=1.5, **made).path,
        "sound starts late": make_media(folder / "gap.mp4", audio_start=0.6, **made).path,
        "29.97 fps": make_media(folder / "ntsc.mp4", times=times_cfr(_SECONDS, Fraction(30000, 1001)), **made).path,
        "cut off at 10 %": truncate(good, folder / "t10.mp4", 0.1),
        "cut off at 50 %": truncate(good, folder / "t50.mp4", 0.5),
        "cut off at 99 %": truncate(good, folder / "t99.mp4", 0.99),
        "bits flipped": flip_bits(good, folder / "flipped.mp4", 400),
        "empty file": folder / "empty.mp4",
        "not a video": folder / "text.mp4",
        "no pictures": make_media(folder / "audio.mp4", duration=_SECONDS, video=None).path,
        "no sound": make_media(folder / "mute.mp4", audio=None, **made).path,
        "silent": make_media(folder / "silent.mp4", silent=True, **made).path,
        "not there": folder / "nowhere.mp4",
    }


GOOD = ("good", "rotated", "wide pixels", "varying rate", "starts at 1.5 s", "sound starts late", "29.97 fps")


def verdicts(folder: Path, python: Path, preset: str) -> dict[str, Any]:
    """By file: what we say, what it says, and whether that is right; then the counts of what is wrong."""
    paths = files(folder / "media")
    ours, theirs = _ours(folder, paths), _theirs(folder, paths, python, preset)
    table = {name: {"ours": ours[name], "video2dataset": theirs[name]} for name in paths}
    wrong = {tool: sum(not right(name, row[tool]) for name, row in table.items()) for tool in ("ours", "video2dataset")}
    return {"files": table, "wrong": wrong}


def right(name: str, verdict: str) -> bool:
    """Whether a good file was kept as it is, or a bad one was not kept, with a reason."""
    return verdict == "kept, right" if name in GOOD else verdict.startswith(("dropped: ", "failed: "))


def _ours(folder: Path, paths: dict[str, Path]) -> dict[str, str]:
    recipe = recipes.load("cuts")
    download = replace(recipe.stage("download"), attempts=1, backoff_s=0.1)
    recipe = replace(recipe, stages=(download, *recipe.stages[1:]), max_failure_rate=1.0)
    ids = {f"f{number:02d}": name for number, name in enumerate(paths)}
    manifest = folder / "manifest.csv"
    rows = [f"{one},{paths[name].absolute().as_uri()},own" for one, name in ids.items()]
    manifest.write_text("\n".join(["id,url,licence", *rows]) + "\n")
    store = Store(folder / "ours")
    run(recipe, manifest, store.root, RunOptions("local", workers=1))
    clips: dict[str, list[str]] = {}
    for clip in kept_clips(store):
        video, mix = (store.local(clip.assets[key].path) for key in (Key.VIDEO, Key.MIX))
        pictures = [(index / FPS, frame) for index, frame in enumerate(read_frames(video))]
        clips.setdefault(clip.source.id, []).append((pictures, read_audio(mix)))  # type: ignore[arg-type]
    said = {}
    for log in read_ledger(store).values():
        standing, name = source_standing(log), ids[log.id]
        kept = str(standing.state) == "kept"
        said[name] = _kept(name, clips.get(log.id, [])) if kept else f"{standing.state}: {standing.reason}"
    return said


def _theirs(folder: Path, paths: dict[str, Path], python: Path, preset: str) -> dict[str, str]:
    urls = [str(path.absolute()) for path in paths.values()]
    out = video2dataset.run(python, folder / "theirs", urls, "exact", preset=preset, shortest=0.5, longest=20)
    written = video2dataset.samples(out)
    said = {}
    for name, path in paths.items():
        mine = [sample for sample in written if sample.url == str(path.absolute())]
        if not mine:
            said[name] = "not in its output"
        elif not any(sample.video for sample in mine):
            said[name] = f"failed: {mine[0].error.splitlines()[0][:60]}" if mine[0].error else f"no video, {mine[0].status}"
        else:
            said[name] = _kept(name, list(_watched([sample.video for sample in mine if sample.video])))
    return said


def _watched(videos: list[bytes]) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as scratch:
        for video in videos:
            path = Path(scratch) / "clip.mp4"
            path.write_bytes(video)
            try:
                pictures, samples = pictures_and_sound(path)
                yield list(pictures), samples
            except UnreadableSource:
                yield [], np.zeros(0, np.float32)


def _kept(name: str, clips: list[Any]) -> str:
    """`kept, right`, or `kept` and what is wrong with it."""
    if name not in GOOD:
        return f"kept: {len(clips)} clips of a bad file"
    wrong, seconds, offsets = [], 0.0, []
    for pictures, samples in clips:
        if not pictures:
            wrong.append("a clip does not decode")
            continue
        steps = np.diff([time for time, _ in pictures])
        seconds += pictures[-1][0] + (float(np.median(steps)) if len(steps) else 0.04)
        level = np.array([float(frame[: len(frame) // 8].mean()) for _, frame in pictures])
        jumps = np.abs(np.diff(level)) > 15
        if len(level) > 2 and jumps.any():
            place = int(np.flatnonzero(jumps)[0]) + 1
            wrong.append(f"{min(place, len(level) - place)} frames of another shot")
        offsets += offsets_of(_flashes(pictures), _clicks(samples))
    if len(clips) != 2:
        wrong.append(f"{len(clips)} clips for 2 shots")
    if seconds < _SECONDS - _SHORT_S:
        wrong.append(f"{_SECONDS - seconds:.1f} s lost")
    if not offsets:
        wrong.append("no flash with its click")
    elif abs(worst := max(offsets, key=abs)) > _LATE:
        wrong.append(f"sound {worst / FPS * 1000:+.0f} ms (median {median(offsets) / FPS * 1000:+.0f})")
    return "kept: " + ", ".join(wrong) if wrong else "kept, right"


def _flashes(pictures: list[tuple[float, np.ndarray]]) -> list[float]:
    """Times at which the square in the middle lights up."""
    lit = []
    for _, frame in pictures:
        height, width = frame.shape[:2]
        middle = frame[height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8]
        lit.append(float(middle.min(axis=-1).mean()) > 225)
    return [pictures[index][0] for index in range(1, len(lit)) if lit[index] and not lit[index - 1]]


def _clicks(samples: np.ndarray) -> list[float]:
    """Times at which a click begins."""
    loud = np.flatnonzero(np.abs(samples) > 0.4)
    return [float(at) / SAMPLE_RATE for at in loud[np.r_[True, np.diff(loud) > SAMPLE_RATE // 10]]] if len(loud) else []
