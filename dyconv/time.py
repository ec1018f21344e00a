"""Time as a type: exact rational seconds, and the two rates of everything after `normalize`.

Sources have variable frame rates, rotated pictures and start times other than zero. Their times are presentation
timestamps, kept as `Fraction` seconds. After `normalize` there is one clock: 25 frames and 16,000 samples a second,
which is exactly 640 samples a frame. Both rates are written here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
FRAME = Fraction(1, FPS)
LONGEST_S = 10**10  # seconds; what is read from a file and is further from zero is no time
_LONGEST_TEXT = 200
_HUGE_POWER = re.compile(r"[eE][+-]?[0-9_]{4}")


def seconds(value: int | float | str | Fraction) -> Fraction:
    """Exact seconds from a number or from text such as `"9.2"` or `"46/5"`.

    A float is read as its shortest decimal form (`9.2` is 46/5, not the binary neighbour of it).

    Raises:
        ValueError: if the value is not a finite number, or is written with more digits than any time has.
    """
    if isinstance(value, float):
        value = repr(value)
    if isinstance(value, str) and (len(value) > _LONGEST_TEXT or _HUGE_POWER.search(value)):  # 1e999999999 has a billion digits
        raise ValueError(f"not a time in seconds: {value[:40]!r}")
    try:
        return Fraction(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"not a time in seconds: {str(value)[:40]!r}") from error


def frame_at(time: Fraction) -> int:
    """Index of the 25 fps frame that is on screen at `time` (seconds, clip clock)."""
    return int(time // FRAME)


def nearest_frame(time: Fraction) -> int:
    """Index of the 25 fps frame whose start is nearest to `time` (ties go to the later frame)."""
    return int((time + FRAME / 2) // FRAME)


def frame_time(index: int) -> Fraction:
    """Start of 25 fps frame `index`, in seconds on the clip clock."""
    return index * FRAME


def sample_at(time: Fraction) -> int:
    """Index of the 16 kHz sample nearest to `time` (seconds, clip clock)."""
    return int((time * SAMPLE_RATE + Fraction(1, 2)) // 1)


def frame_samples(index: int) -> int:
    """Index of the first 16 kHz sample of 25 fps frame `index`."""
    return index * SAMPLES_PER_FRAME


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """A half-open interval `[start, end)` of seconds. Which clock it is on, its owner says."""

    start: Fraction
    end: Fraction

    def __post_init__(self) -> None:
        if not (isinstance(self.start, Fraction) and isinstance(self.end, Fraction)):
            raise TypeError("Span wants Fractions: make one with Span.of(start, end)")
        if self.end < self.start:
            raise ValueError(f"a span must not end before it starts: [{float(self.start)}, {float(self.end)})")

    @classmethod
    def of(cls, start: int | float | str | Fraction, end: int | float | str | Fraction) -> Span:
        return cls(seconds(start), seconds(end))

    @classmethod
    def of_frames(cls, start: int, end: int) -> Span:
        """The span of 25 fps frames `start` up to but not including `end`."""
        return cls(frame_time(start), frame_time(end))

    @property
    def duration(self) -> Fraction:
        return self.end - self.start

    @property
    def frames(self) -> range:
        """The 25 fps frames that start inside the span."""
        return range(-int(-self.start // FRAME), -int(-self.end // FRAME))

    def shift(self, by: Fraction) -> Span:
        return Span(self.start + by, self.end + by)

    def intersect(self, other: Span) -> Span | None:
        """The common part, or None where there is none of positive length."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None

    def to_json(self) -> list[str]:
        return [str(self.start), str(self.end)]

    @classmethod
    def from_json(cls, value: list[str]) -> Span:
        """
        Raises:
            ValueError: for anything but two times in order, written as text.
        """
        if not isinstance(value, list) or len(value) != 2 or not all(isinstance(time, str) for time in value):
            raise ValueError(f"not a span of two times: {str(value)[:80]}")
        span = cls.of(value[0], value[1])
        if abs(span.start) > LONGEST_S or abs(span.end) > LONGEST_S:
            raise ValueError(f"not a span of two times: {str(value)[:80]}")
        return span

    def __str__(self) -> str:
        return f"{float(self.start):.2f}-{float(self.end):.2f} s"
