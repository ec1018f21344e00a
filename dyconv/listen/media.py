"""What of a clip goes into its page: a small copy of the picture, the tracks as they are stored, and faces by frame."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv.media.video import VideoWriter, frame_size, read_frames
from dyconv.records import PERSONS, Key
from dyconv.report.look import OTHER_FACES, person_colour
from dyconv.report.view import UNREADABLE, ClipView
from dyconv.time import SAMPLE_RATE

HEIGHT = 360  # of the picture in a page, pixels: a minute of it stays within a few megabytes
_CRF = 27
_ROUND = 2  # decimals of seconds


@dataclass(frozen=True)
class Row:
    """One track of the page.

    Attributes:
        data: the FLAC file in base64.
        heard: whether it is heard before anybody pressed a button.
    """

    id: str
    label: str
    person: str | None
    colour: str
    data: str
    heard: bool

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("id", "label", "person", "colour", "heard")}


def rows(view: ClipView) -> list[Row]:
    """The mix, the mix after clean-up where that changed it, and each voice, as far as the clip has them."""
    voices = [(person, person, person, Key.of(person, "voice")) for person in PERSONS]
    wanted = [("mix", "mix", None, Key.MIX), ("clean", "mix, cleaned", None, Key.CLEAN), *voices]
    out: list[Row] = []
    for name, label, person, key in wanted:
        ref, mix = view.clip.assets.get(key), view.clip.assets.get(Key.MIX)
        if key is Key.CLEAN and ref and mix and ref.sha256 == mix.sha256:
            continue
        path = view.path(key)
        if path is None or view.sound(key) is None:
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        out.append(Row(name, label, person, person_colour(person), data, heard=not out))
    return out


def small_video(view: ClipView) -> tuple[str, tuple[int, int]] | None:
    """(mp4 in base64, its size in pixels) of the clip's picture; None before it is normalized, or where it is damaged."""
    path = view.path(Key.VIDEO)
    if path is None:
        return None
    try:
        width, height = frame_size(path)
        tall = min(HEIGHT, height) // 2 * 2
        size = (max(2, 2 * round(width * tall / height / 2)), tall)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "small.mp4"
            with VideoWriter(copy, *size, crf=_CRF) as writer:
                for frame in read_frames(path, size=size):
                    writer.write(frame)
            return base64.b64encode(copy.read_bytes()).decode(), size
    except UNREADABLE as error:
        view.note(Key.VIDEO, error)
        return None


def faces(view: ClipView, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Boxes of every track in pixels of a picture of that size, by 25 fps frame."""
    path = view.path(Key.VIDEO)
    if path is None:
        return []
    scale = size[1] / frame_size(path)[1]
    known = {track.id: track.person for track in view.clip.tracks}
    out = []
    for number, (name, found) in enumerate(sorted(view.faces().items())):
        person = known.get(name)
        colour = person_colour(person) if person else OTHER_FACES[number % len(OTHER_FACES)]
        boxes = (found.boxes * scale).round().astype(int).tolist()
        out.append(
            {"name": person or name, "person": person, "colour": colour, "frames": found.frames.tolist(), "boxes": boxes}
        )
    return out


def turns(view: ClipView) -> list[dict[str, Any]]:
    """The clip's turns, seconds on its own clock."""
    return [
        {
            "person": turn.person,
            "start": round(float(turn.span.start), _ROUND),
            "end": round(float(turn.span.end), _ROUND),
            "confidence": round(turn.confidence, _ROUND),
            "agreement": None if turn.agreement is None else round(turn.agreement, _ROUND),
            "unsure": turn.unsure,
            "colour": person_colour(turn.person),
        }
        for turn in sorted(view.clip.turns, key=lambda turn: (turn.span.start, turn.person or ""))
    ]


def chances(view: ClipView) -> dict[str, list[int]]:
    """Probability that each person speaks, in percent, one a 25 fps frame."""
    speech = view.speech()
    return {person: (speech[person] * 100).round().astype(int).tolist() for person in PERSONS if person in speech}


def seconds(view: ClipView) -> float:
    """Length of the clip's sound, or of the clip where it has none."""
    mix = view.sound(Key.MIX)
    return view.duration if mix is None else len(mix) / SAMPLE_RATE
