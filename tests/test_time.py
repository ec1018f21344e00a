"""Time is exact: frames, samples and seconds agree, and nothing drifts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.time import (
    FPS,
    FRAME,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Span,
    frame_at,
    frame_samples,
    frame_time,
    nearest_frame,
    sample_at,
    seconds,
)

times = st.fractions(min_value=-10, max_value=100_000, max_denominator=90_000)
frames = st.integers(min_value=0, max_value=10_000_000)


def test_the_two_rates_fit_each_other():
    assert SAMPLES_PER_FRAME * FPS == SAMPLE_RATE == 16_000


def test_a_float_is_read_as_written():
    assert seconds(9.2) == Fraction(46, 5)
    assert seconds("46/5") == seconds("9.2") == seconds(Fraction(46, 5))


@pytest.mark.parametrize("bad", ["", "soon", "1/0", float("nan"), float("inf"), "1:02"])
def test_what_is_not_a_time_is_refused(bad):
    with pytest.raises(ValueError, match="not a time"):
        seconds(bad)


@given(frames)
def test_frames_come_back_from_their_times(index):
    start = frame_time(index)
    assert frame_at(start) == nearest_frame(start) == index
    assert frame_at(start + FRAME - Fraction(1, 10**9)) == index
    assert sample_at(start) == frame_samples(index)


@given(times)
def test_the_nearest_frame_is_within_half_a_frame(time):
    assert abs(frame_time(nearest_frame(time)) - time) <= FRAME / 2


@given(times, times, times)
def test_spans_intersect_and_shift_exactly(a, b, by):
    one = Span(min(a, b), max(a, b))
    moved = one.shift(by)
    assert moved.duration == one.duration
    assert Span.from_json(one.to_json()) == one
    common = one.intersect(moved)
    if common is not None:
        assert common.duration > 0
        assert one.start <= common.start and common.end <= one.end
        assert common == moved.intersect(one)


@given(times, times, times)
def test_neighbouring_spans_share_out_every_frame_once(a, b, c):
    low, middle, high = sorted([a, b, c])
    whole, left, right = (Span(*ends).frames for ends in ((low, high), (low, middle), (middle, high)))
    assert (left.start, right.stop) == (whole.start, whole.stop)
    assert left.stop == right.start


def test_a_span_cannot_end_before_it_starts():
    with pytest.raises(ValueError, match="must not end before"):
        Span.of(2, 1)
    with pytest.raises(TypeError, match="Fraction"):
        Span(0.0, 1.0)  # type: ignore[arg-type]
