"""Clips: exact cuts of every asset, everything on the clip's own clock, and drops by name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.arrays import load_arrays, save_arrays
from dyconv.faces import POINTS, FaceArrays, load_faces, save_faces
from dyconv.media.audio import read_audio, write_audio
from dyconv.media.video import VideoWriter, frame_count, read_frames
from dyconv.records import Clip, Drop, DropReason, Key, Person, Ref, Source, Track, Turn
from dyconv.stages.clips import Clips, parts
from dyconv.stages.scenes import TRANSITIONS
from dyconv.store import sha256_of
from dyconv.time import FPS, Span, frame_samples
from tests.mediagen import Bench, draw, shot_picture

FRAMES = 100
SHOTS = (Span.of_frames(0, 30), Span.of_frames(30, 36), Span.of_frames(36, FRAMES))


def faces_of(start: int, end: int, width: float) -> FaceArrays:
    """A face in every frame but each fifth, `width` px wide."""
    frames = np.array([frame for frame in range(start, end) if frame % 5], np.int32)
    boxes = np.tile(np.array([10, 10, 10 + width, 60], np.float32), (len(frames), 1))
    points = np.repeat(frames[:, None, None].astype(np.float32), POINTS, axis=1).repeat(3, axis=2)
    return FaceArrays(frames, boxes, np.ones(len(frames), np.float32), points)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def segment(bench: Bench) -> Clip:
    """Two people in the first shot, a transition, one person in the last; `a` speaks in both."""
    folder = bench.folder / "made"
    folder.mkdir()
    files = {key: folder / f"seg.{key}" for key in (Key.VIDEO, Key.MIX, Key.FACES, Key.SPEECH)}
    with VideoWriter(files[Key.VIDEO], 160, 90, keyframes=[shot.frames.start for shot in SHOTS]) as writer:
        for frame in range(FRAMES):
            shot = next(index for index, span in enumerate(SHOTS) if frame in span.frames)
            writer.write(draw(shot_picture(shot, 160, 90), frame / FPS, lit=False))
    write_audio(files[Key.MIX], np.random.default_rng(0).normal(0, 0.1, frame_samples(FRAMES)).astype(np.float32))
    save_faces(files[Key.FACES], {"a": faces_of(0, 30, 80), "b": faces_of(0, 30, 70), "c": faces_of(40, FRAMES, 90)})
    ramp = np.arange(FRAMES, dtype=np.float32)
    save_arrays(files[Key.SPEECH], {"vad": ramp / FRAMES, "p0": ramp, "p1": -ramp, "unsure": ramp * 0})
    refs = {}
    for key, path in files.items():
        ref = Ref(f"seg/{path.name}", sha256_of(path), path.stat().st_size)
        refs[key] = bench.store.put(path, ref.path)
    return Clip(
        id="src_1",
        source=Source(id="src", url="https://example.org/v"),
        span=Span(Fraction(7, 5), Fraction(7, 5) + FRAMES * Fraction(1, 25)),
        shots=SHOTS,
        layout="alternating",
        tracks=(
            Track("a", 0, 0, 30, 80.0, 0.8, identity="x", person="p0"),
            Track("b", 0, 0, 30, 70.0, 0.8, identity="y", person="p1"),
            Track("c", 2, 40, FRAMES, 90.0, 0.8, identity="x", person="p0"),
        ),
        people=(Person("p0", "x", True, True), Person("p1", "y", True, True)),
        turns=(
            Turn("p0", Span.of("0.4", "1.0"), 0.9),
            Turn("p1", Span.of("1.1", "1.8"), 0.8),
            Turn(None, Span.of(3, 4), 0.5, True),
        ),
        measures={TRANSITIONS: "1", "av_offset_s": 0.01},
        assets=refs,
    )


def test_clips_are_exact_parts_of_the_segment(bench: Bench, segment: Clip) -> None:
    first, transition, last = bench.run(Clips(min_clip_s=1.0, people_seen=(1, 2)), segment)
    assert isinstance(first, Clip) and isinstance(last, Clip)
    assert isinstance(transition, Drop) and transition.reason is DropReason.TOO_SHORT
    assert (first.frames, last.frames) == (30, 64)
    assert first.span == Span.of("1.4", "2.6") and last.span == Span.of("2.84", "5.4")
    assert last.parent == segment.id and first.shots == (Span.of_frames(0, 30),)
    for clip, start, stop in ((first, 0, 30), (last, 36, FRAMES)):
        video, mix = bench.path(clip, Key.VIDEO), bench.path(clip, Key.MIX)
        whole = bench.path(segment, Key.VIDEO)
        assert frame_count(video) == stop - start
        assert all((a == b).all() for a, b in zip(read_frames(video), read_frames(whole, start, stop), strict=True))
        assert (read_audio(mix) == read_audio(bench.path(segment, Key.MIX))[frame_samples(start) : frame_samples(stop)]).all()
        speech = load_arrays(bench.path(clip, Key.SPEECH))
        assert set(speech) == {"vad", "p0", "p1", "unsure"} and (speech["p0"] == np.arange(start, stop)).all()


def test_what_is_known_moves_to_the_clips_clock(bench: Bench, segment: Clip) -> None:
    first, _, last = bench.run(Clips(min_clip_s=1.0, people_seen=(1, 2)), segment)
    assert isinstance(first, Clip) and isinstance(last, Clip)
    assert [(track.id, track.shot, track.start, track.end) for track in first.tracks] == [("a", 0, 0, 30), ("b", 0, 0, 30)]
    assert [(track.id, track.shot, track.start, track.end) for track in last.tracks] == [("c", 0, 4, 64)]
    assert last.tracks[0].width == 90.0 and last.tracks[0].coverage == 0.8
    faces = load_faces(bench.path(last, Key.FACES))
    assert set(faces) == {"c"} and faces["c"].frames[0] == 5 and faces["c"].frames[-1] == 63
    assert (faces["c"].landmarks[0] == 41).all()  # made as its frame's number in the segment
    assert [(turn.person, turn.span) for turn in first.turns] == [("p0", Span.of("0.4", "1")), ("p1", Span.of("1.1", "1.2"))]
    assert [(turn.person, turn.span) for turn in last.turns] == [("p1", Span.of("0", "0.36")), (None, Span.of("1.56", "2.56"))]
    assert [(person.id, person.seen, person.heard) for person in first.people] == [("p0", True, True), ("p1", True, True)]
    assert [(person.id, person.seen, person.heard) for person in last.people] == [("p0", True, False), ("p1", False, True)]
    assert (first.layout, last.layout) == ("two-shot", "single")
    assert dict(first.measures) == {"av_offset_s": 0.01}


def reasons(bench: Bench, segment: Clip, **fields) -> list[str]:
    outputs = bench.run(Clips(**{"min_clip_s": 1.0, **fields}), segment)
    return [output.reason.value if isinstance(output, Drop) else "kept" for output in outputs]


def test_drops_have_their_reason(bench: Bench, segment: Clip) -> None:
    assert reasons(bench, segment, people_seen=(1, 2)) == ["kept", "TOO_SHORT", "kept"]
    assert reasons(bench, segment, people_seen=(2,)) == ["kept", "TOO_SHORT", "FACES_NOT_TWO"]
    assert reasons(bench, segment, people_seen=(1, 2), min_face_px=75) == ["FACE_TOO_SMALL", "TOO_SHORT", "kept"]
    assert reasons(bench, segment, people_seen=(1, 2), min_clip_s=2.0) == ["TOO_SHORT", "TOO_SHORT", "kept"]
    assert reasons(bench, segment, people_seen=(2,), min_coverage=0.9) == ["FACES_NOT_TWO", "TOO_SHORT", "FACES_NOT_TWO"]
    quiet = replace(segment, turns=segment.turns[2:])
    assert reasons(bench, quiet, people_seen=(1, 2)) == ["NOT_DYADIC", "TOO_SHORT", "NOT_DYADIC"]
    assert reasons(bench, segment, people_seen=()) == ["kept", "TOO_SHORT", "kept"]


def test_without_faces_and_speech_clips_are_cut_all_the_same(bench: Bench, segment: Clip) -> None:
    plain = replace(
        segment,
        tracks=(),
        people=(),
        turns=(),
        layout=None,
        assets={key: ref for key, ref in segment.assets.items() if key in (Key.VIDEO, Key.MIX)},
    )
    outputs = bench.run(Clips(min_clip_s=1.0, people_seen=()), plain)
    kept = [output for output in outputs if isinstance(output, Clip)]
    assert [clip.frames for clip in kept] == [30, 64] and all(set(clip.assets) == {Key.VIDEO, Key.MIX} for clip in kept)
    assert reasons(bench, plain, people_seen=(1, 2)) == ["FACES_NOT_TWO", "TOO_SHORT", "FACES_NOT_TWO"]


def test_a_part_of_a_shot_is_encoded_again_frame_by_frame(bench: Bench, segment: Clip) -> None:
    outputs = bench.run(Clips(min_clip_s=0.2, max_clip_s=1.0, people_seen=()), segment)
    kept = [output for output in outputs if isinstance(output, Clip)]
    assert sum(clip.frames for clip in kept) == FRAMES - 6 and all(clip.frames <= 25 for clip in kept)
    whole = list(read_frames(bench.path(segment, Key.VIDEO)))
    for clip in kept:
        start = round((clip.span.start - segment.span.start) * FPS)
        for index, frame in enumerate(read_frames(bench.path(clip, Key.VIDEO))):
            assert np.abs(frame.astype(int) - whole[start + index]).mean() < 4
    again = bench.run(Clips(min_clip_s=0.2, max_clip_s=1.0, people_seen=()), segment)
    digests = [[ref.sha256 for ref in output.assets.values()] for output in again if isinstance(output, Clip)]
    assert digests == [[ref.sha256 for ref in clip.assets.values()] for clip in kept]


def long_shot(frames: int) -> Clip:
    return Clip(
        id="a",
        source=Source(id="a", url="https://example.org/v"),
        span=Span.of_frames(0, frames),
        shots=(Span.of_frames(0, frames),),
    )


def test_a_long_shot_is_split_in_a_pause(bench: Bench) -> None:
    vad = np.ones(300, np.float32)
    vad[130:142] = 0.0  # the only pause before the limit of 150
    split = list(parts(long_shot(300), 150, vad))
    assert 132 <= split[0].stop <= 140 and len(split) == 3
    near = [part.stop for part in parts(long_shot(1000), 260, (np.arange(1000) % 50 > 4).astype(np.float32))]
    assert near[-1] == 1000 and all(stop % 50 in (2, 3) for stop in near[:-1]) and len(near) <= 5
    assert [(part.start, part.stop) for part in parts(long_shot(300), 200, None)] == [(0, 150), (150, 300)]


@given(st.integers(1, 4000), st.integers(30, 900), st.integers(0, 2**32 - 1))
def test_parts_cover_a_shot_and_are_short_enough(frames: int, longest: int, seed: int) -> None:
    vad = np.random.default_rng(seed).random(frames).astype(np.float32)
    for speech in (None, vad):
        found = list(parts(long_shot(frames), longest, speech))
        assert [frame for part in found for frame in range(part.start, part.stop)] == list(range(frames))
        assert all(0 < part.frames <= longest for part in found)
        assert len(found) == 1 or min(part.frames for part in found) >= min(frames, longest) // 4
