"""Videos that another system made, measured where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dyconv.errors import DyconvError, UsageError
from dyconv.records import dump
from training.evaluation.case import Case, Truth
from training.evaluation.notes import note_of, told

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi")


class MissingVideo(DyconvError):
    """The video of one case is not in the folder."""


class Folder:
    """Videos of any other system.

    The layout, where `<clip>` is an id of the clip table, `<person>` p0 or p1, `<view>` one of interactive, talking, listening
    and video:

        FOLDER/<view>/<clip>.<person>.mp4          a video for each view, or
        FOLDER/<clip>.<person>.mp4                 one for all views (the first is taken where both are there)
        FOLDER/<view>/<clip>.<person>.mp4.json     if wanted, numbers of its making

    Each shows what the system made of that person: a square picture of any size, framed as the build's face video is, 25
    frames a second, as many frames as the clip has, not turned. It need not have sound. .mkv, .mov, .webm and .avi are read
    as well. The JSON file is an object with any of `seconds` (to make all frames), `frames`, `first_frame_s` (until the first
    is there), `latency_s` (of the method: from a sound to its frame, without computing) and `peak_mb` (memory, 1e6 bytes).

    Cases whose video is not there are left out and told by name.

    Args:
        folder: that holds them.
        name: of the row; the folder's name by default.

    Raises:
        UsageError: where there is no such folder.
    """

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        if not folder.is_dir():
            raise UsageError(f"expected a folder of videos, found no folder {folder}", hint="give the folder they are in")
        self.folder, self.name = folder, name or folder.resolve().name
        files = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES)
        self._files = {path.relative_to(folder).as_posix(): path for path in files}
        held: list[list[object]] = [
            [place, path.stat().st_size, path.stat().st_mtime_ns] for place, path in self._files.items()
        ]
        held += [
            [place, note_of(path).read_text(errors="replace")] for place, path in self._files.items() if note_of(path).is_file()
        ]
        self.version = hashlib.sha256(dump(["folder", held])).hexdigest()

    def find(self, case: Case) -> Path | None:
        """The file of a case."""
        names = (f"{place}{case.name}{suffix}" for place in (f"{case.view}/", "") for suffix in SUFFIXES)
        return next((self._files[name] for name in names if name in self._files), None)

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """Those of some cases that have no video.

        Raises:
            UsageError: where none has one.
        """
        lacking = [case for case in cases if self.find(case) is None]
        if cases and len(lacking) == len(cases):
            found = ", ".join([*self._files][:3]) or "no video"
            raise UsageError(
                f"expected videos such as {cases[0].view}/{cases[0].name}.mp4 in {self.folder}, found {found}",
                hint="name them FOLDER/<view>/<clip>.<person>.mp4, or FOLDER/<clip>.<person>.mp4 for all views",
            )
        return lacking

    def make(self, truth: Truth, path: Path) -> Path:
        """Where the video of a case lies; nothing is written.

        Raises:
            MissingVideo: where there is none.
            UsageError: where the numbers beside it cannot be read.
        """
        case = truth.case
        found = self.find(case)
        if found is None:
            raise MissingVideo(
                f"expected {case.view}/{case.name}.mp4 or {case.name}.mp4 in {self.folder}, found neither",
                hint="make it and run the same command again; the other cases are measured without it",
            )
        told(found)  # numbers that cannot be read are this case's problem, and now is the time to say so
        return found
