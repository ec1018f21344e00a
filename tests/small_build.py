"""A small finished build made by hand-written stages, for tests of what reads builds."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from dyconv.arrays import save_arrays
from dyconv.faces import FaceArrays, save_faces
from dyconv.media.audio import write_audio
from dyconv.media.video import VideoWriter
from dyconv.recipe import Recipe
from dyconv.records import Clip, Drop, DropReason, Key, Person, Source, Track, Turn
from dyconv.runner import RunOptions, run
from dyconv.stages.base import Files, Stage
from dyconv.store import Store
from dyconv.time import SAMPLES_PER_FRAME, Span

FRAMES = 50
SIZE = (192, 108)
NASTY = "<script>alert('x')</script> $\\frac{1}{2}$ & \"co\""


def face_points(centre: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """A crude face, float32 [478, 3]: eye corners, nose, chin, forehead and lips where the mesh has them."""
    points = np.tile(np.array([*centre, 0.0]), (478, 1))
    for index, dx, dy in ((33, -10, -6), (263, 10, -6), (1, turn, 0), (10, 0, -18), (152, 0, 18), (13, 0, 6), (14, 0, 9)):
        points[index, :2] = centre + np.array([dx, dy])
    return points.astype(np.float32)


@dataclass(frozen=True)
class Fetch(Stage):
    name: ClassVar[str] = "download"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if clip.id.startswith("gone"):
            yield Drop(clip, DropReason.UNAVAILABLE, "expected a video, found HTTP 404")
            return
        if clip.id.startswith("broken"):
            raise RuntimeError("<img src='http://evil.example/x.png' onerror=alert(1)> is no face")
        path = files.new(clip, Key.MEDIA, ".mp4")
        write_video(path, 2 * FRAMES)
        yield replace(files.add(clip, (Key.MEDIA, path)), span=Span.of_frames(0, 2 * FRAMES))


@dataclass(frozen=True)
class Scenes(Stage):
    name: ClassVar[str] = "scenes"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    splits: ClassVar[bool] = True

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        for start in (0, FRAMES):
            child = clip.child(Span.of_frames(start, start + FRAMES), shots=(Span.of_frames(0, 20), Span.of_frames(20, FRAMES)))
            yield replace(child, assets=dict(clip.assets))


@dataclass(frozen=True)
class Normalize(Stage):
    name: ClassVar[str] = "normalize"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        video, mix = files.new(clip, Key.VIDEO), files.new(clip, Key.MIX)
        write_video(video, FRAMES)
        write_audio(mix, 0.3 * np.sin(np.arange(FRAMES * SAMPLES_PER_FRAME) / 20).astype(np.float32))
        yield files.add(clip, (Key.VIDEO, video), (Key.MIX, mix)).measured(av_offset_s=0.01)


@dataclass(frozen=True)
class People(Stage):
    drop_later: bool = True
    name: ClassVar[str] = "people"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.FACES, Key.SPEECH})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if self.drop_later and clip.span.start > 0:
            yield Drop(clip, DropReason.NOT_DYADIC, f"expected two people, found 3 in {NASTY}")
            return
        faces, speech = files.new(clip, Key.FACES), files.new(clip, Key.SPEECH)
        tracks = {}
        for number, x in enumerate((60, 130)):
            points = np.stack([face_points(np.array([x, 50.0]), number * 4.0) for _ in range(FRAMES)])
            boxes = np.tile(np.float32([x - 20, 30, x + 20, 70]), (FRAMES, 1))
            tracks[f"t{number}"] = FaceArrays(np.arange(FRAMES), boxes, np.ones(FRAMES), points)
        save_faces(faces, tracks)
        save_arrays(speech, {name: np.linspace(0, 1, FRAMES, dtype=np.float32) for name in ("vad", "p0", "p1", "unsure")})
        known = replace(
            clip,
            layout="two-shot",
            tracks=tuple(Track(f"t{n}", 0, 0, FRAMES, 40.0, 1.0, f"i{n}", f"p{n}") for n in range(2)),
            people=tuple(Person(f"p{n}", f"i{n}", True, True) for n in range(2)),
            turns=(
                Turn("p0", Span.of_frames(0, 25), 0.9),
                Turn("p1", Span.of_frames(20, 40), 0.5),
                Turn(None, Span.of_frames(40, 50), 0.2, unsure=True),
            ),
        )
        yield files.add(known, (Key.FACES, faces), (Key.SPEECH, speech))


RECIPE = Recipe(
    "small", "A tiny recipe with <b>markup</b>.", (Fetch(), Scenes(), Normalize(), People()), pack=(Key.VIDEO, Key.MIX)
)


def write_video(path: Path, frames: int) -> None:
    with VideoWriter(path, *SIZE) as writer:
        for number in range(frames):
            picture = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
            picture[30:70, 40 : 80 + number % 8] = (200, 160, 120)
            writer.write(picture)


def sources() -> list[Source]:
    return [
        Source("talk", "http://127.0.0.1/talk.mp4", "CC-BY-4.0", NASTY),
        Source("other", "http://127.0.0.1/other.mp4", "own", "A plain title"),
        Source("gone", "http://127.0.0.1/gone.mp4", "CC-BY-4.0"),
        Source("broken", "http://127.0.0.1/broken.mp4", None),
    ]


def small_build(root: Path, recipe: Recipe = RECIPE, *, pack: bool = False) -> Store:
    """Run the stages over `sources` in this process."""
    root.mkdir(parents=True, exist_ok=True)
    manifest = root.parent / f"{root.name}.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("id", "url", "licence", "title"))
        writer.writeheader()
        writer.writerows(source.to_json() for source in sources())
    run(recipe, manifest, str(root), RunOptions(backend="local", workers=0, pack=pack))
    return Store(root)
