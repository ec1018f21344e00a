"""Normalize: sound and picture stay together whatever the source's clock; named drops; the same bytes again."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.media.audio import read_audio
from dyconv.media.video import frame_count, frame_size, keyframes, read_frames
from dyconv.records import Clip, Drop, DropReason, Key, Source
from dyconv.stages.normalize import Normalize, quantized
from dyconv.stages.scenes import TRANSITIONS, Scenes
from dyconv.time import FRAME, SAMPLE_RATE, SAMPLES_PER_FRAME, Span
from tests.mediagen import Bench, Made, make_media, times_cfr, times_vfr

CUTS = (1.1, 2.3)
EVENTS = (0.5, 1.6, 2.8)


def normalized(bench: Bench, media: Path, scenes: Scenes | None = None, **fields) -> list[Clip]:
    segments = bench.kept(scenes or Scenes(), bench.source(media))
    return [clip for segment in segments for clip in bench.kept(Normalize(**fields), segment)]


def seen(video: Path) -> list[float]:
    """When the white square lights up, seconds."""
    lit = [bool((frame[frame.shape[0] // 2, frame.shape[1] // 2] > 225).all()) for frame in read_frames(video)]
    return [index / 25 for index in range(1, len(lit)) if lit[index] and not lit[index - 1]]


def heard(mix: Path) -> list[float]:
    loud = np.flatnonzero(np.abs(read_audio(mix)) > 0.4)
    return [float(at) / SAMPLE_RATE for at in loud[np.r_[True, np.diff(loud) > SAMPLE_RATE // 5]]]


ODD = {
    "plain": ("a.mp4", {}),
    "29.97 fps, 44.1 kHz": ("a.mp4", {"times": times_cfr(3.6, Fraction(30000, 1001))}),
    "60 fps, 48 kHz": ("a.mp4", {"times": times_cfr(3.6, 60), "audio_rate": 48000}),
    "12 fps": ("a.mp4", {"times": times_cfr(3.6, 12)}),
    "variable rate": ("a.mp4", {"times": times_vfr(3.6, seed=7)}),
    "variable rate, mkv, late start": ("a.mkv", {"times": times_vfr(3.6, seed=8), "start": 1.4}),
    "transport stream": ("a.ts", {"start": 7.0}),
    "webm, opus": ("a.webm", {"video": "libvpx-vp9", "audio": "libopus", "audio_rate": 48000}),
    "sound starts late": ("a.mp4", {"audio_start": 0.3}),
    "turned by 90": ("a.mp4", {"rotation": 90}),
    "turned by 180": ("a.mp4", {"rotation": 180}),
    "turned by 270": ("a.mp4", {"rotation": -90}),
    "wide pixels": ("a.mp4", {"sar": Fraction(4, 3)}),
    "odd size": ("a.mp4", {"size": (321, 181)}),
}


@pytest.mark.parametrize("odd", sorted(ODD))
def test_events_are_seen_and_heard_where_they_were(tmp_path: Path, odd: str) -> None:
    name, more = ODD[odd]
    made = make_media(tmp_path / name, duration=3.6, cuts=CUTS, events=EVENTS, **more)
    bench = Bench(tmp_path)
    (clip,) = normalized(bench, made.path)
    video, mix = bench.path(clip, Key.VIDEO), bench.path(clip, Key.MIX)
    assert frame_count(video) == clip.frames and len(read_audio(mix)) == SAMPLES_PER_FRAME * clip.frames
    begin = float(clip.span.start)
    half = float(FRAME) / 2 + 0.002
    assert seen(video) == pytest.approx([time - begin for time in made.shown], abs=half)
    assert heard(mix) == pytest.approx([time - begin for time in made.events], abs=0.004)
    assert [float(shot.start) for shot in clip.shots[1:]] == pytest.approx([cut - begin for cut in made.cuts], abs=half)
    assert {shot.frames.start for shot in clip.shots} <= set(keyframes(video))
    offset = clip.measures["av_offset_s"]
    assert isinstance(offset, float) and abs(offset) <= 0.02


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({"rotation": 90}, (180, 320)),
        ({"sar": Fraction(4, 3)}, (426, 180)),
        ({"size": (321, 181)}, (320, 180)),
        ({"size": (640, 360)}, (320, 180)),
    ],
)
def test_what_is_written_is_plain(tmp_path: Path, more: dict, size: tuple[int, int]) -> None:
    made = make_media(tmp_path / "a.mp4", duration=0.8, **more)
    bench = Bench(tmp_path)
    (clip,) = normalized(bench, made.path, max_height=180)
    video = bench.path(clip, Key.VIDEO)
    assert frame_size(video) == size
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio in (None, 1) and not container.streams.audio
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert times == [index * FRAME for index in range(clip.frames)]
    assert next(iter(read_frames(video))).shape == (size[1], size[0], 3)


def test_a_later_segment_is_as_exact_as_the_first(tmp_path: Path) -> None:
    times = times_vfr(9.0, seed=4)
    made = make_media(tmp_path / "a.mp4", times=times, duration=9.0, size=(160, 90), cuts=(4.0, 7.0), events=(5.0, 6.2, 8.0))
    bench = Bench(tmp_path)
    clips = normalized(bench, made.path, Scenes(max_segment_s=4.5))
    assert len(clips) == 3
    for clip in clips[1:]:
        begin, end = float(clip.span.start), float(clip.span.end)
        inside = [index for index, event in enumerate(made.events) if begin <= event < end]
        shown = [made.shown[index] - begin for index in inside]
        assert seen(bench.path(clip, Key.VIDEO)) == pytest.approx(shown, abs=0.022)
        assert heard(bench.path(clip, Key.MIX)) == pytest.approx([made.events[index] - begin for index in inside], abs=0.004)


def test_nothing_drifts_over_a_minute(tmp_path: Path) -> None:
    events = (1.0, 30.0, 58.0)
    times = times_cfr(60.0, Fraction(30000, 1001))
    made = make_media(tmp_path / "a.mp4", times=times, duration=60.0, size=(64, 48), events=events)
    bench = Bench(tmp_path)
    (clip,) = normalized(bench, made.path)
    assert seen(bench.path(clip, Key.VIDEO)) == pytest.approx(made.shown, abs=0.022)
    assert heard(bench.path(clip, Key.MIX)) == pytest.approx(events, abs=0.004)


def test_a_still_picture_has_no_measured_offset(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=2.4, move=False)
    bench = Bench(tmp_path)
    (clip,) = normalized(bench, made.path)
    assert clip.measures["av_offset_s"] is None


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", times=times_vfr(2.0), duration=2.0, cuts=(1.1,), rotation=90)
    clips = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        clips += normalized(Bench(tmp_path / name), made.path)
    assert clips[0].assets[Key.VIDEO].sha256 == clips[1].assets[Key.VIDEO].sha256
    assert clips[0].assets[Key.MIX].sha256 == clips[1].assets[Key.MIX].sha256
    assert clips[0].measures == clips[1].measures and clips[0].span == clips[1].span


def drop_of(tmp_path: Path, made: Made, **fields) -> Drop:
    bench = Bench(tmp_path)
    (segment,) = bench.kept(Scenes(), bench.source(made.path))
    (output,) = bench.run(Normalize(**fields), segment)
    assert isinstance(output, Drop) and output.detail
    return output


def test_no_sound_track(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=1.0, size=(64, 48), audio=None)
    assert drop_of(tmp_path, made).reason is DropReason.NO_AUDIO


def test_silence(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=1.0, size=(64, 48), silent=True)
    assert drop_of(tmp_path, made).reason is DropReason.SILENT


def test_sound_for_a_part_only(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=4.0, size=(64, 48), audio_start=2.5)
    assert drop_of(tmp_path, made).reason is DropReason.TRUNCATED


def test_sound_declared_far_from_the_pictures(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=4.0, size=(64, 48), audio_start=2.5)
    assert drop_of(tmp_path, made, max_start_gap_s=2.0).reason is DropReason.OUT_OF_SYNC


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=8),
    st.sets(st.integers(0, 7), max_size=3),
    st.fractions(0, 100, max_denominator=90000),
)
def test_quantized_shots_cover_the_clip_and_move_by_half_a_frame(lengths: list[int], marked: set[int], start: Fraction) -> None:
    edges = [Fraction(sum(lengths[:index]), 1000) for index in range(len(lengths) + 1)]
    shots = tuple(Span(edges[index], edges[index + 1]) for index in range(len(lengths)))
    frames = max(1, int((edges[-1] + FRAME / 2) // FRAME))
    transitions = ",".join(str(index) for index in sorted(marked) if index < len(shots))
    source = Source(id="a", url="https://example.org/v")
    clip = Clip(id="a", source=source, span=Span(start, start + edges[-1]), shots=shots, measures={TRANSITIONS: transitions})
    out = quantized(clip, frames)
    assert out.frames == frames and out.span.start == start
    assert [frame for shot in out.shots for frame in shot.frames] == list(range(frames))
    assert all(min(abs(shot.start - edge) for edge in edges) <= FRAME / 2 for shot in out.shots)
    kept = [index for index in str(out.measures.get(TRANSITIONS, "")).split(",") if index]
    assert all(int(index) < len(out.shots) for index in kept) and len(kept) <= len(marked)
    assert replace(out, measures={}) == replace(quantized(out, frames), measures={})
