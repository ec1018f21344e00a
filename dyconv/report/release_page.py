"""The page about a data set, a release's or a build's: what somebody looks at before using it. One HTML file, no network."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dyconv import __version__
from dyconv.records import PERSONS
from dyconv.report.look import PERSON_COLOURS
from dyconv.report.page import Card
from dyconv.report.plots import Bar, Histogram, bars, histogram
from dyconv.report.published import DYCONV_CROP_PX, SETS
from dyconv.report.release_faces import GESTURES
from dyconv.report.release_numbers import FAR_S, Dataset, Shown, read_dataset, responses
from dyconv.report.words import hours
from dyconv.store import Store, write_atomic

_SIDE = 150  # pixels of a face in the grid


def write_release_page(store: Store, to: Path) -> Path:
    """Write the page. The same data set gives the same bytes.

    Raises:
        UsageError: if nothing is packed.
        DyconvError: if what is packed is not what it says.
    """
    write_atomic(to, render(read_dataset(store)).encode())
    return to


def default_path(store: Store) -> Path:
    """Where the page goes: into a build, and beside a release, whose own files are fixed."""
    from dyconv.release.check import is_release

    name = store.root.rstrip("/").rsplit("/", 1)[-1]
    if store.remote:
        return Path(f"dataset-{name}.html")
    return Path(store.root).parent / f"dataset-{name}.html" if is_release(store) else Path(store.root) / "dataset.html"


def render(data: Dataset) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dyconv.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    groups = {name: [(item, histogram(item)) for item in items if item.values] for name, items in _histograms(data).items()}
    return environment.get_template("release.html.j2").render(
        data=data,
        version=__version__,
        cards=cards(data),
        groups=groups,
        expressions=_expressions(data),
        gestures=_gestures(data),
        rules=[(name, sign, least) for name, (_, sign, least) in GESTURES.items()],
        shown=[(one, _picture(one)) for one in data.shown],
        layouts=_counted(Counter(row["layout"] or "not known" for row in data.clips), "clips"),
        languages=_timed(data.languages),
        licences=_timed(data.licences),
        splits=sorted((data.about.get("splits") or {}).get("made", {}).items()),
        published=SETS,
        ours=ours(data),
        hours=hours,
        far=FAR_S,
    )


def cards(data: Dataset) -> list[Card]:
    """The few numbers that matter most."""
    found = responses(data.turns)
    both, spoken = data.summed("overlap_share"), sum(data.summed(f"{person}_speaking_share") for person in PERSONS)
    people = "not counted" if data.people is None else f"{data.people:,}"
    told = (
        "seen or heard; across sources as the leak test tells" if data.about else "seen or heard; told apart within a segment"
    )
    attributed = sum(turn["person"] is not None for turn in data.turns)
    middle = f"{np.median(found):+.2f} s" if found else "none"
    return [
        Card("length", hours(data.seconds), f"{len(data.clips):,} clips of {data.sources:,} sources"),
        Card("people", people, told if data.people is not None else f"{data.read:,} of {len(data.clips):,} clips were read"),
        Card("turns", f"{attributed:,}", f"in {data.turns_of:,} clips; {len(data.turns) - attributed:,} more given to nobody"),
        Card("speech", hours(spoken), f"of known people; both at once in {hours(both)}"),
        Card("response", middle, f"median of {len(found):,} changes of the floor"),
        Card("two faces", f"{_seen(data, 2):.0%}", f"of clips; {_seen(data, 1):.0%} show one, {_seen(data, 0):.0%} none"),
    ]


def _seen(data: Dataset, count: int) -> float:
    found = [sum(bool(row[f"{person}_seen"]) for person in PERSONS) == count for row in data.clips]
    return float(np.mean(found)) if found else 0.0


def _histograms(data: Dataset) -> dict[str, list[Histogram]]:
    """Distributions by section of the page."""
    faces, found = data.faces, responses(data.turns)
    by_row = [(row, person) for row in data.clips for person in PERSONS]
    speaking = [row[f"{person}_speaking_share"] for row, person in by_row if row[f"{person}_heard"]]
    bleed = [row[f"{person}_bleed_db"] for row, person in by_row if row[f"{person}_bleed_db"] is not None]
    length = [turn["end_s"] - turn["start_s"] for turn in data.turns if turn["person"] is not None]
    note = "From the end of one's turn to the start of the other's; below 0 they overlap."
    return {
        "talk": [
            Histogram("Clip duration", "seconds", [row["duration_s"] for row in data.clips], "clips", low=0),
            Histogram("Turn length", "seconds", length, "turns", low=0),
            Histogram("Response time", "seconds", found, "changes of the floor", note=note),
            Histogram("Overlap", "share of the clip", [row["overlap_share"] for row in data.clips], "clips", low=0),
            Histogram("Speaking share", "share of the clip", speaking, "people", low=0, high=1),
        ],
        "faces": [
            Histogram("Head yaw", "degrees, right of the picture positive", faces.yaw, "frames"),
            Histogram("Head pitch", "degrees, up positive", faces.pitch, "frames"),
            Histogram("Head roll", "degrees, clockwise positive", faces.roll, "frames"),
            Histogram("Turning", "degrees, deviation of yaw in a clip", faces.turning, "people", low=0),
        ],
        "quality": [
            Histogram("Width of the crop", "pixels of the video", faces.crop_px, "people", low=0, note=_above(faces.crop_px)),
            Histogram("Face found", "share of frames", faces.present, "people", low=0, high=1),
            Histogram("Light", "mean luma, 0 to 255", faces.light, "people", note="One frame a person."),
            Histogram("Sharpness", "variance of the Laplacian", faces.sharpness, "people", low=0, note="At 256 pixels."),
            Histogram("Bleed", "dB", bleed, "voices", note="Partner's level left in a voice."),
            Histogram("Separation", "dB SI-SDR, estimated", data.si_sdr_db, "voices", note="In overlap, by remixing."),
        ],
        "sync": [
            Histogram("Lips against voice", "frames of 25 a second", data.sync.get("lips_frames", []), "people"),
            Histogram("How sure", "0 to 1", data.sync.get("lips_sure", []), "people", low=0, high=1),
            Histogram("Sound as encoded", "milliseconds", data.sync.get("encoded_ms", []), "clips"),
        ],
    }


def _above(widths: Sequence[float]) -> str:
    share = float(np.mean(np.asarray(widths) >= DYCONV_CROP_PX)) if widths else 0.0
    return f"{share:.0%} are {DYCONV_CROP_PX} px or more, as DyConv's were published to be."


def _expressions(data: Dataset) -> Markup:
    """How far each expression moves: the median over people of its deviation in a clip."""
    found = {name: float(np.median(values)) * 100 for name, values in data.faces.moving.items()}
    rows = [
        Bar(name.replace("_", " "), [("time", value, f"{value:.2f}")], f"{value:.2f} % of the outer-eye distance")
        for name, value in sorted(found.items(), key=lambda item: -item[1])
    ]
    return bars(rows, max(found.values(), default=0.0), label_px=150, row_px=20)


def _gestures(data: Dataset) -> Markup:
    frames = max(data.faces.frames, 1)
    shares = {name: count / frames for name, count in data.faces.gestures.items()}
    rows = [
        Bar(name, [("out", share, f"{share:.1%}")], f"{share:.1%} of frames")
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    return bars(rows, max(shares.values(), default=0.0), label_px=190)


def _counted(counts: Counter[str], what: str) -> Markup:
    rows = [Bar(name, [("out", count, f"{count:,}")], f"{count:,} {what}") for name, count in counts.most_common(12)]
    return bars(rows, max(counts.values(), default=0), label_px=150)


def _timed(seconds: Counter[str]) -> Markup:
    rows = [Bar(name[:40], [("out", length, hours(length))], hours(length)) for name, length in seconds.most_common(12)]
    return bars(rows, max(seconds.values(), default=0), label_px=190)


def _picture(shown: Shown) -> str:
    """The people of a clip side by side as a data URI; "" where no picture is carried."""
    from PIL import Image, ImageDraw

    if not shown.frames:
        return ""
    sheet = Image.new("RGB", (_SIDE * len(shown.frames), _SIDE))
    pen = ImageDraw.Draw(sheet)
    for at, (person, frame) in enumerate(sorted(shown.frames.items())):
        sheet.paste(Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (at * _SIDE, 0))
        pen.rectangle((at * _SIDE, 0, at * _SIDE + 24, 15), fill=PERSON_COLOURS[person])
        pen.text((at * _SIDE + 4, 1), person, fill="#ffffff")
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ours(data: Dataset) -> dict[str, Any]:
    """This data set's row beside the published ones."""
    voices = any(row[f"{person}_bleed_db"] is not None for row in data.clips for person in PERSONS)
    length = f"{data.seconds / 3600:,.1f}" if data.seconds >= 3600 else f"{data.seconds / 3600:.3f}"
    return {
        "name": data.name,
        "hours": length,
        "clips": f"{len(data.clips):,}",
        "people": None if data.people is None else f"{data.people:,}",
        "voices": "one a person" if voices else "not measured",
        "note": ", ".join(sorted(data.licences)) or "no licence",
    }
