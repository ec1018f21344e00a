"""RTTM: one line a turn, as NIST's evaluations of diarization have it, with the clip's id as the file's name.

A SPKR-INFO line goes before the turns of each clip, so that clips without any turn are there too; its last field says which
record the turns were made on (`base:<sha256>`). Comments are read and not written: pyannote's reader has none.
Format: NIST, Rich Transcription 2009 evaluation plan, appendix A.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dyconv.audit.checks import HEX_SHA, DecisionError, clip_id, matching
from dyconv.audit.interchange.common import (
    InterchangeError,
    Labels,
    checked,
    in_ms,
    name_of,
    read_text,
    seconds_text,
    speaker,
    turn_from,
)
from dyconv.store import write_atomic

SUFFIX = ".rttm"
_TYPE = re.compile(r"[A-Z][A-Z/_-]*")
_BASE = "base:"


def write(labels: Iterable[Labels], path: Path) -> Path:
    """Write turns of several clips into one file; the same labels give the same bytes."""
    lines = []
    for label in labels:
        base = "<NA>" if label.base is None else f"{_BASE}{label.base}"
        lines.append(f"SPKR-INFO {label.clip} 1 <NA> <NA> <NA> unknown p0 <NA> {base}")
        for turn in label.turns or ():
            start, end = in_ms(turn["start_s"]), in_ms(turn["end_s"])
            times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
            lines.append(f"SPEAKER {label.clip} 1 {times} <NA> <NA> {name_of(turn)} <NA> <NA>")
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    return path


def read(path: Path, names: Mapping[str, str] | None = None) -> list[Labels]:
    """Read the turns of all clips of a file, by clip.

    Args:
        names: what speakers' names stand for, where they are not p0, p1, nobody or unsure.

    Raises:
        InterchangeError: if a line is not RTTM, says an impossible time, or a speaker is unknown; it names the line.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    bases: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        at = f"{path}, line {number}"
        parts = line.split()
        if parts and not parts[0].startswith(";;"):
            _line(parts, at, names or {}, found, bases)
    return [Labels(clip, _checked(turns, f"{path}, {clip}"), bases.get(clip)) for clip, turns in sorted(found.items())]


def _line(
    parts: list[str], at: str, names: Mapping[str, str], found: dict[str, list[dict[str, Any]]], bases: dict[str, str]
) -> None:
    if len(parts) not in (9, 10) or not _TYPE.fullmatch(parts[0]):
        told = " ".join(parts)[:60]
        raise InterchangeError(f"{at}: expected a type in capitals and 8 or 9 fields, found {told!r}", hint="is it RTTM?")
    if parts[0] == "SPKR-INFO":
        clip = clip_id(parts[1], at)
        found.setdefault(clip, [])
        if parts[-1].startswith(_BASE):
            bases[clip] = matching(parts[-1].removeprefix(_BASE), at, HEX_SHA, "a sha256 in hex")
    if parts[0] != "SPEAKER":
        return  # LEXEME, NOSCORE and so on: not of who speaks when
    start, length = seconds_text(parts[3], f"{at}, start"), seconds_text(parts[4], f"{at}, duration")
    if in_ms(length) == 0:
        return  # some programs write turns of no length
    begin = in_ms(start)
    end = max(begin + 1, in_ms(start + length))
    found.setdefault(clip_id(parts[1], at), []).append(turn_from(speaker(parts[7], at, names), begin, end))


def _checked(turns: list[dict[str, Any]], at: str) -> tuple[dict[str, Any], ...]:
    try:
        return checked(turns, at)
    except DecisionError as error:
        raise InterchangeError(error.message, hint=error.hint) from error
