"""Scenes: cuts by presentation time, transitions, segments, and what becomes of bad files."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.stages.scenes import TRANSITIONS, Scenes, Shot, grouped
from dyconv.time import Span
from tests.mediagen import Bench, Made, flip_bits, make_media, times_cfr, times_vfr, truncate

CUTS = (1.1, 2.3)


def cuts_found(segments: list[Clip]) -> list[float]:
    """Starts of shots but the first, on the source's clock."""
    starts = [float(shot.start + segment.span.start) for segment in segments for shot in segment.shots]
    return starts[1:]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"times": times_cfr(3.2, Fraction(30000, 1001))}),
        ("a.mp4", {"times": times_cfr(3.2, 50)}),
        ("a.mp4", {"times": times_vfr(3.2, seed=1)}),
        ("a.mp4", {"times": times_vfr(3.2, seed=2), "start": 1.4}),
        ("a.mkv", {"times": times_vfr(3.2, seed=3)}),
        ("a.ts", {"start": 5.0}),
        ("a.webm", {"video": "libvpx-vp9", "audio": "libopus", "audio_rate": 48000}),
        ("a.mp4", {"rotation": 90}),
        ("a.mp4", {"size": (321, 181), "sar": Fraction(4, 3)}),
    ],
)
def test_cuts_are_the_first_frames_after_them(tmp_path: Path, name: str, more: dict) -> None:
    made = make_media(tmp_path / name, duration=3.2, cuts=CUTS, **more)
    bench = Bench(tmp_path)
    segments = bench.kept(Scenes(), bench.source(made.path))
    assert cuts_found(segments) == pytest.approx(made.cuts, abs=0.0011)  # Matroska keeps milliseconds
    assert float(segments[0].span.start) == pytest.approx(made.start, abs=0.001)
    assert float(segments[-1].span.duration) == pytest.approx(3.2, abs=0.11)
    assert set(segments[0].assets) == {Key.MEDIA} and TRANSITIONS not in segments[0].measures


def test_flashes_and_moving_things_are_no_cuts(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=3.2, camera_flashes=(0.8, 2.0, 2.2), events=(0.4, 1.6))
    bench = Bench(tmp_path)
    (segment,) = bench.kept(Scenes(), bench.source(made.path))
    assert len(segment.shots) == 1


@pytest.mark.parametrize(("begin", "end"), [(1.2, 1.4), (1.2, 1.8), (1.0, 2.2)])
def test_a_dissolve_is_a_stretch_of_its_own(tmp_path: Path, begin: float, end: float) -> None:
    made = make_media(tmp_path / "a.mp4", duration=4.0, dissolves=((begin, end),), cuts=(3.0,))
    bench = Bench(tmp_path)
    (segment,) = bench.kept(Scenes(), bench.source(made.path))
    index = int(str(segment.measures[TRANSITIONS]))
    found = segment.shots[index]
    assert begin - 0.25 <= float(found.start) <= begin + 0.08  # nothing of it inside a shot, and little lost
    assert end - 0.08 <= float(found.end) <= end + 0.25
    assert len(segment.shots) == 4 and float(segment.shots[3].start) == pytest.approx(3.0)


def test_a_long_source_becomes_segments_of_whole_shots(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=6.0, size=(160, 90), cuts=(1.2, 2.4, 3.0))
    bench = Bench(tmp_path)
    segments = bench.kept(Scenes(max_segment_s=2.5), bench.source(made.path))
    spans = [(float(segment.span.start), float(segment.span.end)) for segment in segments]
    assert spans == [(0.0, 2.4), (2.4, 4.5), (4.5, 6.0)]  # the last shot is too long and was halved
    assert [len(segment.shots) for segment in segments] == [2, 2, 1]
    assert len({segment.id for segment in segments}) == 3
    assert bench.run(Scenes(max_segment_s=2.5), bench.source(made.path)) == segments


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=12), st.integers(40, 3000))
def test_grouping_keeps_every_moment_once(lengths: list[int], longest: int) -> None:
    edges = [Fraction(sum(lengths[:index]), 100) for index in range(len(lengths) + 1)]
    shots = tuple(Shot(Span(a, b), False) for a, b in pairwise(edges))
    runs = list(grouped(shots, Fraction(longest, 100)))
    flat = [shot.span for run in runs for shot in run]
    assert flat[0].start == 0 and flat[-1].end == edges[-1]
    assert all(a.end == b.start for a, b in pairwise(flat))
    assert all(run[-1].span.end - run[0].span.start <= Fraction(longest, 100) for run in runs)
    assert set(edges) <= {span.start for span in flat} | {edges[-1]}


def drops(bench: Bench, media: Path, **more) -> list[Drop]:
    outputs = bench.run(Scenes(**more), bench.source(media))
    return [output for output in outputs if isinstance(output, Drop)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A clip whose index stands in front, so that a truncated copy still opens."""
    path = tmp_path_factory.mktemp("scenes") / "good.mp4"
    return make_media(path, duration=3.0, options={"movflags": "+faststart"})


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_hardly_anything_there(tmp_path: Path, good: Made, share: float) -> None:
    (drop,) = drops(Bench(tmp_path), truncate(good.path, tmp_path / "cut.mp4", share))
    assert drop.reason is DropReason.UNREADABLE and drop.detail  # not even the index is whole


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_truncated_file_is_dropped_as_such(tmp_path: Path, good: Made, share: float) -> None:
    (drop,) = drops(Bench(tmp_path), truncate(good.path, tmp_path / "cut.mp4", share))
    assert drop.reason is DropReason.TRUNCATED


def test_without_an_index_it_is_unreadable(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=1.0, size=(64, 48))
    (drop,) = drops(Bench(tmp_path), truncate(made.path, tmp_path / "cut.mp4", 0.9))
    assert drop.reason is DropReason.UNREADABLE


def test_sound_alone_has_no_video(tmp_path: Path) -> None:
    (drop,) = drops(Bench(tmp_path), make_media(tmp_path / "a.m4a", duration=1.0, video=None).path)
    assert drop.reason is DropReason.NO_VIDEO


def test_too_short(tmp_path: Path) -> None:
    (drop,) = drops(Bench(tmp_path), make_media(tmp_path / "a.mp4", duration=0.2, size=(64, 48)).path)
    assert drop.reason is DropReason.TOO_SHORT


def test_a_badly_damaged_stream_is_unreadable(tmp_path: Path, good: Made) -> None:
    (drop,) = drops(Bench(tmp_path), flip_bits(good.path, tmp_path / "bad.mp4", 400))
    assert drop.reason in (DropReason.UNREADABLE, DropReason.TRUNCATED)


def test_a_little_damage_is_noted_and_kept(tmp_path: Path, good: Made) -> None:
    bench = Bench(tmp_path)
    damaged = flip_bits(good.path, tmp_path / "bad.mp4", 1, seed=3, between=(0.6, 0.7))
    kept = bench.kept(Scenes(max_damaged=0.9), bench.source(damaged))
    assert kept[0].measures["damaged_frames"] >= 1


KNOWN = {
    "csci-576-videoquery__interview.mp4": (4.2, 6.77, 11.53, 18.97),
    "gestsync__asd_sample_2.mp4": (2.07,),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_cuts_of_real_footage(tmp_path: Path, real_data: Path, name: str) -> None:
    copy = tmp_path / name
    shutil.copyfile(real_data / "conversations" / name, copy)
    bench = Bench(tmp_path)
    assert cuts_found(bench.kept(Scenes(), bench.source(copy))) == pytest.approx(KNOWN[name], abs=0.02)
