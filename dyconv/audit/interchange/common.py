"""What all formats share: the labels of a clip, the names that stand for p0, p1 and nobody, and reading files safely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dyconv.audit.checks import DecisionError, turns, wrong
from dyconv.audit.decisions import Verdict, base_of, turns_data
from dyconv.errors import UsageError
from dyconv.records import Clip

MOST_BYTES = 64 << 20


class Name(StrEnum):
    """Speakers' names in files."""

    P0 = "p0"
    P1 = "p1"
    NOBODY = "nobody"  # off screen, or somebody else
    UNSURE = "unsure"  # heard, and given to nobody on purpose


class InterchangeError(DecisionError):
    """A file of another program is not what its format says, or cannot be taken over."""


@dataclass(frozen=True)
class Labels:
    """The turns of one clip, and what a reviewer said of it where the format can tell.

    Attributes:
        turns: as in a decision (`dyconv.audit.checks.turns`); None where the file says nothing of them.
        base: of the record they were made on; None where the file does not say.
        verdict: "accept" or "reject", with a `reason`; None for neither.
        reviewer, time: who, and when (UTC, as in a decision), where the file says so.
    """

    clip: str
    turns: tuple[dict[str, Any], ...] | None
    base: str | None = None
    verdict: str | None = None
    reason: str | None = None
    reviewer: str | None = None
    time: str | None = None


def labels_of(clip: Clip, verdict: Verdict) -> Labels:
    """The turns of a clip as reviewers left them, in the names of its record (a swap is not in them)."""
    found = in_order(turns_data(clip.turns if verdict.turns is None else verdict.turns))
    return Labels(clip.id, found, base_of(clip))


def in_order(found: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Turns sorted as a decision has them, without those that round to nothing. Builds of others are taken as they are."""
    kept = [dict(turn) for turn in found if turn["end_s"] > turn["start_s"]]
    return tuple(sorted(kept, key=lambda turn: (turn["start_s"], turn["end_s"], str(turn["person"]))))


def checked(found: Sequence[Mapping[str, Any]], at: str) -> tuple[dict[str, Any], ...]:
    """Turns as a decision has them; see `dyconv.audit.checks.turns` for what is refused."""
    return tuple(turns([dict(turn) for turn in found], at))


def name_of(turn: Mapping[str, Any]) -> Name:
    if turn["person"] is not None:
        return Name(turn["person"])
    return Name.UNSURE if turn["unsure"] else Name.NOBODY


def turn_from(name: Name, start_ms: int, end_ms: int) -> dict[str, Any]:
    person = str(name) if name in (Name.P0, Name.P1) else None
    return {"person": person, "start_s": start_ms / 1000, "end_s": end_ms / 1000, "unsure": name is Name.UNSURE}


def in_ms(value: float) -> int:
    return round(value * 1000)


def speaker(value: str, at: str, names: Mapping[str, str]) -> Name:
    """The person that a file's name stands for.

    Args:
        names: what other names stand for, `{"Anna": "p0"}`.

    Raises:
        InterchangeError: if nothing says who it is.
    """
    told = names.get(value, value)
    if told not in set(Name):
        raise InterchangeError(
            f"{at}: nothing says who the speaker {value[:60]!r} is", hint="say so: --speaker NAME=p0 (or p1, nobody, unsure)"
        )
    return Name(told)


def read_bytes(path: Path) -> bytes:
    """A file of at most 64 MiB.

    Raises:
        UsageError: if it is not there, no file, or larger.
    """
    if not path.is_file():
        raise UsageError(f"no file at {path}")
    if path.stat().st_size > MOST_BYTES:
        raise InterchangeError(f"{path} has {path.stat().st_size} bytes, annotations have at most {MOST_BYTES}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """The file as UTF-8, with or without a byte order mark.

    Raises:
        InterchangeError: if it is not UTF-8, saying at which byte.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InterchangeError(
            f"{path}: expected UTF-8, found other bytes at {error.start}", hint="save it as UTF-8"
        ) from error


def seconds_text(value: str, at: str) -> float:
    """A time in seconds as text; plain decimal digits only."""
    try:
        number = float(value)
    except ValueError as error:
        raise wrong(at, "a number of seconds", value) from error
    if not 0 <= number < 1e7 or not set(value) <= set("0123456789.eE+-"):
        raise wrong(at, "seconds from 0 on", value)
    return number
