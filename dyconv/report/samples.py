"""Sample frames for the page: small JPEG pictures as data URIs, with the boxes of faces and names drawn on."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np

from dyconv.faces import FaceArrays
from dyconv.ledger import Event, SourceLog, State
from dyconv.report.find import view_of
from dyconv.report.look import PERSON_COLOURS
from dyconv.report.numbers import Numbers, ended
from dyconv.report.view import ClipView
from dyconv.store import Store
from dyconv.time import frame_at, seconds

KEPT_SHOWN = 12
DROPPED_SHOWN = 12
PER_REASON = 3
WIDTH_PX = 320
_OTHER = "#b0b6bd"

Item = tuple[SourceLog, tuple[str, int], Event]


@dataclass(frozen=True)
class Sample:
    """A picture with what stands under it. `image` is a data URI, or "" where nothing can be shown."""

    id: str
    image: str
    line: str  # what it is, in a few words
    reason: str = ""
    stage: str = ""


def kept_samples(store: Store, numbers: Numbers) -> list[Sample]:
    """Kept clips spread evenly over the build."""
    samples: list[Sample] = []
    for log, (clip_id, level), _ in _spread(ended(numbers, State.KEPT), KEPT_SHOWN):
        view = view_of(store, log, clip_id, level)
        widths = ", ".join(f"{track.width:.0f}" for track in view.clip.tracks[:4])
        words = [view.clip.layout or "", f"{view.duration:.1f} s", f"faces {widths} px" if widths else ""]
        samples.append(Sample(clip_id, _image(view), ", ".join(word for word in words if word)))
    return samples


def dropped_samples(store: Store, numbers: Numbers) -> list[Sample]:
    """Dropped items, a few of each reason, those first that have a picture."""
    taken: Counter[str] = Counter()
    samples: list[Sample] = []
    for log, (clip_id, level), event in ended(numbers, State.DROPPED):
        reason = event.reason or ""
        if taken[reason] >= PER_REASON or len(samples) >= 3 * DROPPED_SHOWN:
            continue
        taken[reason] += 1
        view = view_of(store, log, clip_id, level)
        samples.append(Sample(clip_id, _image(view), event.detail or "", reason, event.stage or ""))
    samples.sort(key=lambda sample: not sample.image)
    return samples[:DROPPED_SHOWN]


def _spread(items: list[Item], count: int) -> list[Item]:
    if len(items) <= count:
        return items
    return [items[int(position)] for position in np.linspace(0, len(items) - 1, count)]


def _image(view: ClipView) -> str:
    time = view.duration / 2
    frames = view.frames([time])
    if not frames:
        return ""
    picture = draw(frames[0][1], view, view.faces(), time)
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def draw(picture: np.ndarray, view: ClipView, faces: dict[str, FaceArrays], time: float) -> bytes:
    """JPEG, `WIDTH_PX` wide, of a frame uint8 [H, W, 3] with the faces that are on it at `time`."""
    from PIL import Image, ImageDraw, ImageFont

    scale = WIDTH_PX / picture.shape[1]
    image = Image.fromarray(picture).resize((WIDTH_PX, max(1, round(picture.shape[0] * scale))), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(13)
    tracks = {track.id: track for track in view.clip.tracks}
    frame = frame_at(seconds(time))
    for name, found in sorted(faces.items()):
        row = found.row_at(frame)
        if row is None:
            continue
        track = tracks.get(name)
        person = track.person if track else None
        colour = PERSON_COLOURS.get(person or "", _OTHER)
        box = [float(value) * scale for value in found.boxes[row]]
        pen.rectangle(box, outline=colour, width=2)
        label = person or (track.identity if track else None) or name
        at = (box[0] + 1, max(box[1] - 17, 0))
        pen.rectangle(pen.textbbox(at, label, font=font), fill=colour)
        pen.text(at, label, fill="#ffffff", font=font)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
