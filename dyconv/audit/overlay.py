"""Decisions on disk: an append-only SQLite file while reviewers work, and an export that lies in version control.

    annotations/<name>/decisions.jsonl     one decision a line, by time: the text to read and compare
                       decisions.parquet   the same as a table
                       VERSION.json        how many, and the sha256 of both files

Several processes may add to one file at once (SQLite in WAL mode). Nothing is changed or removed, by triggers in the file
itself, so two overlays merge by taking the decisions of both.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dyconv.audit.annotations import JSONL as JSONL
from dyconv.audit.annotations import PARQUET as PARQUET
from dyconv.audit.annotations import SCHEMA, read_export, read_lines, read_table
from dyconv.audit.annotations import VERSION_FILE as VERSION_FILE
from dyconv.audit.annotations import Annotations as Annotations
from dyconv.audit.annotations import OverlayError as OverlayError
from dyconv.audit.annotations import write_export as write_export
from dyconv.audit.checks import strict_json
from dyconv.audit.decisions import Decision, DecisionError, Verdict, in_order, settle
from dyconv.errors import UsageError
from dyconv.records import dump

WORKING = "overlay.sqlite"
_APPLICATION_ID = 0x44594356  # "DYCV": tells our files from other SQLite files
_WAIT_S = 30.0
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS decisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    clip TEXT NOT NULL,
    json TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS decisions_by_clip ON decisions (clip);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never changed: add one that undoes it'); END;
CREATE TRIGGER IF NOT EXISTS never_removed BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are never removed: add one that undoes it'); END;
PRAGMA user_version = {SCHEMA};
PRAGMA application_id = {_APPLICATION_ID};
COMMIT;
"""


def annotations_folder(out: str) -> Path:
    """Where the annotations of a build or release lie unless told otherwise: `annotations/<its name>` from here."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(out).rstrip("/").rpartition("/")[2]).strip(".")
    return Path("annotations") / (name or "build")


def default_overlay(out: str) -> Path:
    """The overlay of a build or release unless told otherwise."""
    return annotations_folder(out) / WORKING


class Overlay:
    """A SQLite file of decisions. May be used from several threads and processes at once; each call is whole or nothing.

    Args:
        path: the file; made, with its folder, where it is not there.

    Raises:
        OverlayError: if it is not such a file, is damaged, or cannot be written.
        UsageError: if a later version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OverlayError(f"{path.parent} cannot be made: {error.strerror}") from error
        with self._open() as connection:
            known = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            mark, schema = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
            if known and mark != _APPLICATION_ID:
                raise OverlayError(f"{path} is a SQLite file of another program", hint="give another path for the overlay")
            if schema > SCHEMA:
                raise UsageError(f"{path} has schema {schema}, this program knows {SCHEMA}", hint="use a newer dyconv")
            if not known:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_TABLES)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call alone: SQLite's are not for sharing between threads, and opening costs little."""
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:  # the latter of what a damaged file says of itself
            raise OverlayError(
                f"overlay {self.path}: {error}", hint="what was decided before is kept; look at the disk and the file's rights"
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def add(self, *decisions: Decision) -> int:
        """Append decisions, all or none, and return how many were new. One that is there already stays as it is.

        Raises:
            DecisionError: if a decision with the same id and other contents is there.
            OverlayError: if it cannot be written; nothing is added then.
        """
        new = 0
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for decision in decisions:
                line = dump(decision.to_json()).decode()
                row = connection.execute("SELECT json FROM decisions WHERE id = ?", (decision.id,)).fetchone()
                if row is None:
                    connection.execute(
                        "INSERT INTO decisions (id, clip, json) VALUES (?, ?, ?)", (decision.id, decision.clip, line)
                    )
                    new += 1
                elif row[0] != line:
                    raise DecisionError(f"decision {decision.id} is in {self.path} with other contents")
            connection.execute("COMMIT")
        return new

    def after(self, seq: int = 0) -> tuple[list[Decision], int]:
        """Decisions added since `seq`, as they were added, and the number to ask with next time."""
        with self._open() as connection:
            rows = connection.execute("SELECT seq, json FROM decisions WHERE seq > ? ORDER BY seq", (seq,)).fetchall()
        return [self._decision(row[1]) for row in rows], rows[-1][0] if rows else seq

    def of(self, clip: str) -> list[Decision]:
        """The decisions on a clip, by time."""
        with self._open() as connection:
            rows = connection.execute("SELECT json FROM decisions WHERE clip = ?", (clip,)).fetchall()
        return in_order(self._decision(row[0]) for row in rows)

    def all(self) -> list[Decision]:
        """All decisions, by time."""
        return list(self.annotations().decisions)

    def annotations(self) -> Annotations:
        """Everything in it now."""
        return Annotations.gathered(self.after(0)[0])

    def verdict(self, clip: str, base: str | None = None) -> Verdict:
        """What the decisions on a clip come to; see `settle` for `base`."""
        return settle(self.of(clip), base)

    def verdicts(self, bases: Mapping[str, str] | None = None) -> dict[str, Verdict]:
        """See `Annotations.verdicts`."""
        return self.annotations().verdicts(bases)

    def merge(self, other: Annotations) -> int:
        """Take over all decisions of another overlay, and return how many were new."""
        return self.add(*other.decisions)

    def export(self, folder: Path) -> Path:
        """Write the export (see the module's text) and return its folder."""
        return write_export(self.annotations(), folder)

    def _decision(self, line: object) -> Decision:
        text = line if isinstance(line, str) else ""  # SQLite keeps any type in any column
        return Decision.from_json(strict_json(text, str(self.path)), f"{self.path}")


def read_overlay(path: Path) -> Annotations:
    """The decisions of an overlay: the SQLite file, the folder of an export, or a file of lines or a table from one.

    Raises:
        UsageError: if it is not there, or not what this version writes; it says which line and field.
    """
    if path.is_dir():
        return read_export(path)
    if not path.is_file():
        raise UsageError(f"no overlay at {path}", hint="give the overlay of `dyconv audit`, or the folder of its export")
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"SQLite format 3\0"):
        return Overlay(path).annotations()
    return Annotations.gathered(read_table(path) if start.startswith(b"PAR1") else read_lines(path))
