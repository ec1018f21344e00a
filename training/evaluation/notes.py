"""Numbers that stand beside a video, in `<video>.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError

TOLD = ("seconds", "frames", "first_frame_s", "latency_s", "peak_mb")


def told(path: Path) -> dict[str, float]:
    """Numbers that were told beside a video (`TOLD`), as far as there are any.

    Raises:
        UsageError: where the file beside it is no JSON object, or holds something else than numbers under these names.
    """
    found = {name: value for name, value in sidecar(path).items() if name in TOLD and value is not None}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise UsageError(
                f"{note_of(path)}: expected a number of {name} from 0 on, found {value!r}", hint="correct the file"
            )
    return {name: float(value) for name, value in found.items()}


def note_of(path: Path) -> Path:
    """The JSON file beside a video."""
    return path.with_name(f"{path.name}.json")


def sidecar(path: Path) -> dict[str, Any]:
    """All that stands beside a video; nothing where there is no file.

    Raises:
        UsageError: where it is no JSON object.
    """
    note = note_of(path)
    if not note.is_file():
        return {}
    try:
        found = json.loads(note.read_bytes())
    except ValueError as error:
        raise UsageError(f"{note} is no JSON: {error}", hint="correct or delete it") from error
    if not isinstance(found, dict):
        raise UsageError(f"{note}: expected a JSON object, found {type(found).__name__}", hint="correct or delete it")
    return found
