"""Small packed builds for tests of releases: who is seen and heard in which source is said by whoever makes one.

Pictures are made of a number: the same number is the same recording, another one looks different. Voices are real: stretches
of the telephone conversation that pyannote.audio carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dyconv.arrays import save_arrays
from dyconv.faces import pack_points
from dyconv.media.audio import read_audio, write_audio
from dyconv.media.video import VideoWriter
from dyconv.recipe import Recipe
from dyconv.records import PERSONS, Clip, Key, Person, Source, Track, Turn, child_id
from dyconv.release.build import Made, Options, make_release
from dyconv.shards import pack
from dyconv.store import Store
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME, Span

SIZE = 64
SPACE = "b" * 64
PACK = (Key.MIX, Key.SPEECH, *(Key.of(person, what) for person in PERSONS for what in ("voice", "face", "crop", "motion")))
HALVES = {"train": 0.5, "test": 0.5}
VOICES = {"ann": 10.6, "bob": 14.75, "bob later": 22.0}  # where in the conversation somebody speaks alone, seconds


@dataclass(frozen=True)
class Talk:
    """A source with one clip (or several): p0 is seen, p1 is heard.

    Attributes:
        picture: what p0 looks like; None where nobody is seen.
        voice: whose voice p1 has, of `VOICES`; None where nobody speaks.
        alone: there is one person only, who is seen and heard.
    """

    source: str
    picture: int | None
    voice: str | None = None
    mirrored: bool = False
    alone: bool = False
    channel: str | None = None
    licence: str | None = "CC-BY-4.0"
    language: str | None = "en"
    title: str | None = None
    frames: int = 80
    clips: int = 1
    crf: int = 18
    url: str | None = None
    partner_url: str | None = None


def make_build(root: str | Path, scratch: Path, talks: Sequence[Talk], *, per_shard: int = 2, recipe: str = "made") -> Store:
    """A packed build of some talks."""
    store = Store(root)
    scratch.mkdir(parents=True, exist_ok=True)
    clips = [_clip(store, scratch, talk, number) for talk in talks for number in range(talk.clips)]
    made = Recipe(name=recipe, about="", stages=(), pack=PACK, samples_per_shard=per_shard)
    pack(store, made, sorted(clips, key=lambda clip: clip.id))
    return store


def several(count: int, **more: object) -> list[Talk]:
    """Talks that share nothing."""
    return [Talk(f"talk{number}", 10 + number, **more) for number in range(count)]  # type: ignore[arg-type]


def rows(release: str | Path, table: str) -> list[dict]:
    return pq.read_table(f"{release}/tables/{table}.parquet").to_pylist()


def released(tmp_path: Path, talks: Sequence[Talk], version: str = "1.0.0", **options: object) -> Made:
    build = tmp_path / f"build{len(list(tmp_path.glob('build*')))}"
    make_build(build, tmp_path / "scratch", talks)
    chosen = Options(**{"voices": False, "ratios": HALVES, **options})  # type: ignore[arg-type]
    return make_release(Store(build), str(tmp_path / "out"), version, chosen)


def _clip(store: Store, scratch: Path, talk: Talk, number: int) -> Clip:
    span = Span.of_frames(number * talk.frames, (number + 1) * talk.frames)
    whole = Span.of_frames(0, talk.frames)
    talker = "p0" if talk.alone else "p1"
    names = PERSONS[:1] if talk.alone else PERSONS
    clip = Clip(
        id=child_id(talk.source, span),
        source=Source(
            id=talk.source,
            url=talk.url or f"https://example.org/{talk.source}.mp4",
            licence=talk.licence,
            title=talk.title,
            language=talk.language,
            channel=talk.channel,
            partner_url=talk.partner_url,
        ),
        span=span,
        parent=talk.source,
        shots=(whole,),
        layout="single" if talk.alone else "two-shot",
        tracks=() if talk.picture is None else (Track("t0", 0, 0, talk.frames, 40.0, 1.0, "i0", "p0"),),
        people=tuple(
            Person(name, f"i{name[1]}", name == "p0" and talk.picture is not None, name == talker and talk.voice is not None)
            for name in names
        ),
        turns=(Turn(talker, whole, 0.9, agreement=0.75),) if talk.voice else (),
        measures={"av_offset_s": 0.01, "motion.encoder": "made", "motion.hash": SPACE} if talk.picture is not None else {},
    )
    refs = {key: store.put(path, f"work/{path.name}") for key, path in _files(scratch, clip, talk, talker).items()}
    return replace(clip, assets=refs)


def _files(scratch: Path, clip: Clip, talk: Talk, talker: str) -> dict[Key, Path]:
    samples = _voice(talk.voice, talk.frames * SAMPLES_PER_FRAME)
    files = {key: scratch / f"{clip.id}.{key}" for key in (Key.MIX, Key.SPEECH)}
    write_audio(files[Key.MIX], samples)
    save_arrays(files[Key.SPEECH], {"vad": np.ones(talk.frames, np.float32)})
    for person in (one.id for one in clip.people):
        key = Key.of(person, "voice")
        files[key] = scratch / f"{clip.id}.{key}"
        write_audio(files[key], samples if person == talker else np.zeros_like(samples))
    if talk.picture is not None:
        files |= {key: scratch / f"{clip.id}.{key}" for key in (Key.P0_FACE, Key.P0_CROP, Key.P0_MOTION)}
        write_face(files[Key.P0_FACE], talk, int(clip.span.start * 25))
        present, points = np.ones(talk.frames, bool), np.zeros((talk.frames, 478, 3), np.float32)
        save_arrays(files[Key.P0_CROP], {"box": np.zeros(4, np.float32), "present": present, "landmarks": pack_points(points)})
        latents = np.full((talk.frames, 4), talk.picture, np.float32)
        save_arrays(files[Key.P0_MOTION], {"latents": latents, "present": present})
    return files


def write_face(path: Path, talk: Talk, start: int = 0) -> None:
    """A blurred pattern of the picture's number, in which something moves."""
    import cv2

    assert talk.picture is not None
    rng = np.random.default_rng(talk.picture)
    base = cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    with VideoWriter(path, SIZE, SIZE, crf=talk.crf) as writer:
        for frame in range(start, start + talk.frames):
            picture = base.copy()
            cv2.circle(picture, (20 + frame % 20, 40), 5, (250, 250, 250), -1)
            writer.write(np.ascontiguousarray(picture[:, ::-1]) if talk.mirrored else picture)


def _voice(voice: str | None, samples: int) -> np.ndarray:
    if voice is None:
        return np.zeros(samples, np.float32)
    start = int(VOICES[voice] * SAMPLE_RATE)
    return _conversation()[start : start + samples]


@cache
def _conversation() -> np.ndarray:
    found = find_spec("pyannote.audio")
    assert found is not None and found.origin is not None
    return read_audio(Path(found.origin).parent / "sample" / "sample.wav")
