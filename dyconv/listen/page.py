"""The page of a clip: one HTML file with picture, sound and player inside, which asks nothing of any network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv import __version__
from dyconv.errors import DyconvError
from dyconv.ledger import State, clip_standings, read_ledger
from dyconv.listen.media import chances, faces, rows, seconds, small_video, turns
from dyconv.records import PERSONS, Clip
from dyconv.report.find import find
from dyconv.report.view import ClipView
from dyconv.store import Store

VENDOR = Path(__file__).parent / "vendor"
_SCRIPTS = ("wavesurfer.min.js", "regions.min.js", "timeline.min.js")
_ORDER = (State.KEPT, State.DROPPED, State.FAILED, State.PENDING)
_SHOWN = 60  # clips of a build that `write_pages` makes pages of, unless told otherwise


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    id: str
    state: str
    reason: str
    seconds: float
    link: str


def write_page(view: ClipView, target: Path) -> Path:
    """Write the page of one clip and return its path.

    Raises:
        DyconvError: if the files of the player are not those that belong to this version, or the page cannot be written.
    """
    return _write(target, render(view))


def write_pages(store: Store, folder: Path, limit: int = _SHOWN) -> Path:
    """Write a page for each of the first `limit` clips of a build, kept ones first, and `index.html`, whose path it returns."""
    logs = read_ledger(store)
    found = [standing for log in logs.values() for standing in clip_standings(log)]
    found.sort(key=lambda standing: (_ORDER.index(standing.state), standing.id))
    entries = []
    for standing in found[:limit]:
        view = find(store, standing.id, {standing.source or "": logs[standing.source or ""]})
        write_page(view, folder / f"{view.clip.id}.html")
        entries.append(Entry(view.clip.id, view.state, view.reason or "", view.duration, f"{view.clip.id}.html"))
    page = _template("index.html.j2").render(
        store=str(store), entries=entries, more=len(found) - len(entries), version=__version__
    )
    return _write(folder / "index.html", page)


def render(view: ClipView) -> str:
    """The page as text. The same clip gives the same text."""
    clip = view.clip
    tracks = rows(view)
    video = small_video(view)
    data = {
        "duration": seconds(view),
        "tracks": [track.to_json() for track in tracks],
        "turns": turns(view),
        "faces": faces(view, video[1]) if video else [],
        "size": video[1] if video else [0, 0],
        "chances": chances(view),
    }
    return _template("listen.html.j2").render(
        clip=clip,
        view=view,
        tracks=tracks,
        video=video,
        data=data,
        people=_by_person(clip),
        measures=_of_the_clip(clip),
        vendor=_vendored(),
        version=__version__,
    )


def _by_person(clip: Clip) -> list[tuple[str, list[str]]]:
    """(name, value of p0 and of p1) of what is measured for each person: `p0.bleed_db`, `motion.p0.jump_share`."""
    found: dict[str, dict[str, str]] = {}
    for name, value in clip.measures.items():
        if person := _person_in(name):
            rest = ".".join(word for word in name.split(".") if word != person)
            found.setdefault(rest, {})[person] = _said(value)
    return [(name, [values.get(person, "") for person in PERSONS]) for name, values in sorted(found.items())]


def _of_the_clip(clip: Clip) -> list[tuple[str, str]]:
    return [(name, _said(value)) for name, value in sorted(clip.measures.items()) if not _person_in(name)]


def _person_in(name: str) -> str | None:
    return next((word for word in name.split(".") if word in PERSONS), None)


def _said(value: float | str | None) -> str:
    return "not known" if value is None else f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dyconv.listen"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


def _vendored() -> dict[str, Any]:
    """The player's scripts and licence, checked against the hashes written down when they were fetched."""
    try:
        known = json.loads((VENDOR / "vendor.json").read_text())
        texts = {name: (VENDOR / name).read_bytes() for name in known["files"]}
    except (OSError, ValueError, KeyError) as error:
        raise DyconvError(f"{VENDOR} lacks files of the player", hint="run: python -m pipelines.vendor") from error
    for name, text in texts.items():
        if hashlib.sha256(text).hexdigest() != known["files"][name]:
            raise DyconvError(f"{VENDOR / name} is not the file that was vendored", hint="run: python -m pipelines.vendor")
    scripts = [_inline(texts[name].decode()) for name in _SCRIPTS]
    return {**known, "scripts": scripts, "licence_text": texts["LICENSE.txt"].decode()}


def _inline(script: str) -> str:
    """A script that cannot end the element it stands in."""
    return script.replace("</", "<\\/")


def _write(target: Path, text: str) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DyconvError(f"cannot write {target}: {error.strerror}", hint="give --to a file that can be written") from error
    return target
