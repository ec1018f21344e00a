"""SpeakerVid-5M (Zhang et al. 2025): annotations of YouTube videos, no media.

Layout (huggingface.co/datasets/dorni/SpeakerVid-5M-Dataset): `merged_anno/` (`merge_anno/` in the first version), unpacked,
with a JSON a clip: `video_name` (YouTube id), `org_start_seconds` or `start_seconds` or `start`, `end_seconds` or `duration`,
`speaker`, `is_talking`, `clear`, `dover`, `conf` and the person's box; and `SFT_set.json`, the names of the good clips.
It becomes a manifest of the videos, and a list of the spans within them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dyconv.importers.layout import Found, LayoutError, Talk, find_root, is_number, read_json, safe_id

FOLDERS = ("merged_anno", "merge_anno")
_VIDEO = re.compile(r"[A-Za-z0-9_-]{11}")
_NAMED = re.compile(r"(?P<video>[A-Za-z0-9_-]{11})_")
_SCORES = ("clear", "dover", "conf")


def find(root: Path, *, only_good: bool = False) -> Found:
    """The videos of a folder of annotations, each with its spans in `columns`.

    Args:
        only_good: clips of `SFT_set.json` alone.

    Raises:
        LayoutError: if it is not laid out like this.
    """
    folder = _folder(root)
    good = _good(root / "SFT_set.json") if only_good else None
    found = Found(lacks=["all media: the set has YouTube ids and annotations; `dyconv run` fetches what is still there"])
    spans: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.name.startswith("._") or (good is not None and path.stem not in good):
            continue
        try:
            span = span_of(read_json(path), path.stem, str(path.relative_to(root)))
        except LayoutError as error:
            found.problems.append(error.message)
            continue
        spans.setdefault(span.pop("video"), []).append(span)
    if not spans and not found.problems:
        raise LayoutError(f"{folder} holds no annotation", hint="unpack its tar_batch_*.tar.gz there")
    for video, rows in spans.items():
        rows.sort(key=lambda row: (row["start_s"], row["clip"]))
        length = sum(row["end_s"] - row["start_s"] for row in rows)
        columns = {"x_clips": str(len(rows)), "x_seconds": f"{length:.2f}"}
        found.talks.append(Talk(safe_id(video), note=video, columns=columns))
    found.spans = spans
    return found


def _folder(root: Path) -> Path:
    for name in FOLDERS:
        if (root / name).is_dir():
            return root / name
    return find_root(root, FOLDERS[:1])


def _good(path: Path) -> set[str]:
    data = read_json(path)
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise LayoutError(f"{path}: expected a list of names of clips")
    return set(data)


def span_of(data: Any, clip: str, where: str) -> dict[str, Any]:
    """One clip as a span of its video.

    Raises:
        LayoutError: naming what is not there.
    """
    if not isinstance(data, dict):
        raise LayoutError(f"{where}: expected an object, found {type(data).__name__}")
    named = _NAMED.match(clip)
    video = str(data.get("video_name") or (named["video"] if named else ""))
    if not _VIDEO.fullmatch(video):
        raise LayoutError(f"{where}: expected video_name to be a YouTube id, found {video[:40]!r}")
    start = next((data[name] for name in ("org_start_seconds", "start_seconds", "start") if name in data), None)
    length = data.get("duration")
    end = data.get("end_seconds", data.get("end")) if length is None else None
    if end is None and is_number(start) and is_number(length):
        end = start + length
    if not is_number(start) or not is_number(end) or not 0 <= start < end:
        raise LayoutError(f"{where}: expected a start and an end or duration in seconds, found {start!r} and {end!r}")
    speakers = data.get("speaker")
    box = data.get("bbox")
    return {
        "video": video,
        "clip": clip,
        "start_s": float(start),
        "end_s": float(end),
        "speakers": [str(one) for one in speakers] if isinstance(speakers, list) else [],
        "talking": bool(data.get("is_talking")),
        "box": [float(one) for one in box] if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) else None,
        **{name: float(data[name]) for name in _SCORES if is_number(data.get(name))},
    }
