"""Part `overhead`: the default chain against the decoding, models and encoding in it, done bare in plain loops.

The chain is the `demo` recipe with one worker in this process. A first run is recorded: every call of a model with its
arguments, every frame that is decoded. Bare means: PyAV decodes the same files with the same threads, the models get the same
calls, x264 gets as many pictures of the same size, soundfile as many samples; no runner, no stage, no store, no records.
Conversions of pixels that a decoder, model or encoder needs count as theirs. Both include loading the models.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from dyconv import recipes
from dyconv.media.audio import read_channels, write_audio
from dyconv.media.cuts import CutFinder
from dyconv.media.picture import Upright, display_size
from dyconv.media.source import open_source, probe
from dyconv.media.video import VideoWriter, frame_count
from dyconv.models import registry
from dyconv.records import PERSONS, Clip, Key
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.stages.crop import cut_picture, planes_of
from dyconv.store import Store
from tests.bench.chain import compose
from tests.bench.cost import Cost, spent
from tests.bench.recording import Seen, replay

WANTED = 1.15


def measure(folder: Path, *, repeats: int = 2) -> dict[str, Any]:
    """Seconds by stage of both, their ratio, and how often each file is decoded by which stage."""
    media = folder / "media"
    compose(media)
    recipe = recipes.load("demo")
    recipe = replace(recipe, stages=tuple(_local(stage) for stage in recipe.stages))
    manifest = folder / "overhead.csv"
    manifest.write_text(f"id,url,licence\ntalk,{(media / 'conversation.mp4').absolute().as_uri()},own\n")

    def chain(seen: Seen) -> Store:
        shutil.rmtree(folder / "overhead", ignore_errors=True)
        with seen.timed(recipe):
            run(recipe, manifest, str(folder / "overhead"), RunOptions("local", workers=0, pack=False))
        return Store(folder / "overhead")

    recorded = Seen()
    with recorded.recorded():
        store = chain(recorded)
    work = Bare(store, recorded)
    whole: list[Cost] = []
    bare: list[Cost] = []
    stages: list[dict[str, Cost]] = []
    parts: list[dict[str, Cost]] = []
    for _ in range(repeats):
        seen = Seen()
        with spent(whole):
            chain(seen)
        stages.append(seen.seconds)
        with spent(bare):
            parts.append(work.run())
    return {
        "media_s": work.seconds,
        "wanted_ratio": WANTED,
        **_against(whole, bare),
        "load": _row([part["load"] for part in parts], [part["load"] for part in parts]),
        "stages": {
            name: _row([stage[name] for stage in stages], [part.get(name, Cost(0.0, 0.0)) for part in parts])
            for name in stages[0]
        },
        "decoded": work.decoded(),
    }


def _local(stage: Any) -> Any:
    return replace(stage, allow_local=True) if hasattr(stage, "allow_local") else stage


def _against(chain: list[Cost], bare: list[Cost]) -> dict[str, float]:
    pairs = list(zip(chain, bare, strict=True))
    return {
        **_row(chain, bare),
        "ratio": round(median(own.wall / other.wall for own, other in pairs), 3),
        "cpu_ratio": round(median(own.cpu / other.cpu for own, other in pairs), 3),
    }


def _row(chain: list[Cost], bare: list[Cost]) -> dict[str, float]:
    return {
        "chain_s": round(median(cost.wall for cost in chain), 2),
        "bare_s": round(median(cost.wall for cost in bare), 2),
        "chain_cpu_s": round(median(cost.cpu for cost in chain), 2),
        "bare_cpu_s": round(median(cost.cpu for cost in bare), 2),
    }


class Bare:
    """The same work without us. `run` gives the seconds of each part, named as the stages."""

    def __init__(self, store: Store, seen: Seen) -> None:
        self.store, self.seen = store, seen
        (self.video,) = (
            store.local(path) for path in store.walk() if path.startswith("work/normalize/") and path.endswith(".mp4")
        )
        (self.media,) = (store.local(path) for path in store.walk() if path.startswith("work/download/") and ".media." in path)
        self.clips: list[Clip] = list(kept_clips(store))
        self.seconds = float(probe(self.media).duration)
        self.scratch = Path(store.root).parent / "bare"

    def run(self) -> dict[str, Cost]:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        models: dict[str, Any] = {}
        steps: dict[str, Callable[[], None]] = {
            "load": lambda: models.update({call.model: registry.load(call.model) for call in self._all()}),
            "scenes": self._scenes,
            "normalize": self._normalize,
            "clips": self._clips,
            "crop": self._crop,
        }
        for name in self.seen.calls:
            steps[name] = lambda name=name: replay(self.seen.calls[name], models, _rgb)  # type: ignore[misc]
        found: dict[str, Cost] = {}
        for name, step in steps.items():
            costs: list[Cost] = []
            with spent(costs):
                step()
            found[name] = costs[0]
        shutil.rmtree(self.scratch)
        return found

    def _all(self) -> list[Any]:
        """One call of each model."""
        return list({call.model: call for calls in self.seen.calls.values() for call in calls}.values())

    def _scenes(self) -> None:
        info = probe(self.media).video
        assert info is not None
        finder = CutFinder(display_size(info), info.frame)
        with open_source(self.media) as container:
            stream: Any = container.streams[info.index]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"skip_loop_filter": "noref"}
            for frame in container.decode(stream):
                finder.add(frame)
        finder.boundaries()

    def _normalize(self) -> None:
        info = probe(self.media).video
        assert info is not None
        stage = recipes.load("demo").stage("normalize").config()
        count, upright = frame_count(self.video), Upright(display_size(info, int(stage["max_height"])))
        pictures = _pictures(self.media)
        size = upright.size
        with VideoWriter(self.scratch / "v.mp4", *size, crf=int(stage["crf"]), preset=str(stage["preset"])) as writer:
            for index, picture in enumerate(pictures):
                if index < count:
                    writer.write(upright(picture))
        with av.open(str(self.media)) as container:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000)
            parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        write_audio(self.scratch / "mix.flac", np.concatenate(parts, axis=1))

    def _clips(self) -> None:
        """Nothing where a clip is whole shots; else the ends that have to be encoded. Sounds are read and written."""
        for clip in self.clips:
            for key in (Key.MIX, Key.CLEAN):
                write_audio(self.scratch / "part.flac", read_channels(self.store.local(clip.assets[key].path)))

    def _crop(self) -> None:
        crop = recipes.load("demo").stage("crop").config()
        for clip in self.clips:
            faces = [Key.of(person, "crop") for person in PERSONS if Key.of(person, "crop") in clip.assets]
            windows = [np.load(self.store.local(clip.assets[key].path))["box"] for key in faces]
            writers = [
                VideoWriter(self.scratch / f"{number}.mp4", crop["size"], crop["size"], crf=crop["crf"])
                for number in range(len(windows))
            ]
            video = next(
                path for path in self.store.walk() if path.startswith("work/clips/") and path.endswith(f"{clip.id}.video.mp4")
            )
            for picture in _pictures(self.store.local(video)):
                planes = planes_of(picture)
                for writer, window in zip(writers, windows, strict=True):
                    writer.write(cut_picture(planes, window, crop["size"]))
            for writer in writers:
                writer.__exit__(None, None, None)

    def decoded(self) -> list[dict[str, Any]]:
        """Frames decoded by each stage of each file, against the frames it has."""
        sizes = {
            path.rpartition("/")[2]: frame_count(self.store.local(path)) for path in self.store.walk() if path.endswith(".mp4")
        }
        out = []
        for (stage, name), count in self.seen.decoded.items():
            frames = sizes.get(name)
            kind = name.partition(".")[2] or name
            out.append({"stage": stage, "file": kind, "frames": frames, "decoded": count})
        return out


def _pictures(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


def _rgb(path: Path) -> Iterator[np.ndarray]:
    import cv2

    for picture in _pictures(path):
        yield np.asarray(cv2.cvtColor(picture.to_ndarray(format="yuv420p"), cv2.COLOR_YUV2RGB_I420))
