"""Composes the demo conversation, whose truth is known, from what installed packages bring along.

    python -m pipelines.make_demo --out out/demo/media

Nothing is downloaded or redistributed: the speech is the two-speaker telephone sample of pyannote.audio with its reference
turns (30 s), the faces are the astronaut's portrait of scikit-image and one person of a photograph of insightface. Each
face moves its mouth by its own speaker's part of the sample. Shots of both side by side alternate with single shots, of
the one who speaks and once of the one who listens. The voices alone are not part of the truth: where both speak at once,
a telephone mixture cannot be taken apart.
"""

from __future__ import annotations

import json
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dyconv.errors import UsageError
from dyconv.store import sha256_of, write_atomic
from dyconv.synth.motion import animate
from dyconv.synth.puppet import Portrait, portrait, read_picture
from dyconv.synth.render import Conversation, PhotoFigure, Shot, render
from dyconv.synth.sound import faded, read_sound
from dyconv.time import FPS, SAMPLE_RATE, sample_at, seconds
from dyconv.truth import FILE_NAME, TruthTurn

VERSION = 2  # of what this file composes: raise it when the result changes
PEOPLE = {"speaker90": "a", "speaker91": "b"}
WIDTH, HEIGHT = 1280, 720
FRIEND = (0, 205, 262, 700)  # x0, y0, x1, y1 of the one person of the group photograph who is used
SHOTS = (  # end in seconds, what is shown
    ("10.6", "two-shot"),
    ("14.56", "a"),
    ("18.04", "b"),
    ("21.72", "two-shot"),
    ("24.96", "b"),
    ("27.52", "a"),  # listens
    ("30", "two-shot"),
)
_STAMP = "composed.json"


def compose(out: Path) -> Path:
    """Compose the demo into the folder `out`, unless it is there already; gives the path of its truth.json."""
    if not _done(out):
        render(conversation(), out)
        stamp = {"version": VERSION, "media": sha256_of(out / "conversation.mp4"), "truth": sha256_of(out / FILE_NAME)}
        write_atomic(out / _STAMP, json.dumps(stamp).encode())
    return out / FILE_NAME


def _done(out: Path) -> bool:
    files = {name: out / name for name in (_STAMP, "conversation.mp4", FILE_NAME)}
    if not all(path.is_file() for path in files.values()):
        return False
    wanted = {"version": VERSION, "media": sha256_of(files["conversation.mp4"]), "truth": sha256_of(files[FILE_NAME])}
    return files[_STAMP].read_bytes() == json.dumps(wanted).encode()


def conversation() -> Conversation:
    """What the demo shows and lets hear, not yet rendered."""
    mix = read_sound(packaged("pyannote.audio", "sample/sample.wav"))
    turns = reference_turns(packaged("pyannote.audio", "sample/sample.rttm").read_text())
    frames = sum(1 for _ in range(0, len(mix), SAMPLE_RATE // FPS))
    own = {person: _gated(mix, turns, person) for person in PEOPLE.values()}
    faces = _faces()
    fps = Fraction(FPS)
    figures = {
        person: PhotoFigure(faces[person], animate(own[person], own[partner], fps, frames, 1, index))
        for index, (person, partner) in enumerate((("a", "b"), ("b", "a")))
    }
    return Conversation(figures, mix, turns, _shots(frames), "cuts", WIDTH, HEIGHT, fps)


def packaged(package: str, path: str) -> Path:
    """A data file that an installed package brings along, found without importing the package's heavy parts."""
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(root) / path).is_file():
            return found
    raise UsageError(
        f"{package} is installed without its {path}", hint=f"install it again: pip install --force-reinstall {package}"
    )


def reference_turns(rttm: str) -> tuple[TruthTurn, ...]:
    """Turns of an RTTM: SPEAKER <file> <channel> <start> <duration> <NA> <NA> <name> ..."""
    rows = [line.split() for line in rttm.splitlines() if line.startswith("SPEAKER")]
    spans = [(PEOPLE[row[7]], seconds(row[3]), seconds(row[4])) for row in rows]
    return tuple(TruthTurn(person, float(start), float(start + length)) for person, start, length in spans)


def _gated(mix: np.ndarray, turns: tuple[TruthTurn, ...], person: str) -> np.ndarray:
    """The mix where this person speaks, silence elsewhere: what moves the mouth."""
    out = np.zeros_like(mix)
    for turn in turns:
        if turn.person == person:
            start, stop = sample_at(seconds(turn.start)), sample_at(seconds(turn.end))
            out[start:stop] = faded(mix[start:stop], 0.03)
    return out


def _faces() -> dict[str, Portrait]:
    from dyconv.models.registry import load

    detector, landmarker = load("mediapipe_face"), load("mediapipe_mesh")
    astronaut = read_picture(packaged("skimage", "data/astronaut.png"))
    group = read_picture(packaged("insightface", "data/images/t1.jpg"))
    x0, y0, x1, y1 = FRIEND
    return {
        "a": portrait(astronaut, detector, landmarker, "the astronaut"),
        "b": portrait(np.ascontiguousarray(group[y0:y1, x0:x1]), detector, landmarker, "the group photograph"),
    }


def _shots(frames: int) -> list[Shot]:
    ends = [min(round(seconds(end) * FPS), frames) for end, _ in SHOTS]
    return [Shot(start, end, view) for start, end, (_, view) in zip([0, *ends], ends, SHOTS, strict=False)]


def main(out: Annotated[Path, typer.Option(help="folder for the media and its truth.json")] = Path("out/demo/media")) -> None:
    """Compose the demo conversation."""
    typer.echo(str(compose(out)))


if __name__ == "__main__":
    typer.run(main)
