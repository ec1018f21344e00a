"""RealTalk (Geng et al. 2023): whole YouTube conversations of two, with one mixed sound.

Layout, as its users read it: `videos/<id>.mp4`, `speaker_labels/<id>.json` and `transcripts/<id>.json` (Whisper), `<id>` being
YouTube's. Labels are an object by frame number, `{"current_speaker": "p0" | "p1" | null, "people": {"p0": {"bbox":
[x0, y0, x1, y1]}}}`. They were made by an active speaker detector: they are kept beside the build in the format of known
truth, to be compared with our own (`dyconv score`), and are not taken for ours.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dyconv.importers.layout import Found, LayoutError, Talk, find_root, is_number, missing, read_json, safe_id

_PEOPLE = ("p0", "p1")
_FRAME = re.compile(r"[0-9]{1,9}")
_BOX_EVERY_S = 0.5
_GAP_S = 0.2  # frames without a label within a turn


def find(root: Path) -> Found:
    """The conversations of a folder. Labels and transcripts are optional, as downloads of the set are.

    Raises:
        LayoutError: if it is not laid out like this.
    """
    home = find_root(root, ("videos",), ("", "data/english", "english", "data"))
    found = Found(lacks=["separate voices, crops and turns: derived by our stages"])
    untold = 0
    for video in sorted((home / "videos").glob("*.mp4")):
        if lost := missing([video], home):
            found.problems += lost
            continue
        labels = home / "speaker_labels" / f"{video.stem}.json"
        try:
            if labels.is_file():
                check_labels(read_json(labels), str(labels.relative_to(home)))
            else:
                untold += 1
        except LayoutError as error:
            found.problems.append(error.message)
            continue
        found.talks.append(Talk(safe_id(video.stem), media=video))
    if not found.talks and not found.problems:
        raise LayoutError(f"{home}/videos holds no .mp4", hint="the set's videos are named by their YouTube id")
    if untold:
        found.lacks.append(f"speaker labels of {untold} videos: nothing to compare our turns with")
    return found


def check_labels(data: Any, where: str) -> dict[int, dict[str, Any]]:
    """Labels by frame number.

    Raises:
        LayoutError: naming the frame that is none.
    """
    if not isinstance(data, dict) or not data:
        raise LayoutError(f"{where}: expected an object with a label for each frame")
    out: dict[int, dict[str, Any]] = {}
    for frame, label in data.items():
        speaker = label.get("current_speaker") if isinstance(label, dict) else 0
        people = label.get("people") or {} if isinstance(label, dict) else None
        boxes = (
            [one.get("bbox") if isinstance(one, dict) else None for one in people.values()] if isinstance(people, dict) else [0]
        )
        sound = all(box is None or (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))) for box in boxes)
        if not _FRAME.fullmatch(frame) or speaker not in (None, *_PEOPLE) or not sound:
            raise LayoutError(
                f"{where}, frame {frame[:20]}: expected current_speaker and people with bbox, found {str(label)[:80]}"
            )
        out[int(frame)] = label
    return dict(sorted(out.items()))


def truth_of(labels: dict[int, dict[str, Any]], media: str, fps: float, duration: float) -> dict[str, Any]:
    """Labels in the format of `dyconv.truth`: turns of the current speaker, boxes twice a second.

    Args:
        fps: of the video, by which frames are numbered.
    """
    last = int(duration * fps)
    shown = {frame: label for frame, label in labels.items() if frame < last}
    turns: list[dict[str, Any]] = []
    faces: list[dict[str, Any]] = []
    for person in _PEOPLE:
        talking = [frame for frame, label in shown.items() if label.get("current_speaker") == person]
        turns += [{"person": person, "start": a / fps, "end": (b + 1) / fps} for a, b in _runs(talking, round(_GAP_S * fps))]
        boxes = {
            frame: label["people"][person]["bbox"]
            for frame, label in shown.items()
            if (label.get("people") or {}).get(person, {}).get("bbox")
        }
        for start, end in _runs(sorted(boxes), 1):
            step = max(1, round(_BOX_EVERY_S * fps))
            rows = [[frame / fps, *map(float, boxes[frame])] for frame in range(start, end + 1, step)]
            faces.append({"person": person, "start": start / fps, "end": (end + 1) / fps, "boxes": rows})
    turns.sort(key=lambda turn: (turn["start"], turn["person"]))
    return {"version": 1, "media": media, "duration": duration, "people": list(_PEOPLE), "turns": turns, "faces": faces}


def _runs(frames: list[int], gap: int) -> list[tuple[int, int]]:
    """First and last of runs in which no more than `gap` numbers are left out."""
    out: list[tuple[int, int]] = []
    for frame in frames:
        if out and frame - out[-1][1] <= max(1, gap):
            out[-1] = (out[-1][0], frame)
        else:
            out.append((frame, frame))
    return out
