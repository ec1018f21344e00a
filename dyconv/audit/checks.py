"""What the data of a decision may be: checked field by field, so that the message names the place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from typing import Any

from dyconv.bounds import JSON_BYTES
from dyconv.errors import UsageError
from dyconv.records import PERSONS, check_id

HEX_ID = re.compile(r"[0-9a-f]{32}")
HEX_SHA = re.compile(r"[0-9a-f]{64}")
LONGEST_NOTE = 1000
LONGEST_NAME = 80
MOST_TURNS = 20_000
_SLACK_MS = 1  # a last turn's end, rounded to milliseconds, may lie so far over the clip's


class DecisionError(UsageError):
    """A decision, or a file of them, is not what this version writes."""


class Kind(StrEnum):
    """What a reviewer can say of a clip."""

    ACCEPT = "accept"
    REJECT = "reject"  # reason: Fault
    SWAP = "swap"  # what: people | voices
    TURNS = "turns"  # turns: the whole list as it should be
    MARK = "mark"  # what: Fault, person, at_s
    TAKEDOWN = "takedown"  # why
    UNDO = "undo"  # decision: id of the one that no longer counts


class Fault(StrEnum):
    """What can be wrong with a clip: reasons of rejections, and marks."""

    SPEAKER = "speaker"  # speech given to the wrong person
    TURNS = "turns"  # turns missing, or with wrong edges
    BLEED = "bleed"  # the partner is heard in a voice
    CUT = "cut"  # a shot's boundary missed, invented, or in the middle of a word
    IDENTITY = "identity"  # one person's tracks are two people's, or two people's one
    SYNC = "sync"  # sound and lips are apart
    FACE = "face"  # box or crop is off the face, or no face
    NOISE = "noise"  # music, noise or a broken voice
    LANGUAGE = "language"  # another language than stated, or dubbed
    NOT_DYADIC = "not_dyadic"  # not two people in conversation
    DUPLICATE = "duplicate"
    OTHER = "other"


SWAPS = ("people", "voices")


def wrong(at: str, expected: str, found: object) -> DecisionError:
    return DecisionError(f"{at}: expected {expected}, found {str(found)[:80]!r}")


def mapping(value: Any, at: str, needed: Iterable[str], allowed: Iterable[str] = ()) -> dict[str, Any]:
    """A JSON object with all of `needed`, and nothing but those and `allowed`."""
    if not isinstance(value, Mapping):
        raise wrong(at, "an object", value)
    needed = list(needed)
    if absent := [name for name in needed if name not in value]:
        raise wrong(at, f"the field {absent[0]!r}", ", ".join(map(str, value)) or "no fields")
    if unknown := sorted(map(str, set(value) - set(needed) - set(allowed))):
        raise wrong(at, f"no fields but {', '.join([*needed, *allowed])}", unknown[0])
    return dict(value)


def text(value: Any, at: str, longest: int) -> str:
    """Text that is not empty, has no control characters but tabs and line ends, and can be written as UTF-8."""
    told = f"1 to {longest} characters of text"
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise wrong(at, told, value)
    if any((ord(letter) < 32 and letter not in "\n\t") or 0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise wrong(at, f"{told} without control characters", ascii(value))
    return value


def one_of(value: Any, at: str, allowed: Iterable[str]) -> str:
    allowed = [str(item) for item in allowed]
    if not isinstance(value, str) or value not in allowed:
        raise wrong(at, f"one of {', '.join(allowed)}", value)
    return str(value)


def matching(value: Any, at: str, pattern: re.Pattern[str], told: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise wrong(at, told, value)
    return value


def clip_id(value: Any, at: str) -> str:
    try:
        return check_id(value, "clip id")
    except ValueError as error:
        raise DecisionError(f"{at}: {error}") from error


def utc_time(value: Any, at: str) -> str:
    """A UTC time as `2026-11-21T16:05:50.123456Z`: always that long, so that order of text is order of time."""
    try:
        parsed = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise wrong(at, "a UTC time such as 2026-11-21T16:05:50.123456Z", value) from error
    return time_text(parsed)


def time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def milliseconds(value: Any, at: str, duration: Fraction | None = None) -> float:
    """Seconds on the clip clock, rounded to a millisecond; inside the clip where its duration is known."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e7:  # nan is not either
        raise wrong(at, "a number of seconds", value)
    longest = math.inf if duration is None else float(duration) + _SLACK_MS / 1000
    if not -0.0005 <= value <= longest:
        raise wrong(at, f"seconds from 0 to the clip's end ({longest:.3f})", value)
    return round(float(value), 3) + 0.0


def person(value: Any, at: str) -> str | None:
    if value is not None and value not in PERSONS:
        raise wrong(at, "p0, p1 or null", value)
    return value if value is None else str(value)


def data_of(kind: Kind, value: Any, at: str, duration: Fraction | None = None) -> dict[str, Any]:
    """The checked data of a decision, in the one form in which it is stored.

    Args:
        duration: seconds of the clip, where it is known; times must lie inside it.

    Raises:
        DecisionError: naming the field, what was expected and what was found.
    """
    value = {} if value is None else value
    found: dict[str, Any]
    match kind:
        case Kind.ACCEPT:
            fields, found = mapping(value, at, (), ("note",)), {}
        case Kind.REJECT:
            fields = mapping(value, at, ("reason",), ("note",))
            found = {"reason": one_of(fields["reason"], f"{at}.reason", Fault)}
        case Kind.SWAP:
            fields = mapping(value, at, (), ("what", "note"))
            found = {"what": one_of(fields.get("what", "people"), f"{at}.what", SWAPS)}
        case Kind.TURNS:
            fields = mapping(value, at, ("turns",), ("note",))
            found = {"turns": turns(fields["turns"], f"{at}.turns", duration)}
        case Kind.MARK:
            fields = mapping(value, at, ("what",), ("person", "at_s", "note"))
            moment = fields.get("at_s")
            found = {
                "what": one_of(fields["what"], f"{at}.what", Fault),
                "person": person(fields.get("person"), f"{at}.person"),
                "at_s": None if moment is None else milliseconds(moment, f"{at}.at_s", duration),
            }
        case Kind.TAKEDOWN:
            fields = mapping(value, at, ("why",), ("note",))
            found = {"why": text(fields["why"], f"{at}.why", LONGEST_NOTE)}
        case Kind.UNDO:
            fields = mapping(value, at, ("decision",), ("note",))
            found = {"decision": matching(fields["decision"], f"{at}.decision", HEX_ID, "the id of a decision")}
    if fields.get("note") is not None:
        found["note"] = text(fields["note"], f"{at}.note", LONGEST_NOTE)
    return found


def turns(value: Any, at: str, duration: Fraction | None = None) -> list[dict[str, Any]]:
    """Turns as `{person, start_s, end_s, unsure}`, by start; seconds of the clip clock, to the millisecond.

    A person's turns do not overlap each other; `unsure` is speech that is given to nobody on purpose.
    """
    if not isinstance(value, list | tuple) or len(value) > MOST_TURNS:
        raise wrong(at, f"a list of at most {MOST_TURNS} turns", value)
    found = []
    for number, item in enumerate(value):
        place = f"{at}[{number}]"
        fields = mapping(item, place, ("person", "start_s", "end_s"), ("unsure",))
        who, unsure = person(fields["person"], f"{place}.person"), fields.get("unsure", False)
        if not isinstance(unsure, bool) or (unsure and who is not None):
            raise wrong(f"{place}.unsure", "false, or true where the person is null", unsure)
        start = milliseconds(fields["start_s"], f"{place}.start_s", duration)
        end = milliseconds(fields["end_s"], f"{place}.end_s", duration)
        if end <= start:
            raise wrong(place, "an end after its start", f"{start} to {end}")
        found.append({"person": who, "start_s": start, "end_s": end, "unsure": unsure})
    found.sort(key=lambda turn: (turn["start_s"], turn["end_s"], str(turn["person"])))
    last: dict[str, dict[str, Any]] = {}
    for turn in found:
        before = last.get(str(turn["person"]))
        if turn["person"] is not None and before is not None and turn["start_s"] < before["end_s"]:
            both = f"{before['start_s']} to {before['end_s']} and {turn['start_s']} to {turn['end_s']}"
            raise wrong(at, f"turns of {turn['person']} that do not overlap each other", both)
        last[str(turn["person"])] = turn
    return found


def strict_json(data: bytes | str, at: str) -> Any:
    """JSON as the standard has it: UTF-8, no NaN, no name twice in one object.

    Raises:
        DecisionError: if it is not.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError(f"a field twice: {next(name for name in names if names.count(name) > 1)[:40]!r}")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no number")

    try:
        decoded = data.decode("utf-8") if isinstance(data, bytes) else data
        if JSON_BYTES.passed_by(len(decoded)):
            raise DecisionError(f"{at} has {len(decoded)} characters, at most {JSON_BYTES.now} are read", hint=JSON_BYTES.hint)
        return json.loads(decoded, object_pairs_hook=unique, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise DecisionError(f"{at}: expected UTF-8, found other bytes at {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DecisionError(f"{at} is not JSON: {str(error)[:120]}") from error
