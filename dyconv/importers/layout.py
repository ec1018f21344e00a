"""What importers share: what a set holds, and reading its files with errors that name them.

What is wrong with single recordings is gathered, so that all of it is told at once; a file without which the set cannot be read
is an error at once. Nothing of a set is executed or unpickled.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from dyconv.bounds import NotJson, parse_json
from dyconv.errors import UsageError
from dyconv.manifest import MAX_ID

Spans = tuple[tuple[float, float], ...]
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}")
_SHOWN = 10
_LARGEST = 1e12  # of numbers in a set: nan is not below it either


class LayoutError(UsageError):
    """A folder is not the set in the layout that it is published in."""


@dataclass(frozen=True)
class Part:
    """One person's own recording.

    Attributes:
        audio: this person alone; None where the set has no sound of them, which is then silence.
        person: as the set calls them.
        speech: seconds in which they speak, as published; None where the set does not tell.
    """

    video: Path
    audio: Path | None
    person: str
    speech: Spans | None = None


@dataclass(frozen=True)
class Talk:
    """One conversation: two recordings in step, or one file of both.

    Attributes:
        parts: two of them; or none, and `media` has both people and one mixed sound.
    """

    id: str
    parts: tuple[Part, Part] | None = None
    media: Path | None = None
    split: str | None = None
    title: str | None = None
    note: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        lacks: what the set does not have, and what is done about it.
        problems: what is wrong, by file.
        spans: of sets without media, what each video's annotations say, by the video's id.
    """

    talks: list[Talk] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    spans: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def checked(self, root: Path, skip_bad: bool) -> Found:
        """Itself.

        Raises:
            LayoutError: naming what is wrong, unless that is to be left out; if nothing is left.
        """
        if (self.problems and not skip_bad) or not self.talks:
            shown = "\n".join(f"  {one}" for one in self.problems[:_SHOWN])
            more = f"\n  and {len(self.problems) - _SHOWN} more" if len(self.problems) > _SHOWN else ""
            raise LayoutError(
                f"{root}: {len(self.problems)} problems, {len(self.talks)} whole conversations\n{shown}{more}",
                hint="get the missing files, or leave these recordings out with --skip-bad",
            )
        self.talks.sort(key=lambda talk: talk.id)
        return self


def find_root(root: Path, needed: Sequence[str], inside: Sequence[str] = ("",)) -> Path:
    """The folder, of `root` and some below it, that has all of `needed`.

    Raises:
        LayoutError: telling what was expected and what is there.
    """
    for below in inside:
        if all((root / below / name).exists() for name in needed):
            return root / below
    there = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else []
    raise LayoutError(
        f"{root}: expected {', '.join(needed)}, found {', '.join(there) or 'no such folder'}",
        hint="give the folder that the set was unpacked into",
    )


def safe_id(text: str) -> str:
    """An id for a source: the text where it is one already, else its letters and a hash of all of it."""
    if _ID.fullmatch(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[: MAX_ID - 13]
    return f"{slug}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}".lstrip("-")


def read_json(path: Path) -> Any:
    """Raises LayoutError, naming the file, for what is not JSON."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise LayoutError(f"{path}: {error.strerror}") from error
    except NotJson as error:
        raise LayoutError(f"{path} is not JSON: {error}") from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV, cells without white space around them. Raises LayoutError for what is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            return [{str(name).strip(): (value or "").strip() for name, value in row.items() if name} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise LayoutError(f"{path} is not a readable CSV: {error}") from error


def spans_of(rows: Any, where: str) -> Spans:
    """`[{start, end}, ...]` in seconds as rising spans; empty ones are left out.

    Raises:
        LayoutError: naming the row that is none.
    """
    if not isinstance(rows, list):
        raise LayoutError(f"{where}: expected a list of start and end, found {str(rows)[:60]!r}")
    out = []
    for number, row in enumerate(rows, 1):
        start, end = (row.get("start"), row.get("end")) if isinstance(row, dict) else (None, None)
        if not is_number(start) or not is_number(end) or start < 0 or end < start:
            raise LayoutError(f"{where}, stretch {number}: expected start and end in seconds, found {str(row)[:80]}")
        if end > start:
            out.append((float(start), float(end)))
    return tuple(sorted(out))


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def inside(root: Path, *names: str) -> Path:
    """A path below `root`. Raises LayoutError where a name of the set's own tables leads out of it."""
    path = root.joinpath(*names)
    try:
        leads_out = not path.resolve().is_relative_to(root.resolve())
        leads_out |= any(len(name.encode(errors="surrogatepass")) > 255 for name in "/".join(names).split("/"))
    except (ValueError, OSError):  # a zero byte, or a name of kilobytes
        leads_out = True
    if leads_out:
        raise LayoutError(f"{'/'.join(names)[:120]!r} leads out of {root}, or is no name of a file")
    return path


def missing(paths: Iterable[Path], root: Path) -> list[str]:
    """What is wrong with files that have to be there."""
    out = []
    for path in paths:
        name = path.relative_to(root)
        if not path.is_file():
            out.append(f"{name}: missing")
        elif not path.stat().st_size:
            out.append(f"{name}: empty")
    return out
