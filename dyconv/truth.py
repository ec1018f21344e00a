"""What a conversation really contains: the one format of known truth, read and written strictly.

`truth.json` lies beside a media file that was composed or labelled by hand. `dyconv synth` writes it and `dyconv score`
compares a build with it. All times are seconds on the presentation clock of the media; all boxes are pixels of the
picture as it is displayed. A file that is not exactly in this format is refused: a typing error in a truth must not
turn into a wrong score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from dyconv.bounds import NotJson, parse_json
from dyconv.errors import UsageError
from dyconv.store import write_atomic

VERSION = 1
LAYOUTS = ("two-shot", "side", "stacked", "pip", "cuts")
FILE_NAME = "truth.json"
_SLACK_S = 0.25  # a last turn or box may reach this far over the end, and two boxes be so much more than a second apart
_LARGEST = 1e9  # of times, in seconds, and of places, in pixels
_FIELDS = ("version", "media", "duration", "layout", "cuts", "people", "turns", "faces", "voices", "known")
_REQUIRED = ("version", "media", "duration", "people")


@dataclass(frozen=True)
class TruthTurn:
    """When a voice is really heard, `[start, end)` seconds. A person not among the people (or None) is off screen."""

    person: str | None
    start: float
    end: float


@dataclass(frozen=True)
class TruthFace:
    """One face on screen without a break from `start` to `end` (seconds, half-open).

    Attributes:
        boxes: rising (t, x0, y0, x1, y1): the tight box of the face mesh (forehead to chin, ear to ear), in display
            pixels, x1 and y1 exclusive, at least one a second. A box holds until the next one.
    """

    person: str
    start: float
    end: float
    boxes: tuple[tuple[float, float, float, float, float], ...]

    def box_at(self, time: float) -> tuple[float, float, float, float]:
        """The box (x0, y0, x1, y1) at `time`, linearly interpolated between its neighbours and held at the ends."""
        before = self.boxes[0]
        for after in self.boxes:
            if after[0] > time:
                span = after[0] - before[0]
                weight = min(1.0, max(0.0, (time - before[0]) / span)) if span > 0 else 0.0
                x0, y0, x1, y1 = (a + (b - a) * weight for a, b in zip(before[1:], after[1:], strict=True))
                return x0, y0, x1, y1
            before = after
        return before[1:]


@dataclass(frozen=True)
class Truth:
    """Everything that is known of one media file. See the module's text for units.

    Attributes:
        media: path of the media file, relative to the truth file.
        duration: seconds.
        layout: one of `LAYOUTS`; None if unknown.
        cuts: presentation time of the first frame after each hard cut; None if unknown.
        people: the two who converse, in a fixed order.
        voices: person to a file (relative, 16 kHz mono, as long as the media) with that voice alone; empty if unknown.
        known: rising, separate [start, end) seconds that turns and faces tell of, where people judged parts of the media
            only; None if all of it.
    """

    media: str
    duration: float
    layout: str | None
    people: tuple[str, ...]
    cuts: tuple[float, ...] | None = ()
    turns: tuple[TruthTurn, ...] = ()
    faces: tuple[TruthFace, ...] = ()
    voices: Mapping[str, str] = field(default_factory=dict)
    known: tuple[tuple[float, float], ...] | None = None

    def shots(self) -> list[tuple[float, float]]:
        """The shots `[start, end)` in seconds that the cuts divide the media into."""
        edges = [0.0, *(self.cuts or ()), self.duration]
        return list(pairwise(edges))

    def to_json(self) -> dict[str, Any]:
        """Plain data in the order of the format, times rounded to a microsecond and boxes to a hundredth of a pixel."""
        data: dict[str, Any] = {
            "version": VERSION,
            "media": self.media,
            "duration": round(self.duration, 6),
            "layout": self.layout,
            "cuts": None if self.cuts is None else [round(cut, 6) for cut in self.cuts],
            "people": list(self.people),
            "turns": [{"person": t.person, "start": round(t.start, 6), "end": round(t.end, 6)} for t in self.turns],
            "faces": [_face_json(face) for face in self.faces],
        }
        if self.voices:
            data["voices"] = dict(sorted(self.voices.items()))
        if self.known is not None:
            data["known"] = [[round(start, 6), round(end, 6)] for start, end in self.known]
        return data


def _face_json(face: TruthFace) -> dict[str, Any]:
    boxes = [[round(box[0], 6), *(round(value, 2) for value in box[1:])] for box in face.boxes]
    return {"person": face.person, "start": round(face.start, 6), "end": round(face.end, 6), "boxes": boxes}


def write_truth(path: Path, truth: Truth) -> None:
    """Write `truth` after checking it as a reader would. The same truth gives the same bytes.

    Raises:
        UsageError: if it would not be readable again.
    """
    data = truth.to_json()
    parse_truth(data, str(path))
    write_atomic(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    Raises:
        UsageError: if it is not there, not JSON, or not exactly in the format; says which field and why.
    """
    try:
        data = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"no truth file at {path}", hint="`dyconv synth` writes one beside the media it makes") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except NotJson as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return parse_truth(data, str(path))


def parse_truth(data: Any, where: str = "truth") -> Truth:
    """Check plain data and make a `Truth` of it; `where` names it in errors.

    Raises:
        UsageError: naming the field, what was expected and what was found.
    """
    return _Reader(where).truth(data)


class _Reader:
    """Checks every field by hand: the point is a message that names the place."""

    def __init__(self, where: str) -> None:
        self.where = where

    def wrong(self, at: str, expected: str, found: Any) -> UsageError:
        return UsageError(f"{self.where}: {at}: expected {expected}, found {str(found)[:80]!r}")

    def truth(self, data: Any) -> Truth:
        fields = self.object(data, "the file", _REQUIRED, _FIELDS)
        if fields["version"] != VERSION or isinstance(fields["version"], bool):
            raise self.wrong("version", str(VERSION), fields["version"])
        duration = self.number(fields["duration"], "duration")
        if duration <= 0:
            raise self.wrong("duration", "a number of seconds above 0", duration)
        layout = fields.get("layout")
        if layout is not None and layout not in LAYOUTS:
            raise self.wrong("layout", f"one of {', '.join(LAYOUTS)}, or nothing", layout)
        people = tuple(self.text(item, f"people[{i}]") for i, item in enumerate(self.items(fields["people"], "people")))
        if not people or len(set(people)) != len(people):
            raise self.wrong("people", "different names, at least one", list(people))
        cuts = self.part(fields, "cuts", self.number)
        rising = cuts is None or list(cuts) == sorted(set(cuts))
        if not rising or any(not 0 < cut < duration for cut in cuts or ()):
            raise self.wrong("cuts", "rising times inside the duration", list(cuts or ()))
        return Truth(
            media=self.path(fields["media"], "media"),
            duration=duration,
            layout=layout,
            people=people,
            cuts=cuts,
            turns=self.part(fields, "turns", lambda item, at: self.turn(item, at, duration)) or (),
            faces=self.part(fields, "faces", lambda item, at: self.face(item, at, duration, people)) or (),
            voices=self.voices(fields.get("voices"), people),
            known=self.known(fields, duration),
        )

    def known(self, fields: Mapping[str, Any], duration: float) -> tuple[tuple[float, float], ...] | None:
        spans = self.part(fields, "known", lambda item, at: self.pair(item, at, duration))
        if spans is not None and any(after[0] < before[1] for before, after in pairwise(spans)):
            raise self.wrong("known", "rising stretches that do not overlap", list(spans))
        return spans

    def pair(self, item: Any, at: str, duration: float) -> tuple[float, float]:
        values = self.items(item, at)
        if len(values) != 2:
            raise self.wrong(at, "[start, end]", item)
        return self.span({"start": values[0], "end": values[1]}, at, duration)

    def turn(self, item: Any, at: str, duration: float) -> TruthTurn:
        fields = self.object(item, at, ("person", "start", "end"))
        person = None if fields["person"] is None else self.text(fields["person"], f"{at}.person")
        return TruthTurn(person, *self.span(fields, at, duration))

    def face(self, item: Any, at: str, duration: float, people: tuple[str, ...]) -> TruthFace:
        fields = self.object(item, at, ("person", "start", "end", "boxes"))
        if fields["person"] not in people:
            raise self.wrong(f"{at}.person", f"one of {', '.join(people)}", fields["person"])
        start, end = self.span(fields, at, duration)
        boxes = self.each(fields["boxes"], f"{at}.boxes", self.box)
        times = [box[0] for box in boxes]
        if not times or times != sorted(set(times)) or times[0] < start - _SLACK_S or times[-1] > end + _SLACK_S:
            raise self.wrong(f"{at}.boxes", f"at least one box, rising times in [{start}, {end})", times[:4])
        gaps = [b - a for a, b in zip([start, *times], [*times, end], strict=True)]
        if max(gaps) > 1.0 + _SLACK_S:
            raise self.wrong(f"{at}.boxes", "at least one box a second", f"a gap of {max(gaps):.3f} s")
        return TruthFace(fields["person"], start, end, boxes)

    def box(self, item: Any, at: str) -> tuple[float, float, float, float, float]:
        values = [self.number(value, at) for value in self.items(item, at)]
        if len(values) != 5 or values[3] <= values[1] or values[4] <= values[2]:
            raise self.wrong(at, "[t, x0, y0, x1, y1] with x1 > x0 and y1 > y0", item)
        return values[0], values[1], values[2], values[3], values[4]

    def voices(self, value: Any, people: tuple[str, ...]) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not set(value) <= set(people):
            raise self.wrong("voices", f"an object with keys out of {', '.join(people)}, or null", value)
        return {person: self.path(path, f"voices.{person}") for person, path in value.items()}

    def span(self, fields: Mapping[str, Any], at: str, duration: float) -> tuple[float, float]:
        start, end = self.number(fields["start"], f"{at}.start"), self.number(fields["end"], f"{at}.end")
        if not 0 <= start < end <= duration + _SLACK_S:
            raise self.wrong(at, f"0 <= start < end <= {duration}", f"start {start}, end {end}")
        return start, end

    def part(self, fields: Mapping[str, Any], name: str, read: Callable[[Any, str], Any]) -> tuple[Any, ...] | None:
        """A part of the truth that may be unknown: absent or null is None, which is not the same as none of it."""
        value = fields.get(name)
        return None if value is None else self.each(value, name, read)

    def each(self, value: Any, at: str, read: Callable[[Any, str], Any]) -> tuple[Any, ...]:
        return tuple(read(item, f"{at}[{i}]") for i, item in enumerate(self.items(value, at)))

    def object(self, value: Any, at: str, required: tuple[str, ...], known: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(at, "a JSON object", value)
        if absent := [name for name in required if name not in value]:
            raise self.wrong(at, f"the field {absent[0]!r}", sorted(value))
        if unknown := sorted(set(value) - set(known or required)):
            raise self.wrong(at, f"no fields but {', '.join(known or required)}", unknown[0])
        return value

    def items(self, value: Any, at: str) -> list[Any]:
        if not isinstance(value, list):
            raise self.wrong(at, "a list", value)
        return value

    def number(self, value: Any, at: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:  # nan is not either
            raise self.wrong(at, "a finite number", value)
        return float(value)

    def text(self, value: Any, at: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.wrong(at, "a name", value)
        return value

    def path(self, value: Any, at: str) -> str:
        """A relative path that stays in the truth's folder."""
        pure = PurePosixPath(self.text(value, at))
        if pure.is_absolute() or ".." in pure.parts or "\\" in value or "\0" in value:
            raise self.wrong(at, "a relative path inside the folder of the truth", value)
        return str(value)
