"""The picture of a clip: frames with faces and names on top, and everything that has a time below on one axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.faces import FaceArrays
from dyconv.records import PERSONS, Clip, Key, Track
from dyconv.report.look import NOBODY, OTHER_FACES, PERSON_COLOURS, VAD, bare, figure, person_colour
from dyconv.report.view import ClipView, envelope, mouth_opening
from dyconv.time import FPS, frame_at, seconds

WIDTH_PX = 1600
FRAMES_SHOWN = 6
_LEFT, _RIGHT = 0.085, 0.985
_ROW_GAP = 12  # pixels
_COLUMNS = 1500  # of a waveform
_GAP_FRAMES = 4
_SHOWN_TRACKS = 12
Row = tuple[int, Callable[[Any], None]]  # height in pixels, and what draws on the axes
_STATE_COLOURS = {"kept": "#1a7f37", "dropped": "#9a6700", "failed": "#b42318", "pending": "#57606a", "passed": "#0969da"}


def draw_clip(view: ClipView, target: Path) -> None:
    """Write the picture of a clip as PNG. What the clip lacks is left out; what cannot be read is said at the bottom."""
    times = [view.duration * (k + 0.5) / FRAMES_SHOWN for k in range(FRAMES_SHOWN)]
    pictures = view.frames(times)
    faces = view.faces()
    rows = _rows(view, faces)

    frame_px = _frame_height(pictures)
    title_px, footer_px = 112, 48 + 16 * len(view.notes)
    height_px = title_px + frame_px + 16 + sum(height + _ROW_GAP for height, _ in rows) + footer_px
    sheet = figure(WIDTH_PX, height_px)
    _title(sheet, view, height_px)
    if pictures:
        _frames(sheet, view.clip, pictures, faces, 1 - title_px / height_px, frame_px / height_px)
    _draw_rows(sheet, view, rows, title_px + frame_px + 16, height_px)
    for number, note in enumerate(view.notes):
        sheet.text(
            _LEFT, (8 + 16 * number) / height_px, f"cannot be read: {note}", fontsize=8, color="#b42318", parse_math=False
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(target, format="png", metadata={"Software": "dyconv"})


def _draw_rows(sheet: Any, view: ClipView, rows: list[Row], top_px: int, height_px: int) -> None:
    """The rows below one another on one time axis, from `top_px` pixels under the top."""
    used = top_px
    for height, draw in rows:
        used += height
        axes = sheet.add_axes((_LEFT, 1 - used / height_px, _RIGHT - _LEFT, height / height_px))
        bare(axes)
        draw(axes)
        axes.set_xlim(0, view.duration)
        for shot in view.clip.shots[1:]:
            axes.axvline(float(shot.start), color="#111", linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.6)
        axes.tick_params(labelbottom=False)
        used += _ROW_GAP
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("seconds from the clip's start", fontsize=9)


def _title(sheet: Any, view: ClipView, height_px: int) -> None:
    clip = view.clip
    outcome = view.state + (f" at {view.stage}" if view.stage and view.state != "kept" else "")
    left = 16 / WIDTH_PX
    sheet.text(left, 1 - 26 / height_px, clip.id, fontsize=15, weight="bold", parse_math=False, va="center")
    badge = {"boxstyle": "round,pad=0.35", "facecolor": _STATE_COLOURS.get(view.state, NOBODY), "edgecolor": "none"}
    sheet.text(
        1 - left, 1 - 26 / height_px, outcome, fontsize=11, color="white", weight="bold", ha="right", va="center", bbox=badge
    )
    about = [clip.source.title or clip.source.id, f"source clock {clip.span}", f"layout {clip.layout or 'not known yet'}"]
    about += [f"{person.id}: {_said(person.seen, 'seen')}, {_said(person.heard, 'heard')}" for person in clip.people]
    sheet.text(left, 1 - 52 / height_px, "   ·   ".join(about)[:230], fontsize=9.5, parse_math=False, va="center", color="#333")
    if view.reason:
        text = view.reason.strip().splitlines()[-1] if view.state == "failed" else view.reason.strip().splitlines()[0]
        sheet.text(
            left, 1 - 74 / height_px, text[:220], fontsize=9.5, parse_math=False, va="center", color=_STATE_COLOURS[view.state]
        )
    else:
        sheet.text(left, 1 - 74 / height_px, _measures(clip), fontsize=8.5, parse_math=False, va="center", color="#57606a")


def _said(yes: bool, what: str) -> str:
    return what if yes else f"not {what}"


def _measures(clip: Clip) -> str:
    shown = []
    for name, value in sorted(clip.measures.items()):
        if name.endswith("hash"):
            continue
        shown.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return "   ".join(shown)[:240]


def _frame_height(pictures: list[tuple[float, np.ndarray]]) -> int:
    if not pictures:
        return 0
    height, width = pictures[0][1].shape[:2]
    column = WIDTH_PX * (_RIGHT - 0.01) / max(len(pictures), 3) - 6
    return int(min(column * height / width, 460))


def _frames(
    sheet: Any, clip: Clip, pictures: list[tuple[float, np.ndarray]], faces: dict[str, FaceArrays], top: float, height: float
) -> None:
    tracks = {track.id: track for track in clip.tracks}
    column = (_RIGHT - 0.01) / max(len(pictures), 3)
    for number, (time, picture) in enumerate(pictures):
        axes = sheet.add_axes((0.01 + number * column, top - height, column - 6 / WIDTH_PX, height))
        axes.imshow(picture, interpolation="antialiased")
        axes.set_anchor("N")
        axes.set_xlim(-0.5, picture.shape[1] - 0.5)
        axes.set_ylim(picture.shape[0] - 0.5, -0.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{time:.2f} s · {picture.shape[1]}x{picture.shape[0]}", fontsize=8, pad=3)
        for order, (track_id, track_faces) in enumerate(sorted(faces.items())):
            row = track_faces.row_at(frame_at(seconds(time)))
            if row is not None:
                _face(axes, track_faces, row, *_name(clip, tracks.get(track_id), track_id, order, time))


def _name(clip: Clip, track: Track | None, track_id: str, order: int, time: float) -> tuple[str, str, bool]:
    """(name to write, colour, speaking now) of a track."""
    person = track.person if track else None
    identity = track.identity if track else None
    speaking = any(turn.person == person and turn.span.start <= time < turn.span.end for turn in clip.turns if person)
    name = " ".join(word for word in (person, identity) if word) or track_id
    return name, PERSON_COLOURS.get(person or "", OTHER_FACES[order % len(OTHER_FACES)]), speaking


def _face(axes: Any, faces: FaceArrays, at: int, name: str, colour: str, speaking: bool) -> None:
    x0, y0, x1, y1 = (float(value) for value in faces.boxes[at])
    points = faces.landmarks[at, :, :2]
    axes.scatter(points[:, 0], points[:, 1], s=0.6, color=colour, alpha=0.55, linewidths=0)
    axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, linewidth=2.6 if speaking else 1.2)
    label = f"{name} speaks" if speaking else name
    axes.text(
        x0,
        max(y0, 0.06 * axes.get_ylim()[0]),
        label,
        fontsize=7.5,
        color="white",
        va="bottom",
        parse_math=False,
        clip_on=True,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": colour, "edgecolor": "none"},
    )


def _rows(view: ClipView, faces: dict[str, FaceArrays]) -> list[Row]:
    """A row for each thing that has a time."""
    clip = view.clip
    rows: list[Row] = []
    if clip.shots:
        rows.append((26, lambda axes: _shots(axes, clip)))
    if clip.tracks:
        rows.append((16 * min(len(clip.tracks), _SHOWN_TRACKS) + 8, lambda axes: _tracks(axes, clip)))
    if clip.turns:
        rows.append((74, lambda axes: _turns(axes, clip)))
    sounds = [("mix", Key.MIX, "#444"), *((person, Key.of(person, "voice"), PERSON_COLOURS[person]) for person in PERSONS)]
    for name, key, colour in sounds:
        if (samples := view.sound(key)) is not None and len(samples):
            rows.append((70, _Waveform(name, samples, colour, view.duration)))
    if arrays := view.speech():
        rows.append((84, lambda axes: _posteriors(axes, arrays)))
    if any(len(track) for track in faces.values()):
        rows.append((84, lambda axes: _mouths(axes, clip, faces)))
    return rows or [(40, _nothing)]


def _nothing(axes: Any) -> None:
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, "nothing was made of it before it ended", fontsize=9, ha="center", va="center", transform=axes.transAxes
    )


def _label(axes: Any, text: str) -> None:
    axes.text(-0.038, 0.5, text, fontsize=8.5, ha="right", va="center", transform=axes.transAxes, parse_math=False)


class _Waveform:
    def __init__(self, name: str, samples: np.ndarray, colour: str, duration: float) -> None:
        self.name, self.colour, self.duration = name, colour, duration
        self.low, self.high = envelope(samples, _COLUMNS)
        self.seconds = len(samples) / 16_000

    def __call__(self, axes: Any) -> None:
        along = np.linspace(0, self.seconds, len(self.low), endpoint=False)
        axes.fill_between(along, self.low, self.high, color=self.colour, linewidth=0.3)
        loudest = max(0.05, float(np.abs(self.high).max(initial=0)), float(np.abs(self.low).max(initial=0)))
        axes.set_ylim(-loudest, loudest)
        axes.set_yticks([-loudest, 0, loudest], [f"-{loudest:.2f}", "0", f"{loudest:.2f}"])
        _label(axes, self.name)


def _shots(axes: Any, clip: Clip) -> None:
    for number, shot in enumerate(clip.shots):
        start, length = float(shot.start), float(shot.duration)
        axes.broken_barh(
            [(start, length)], (0, 1), facecolor="#d0d7de" if number % 2 else "#eaeef2", edgecolor="#8c959f", lw=0.5
        )
        axes.text(start + length / 2, 0.5, f"{number}", fontsize=8, ha="center", va="center", clip_on=True)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    _label(axes, "shots")


def _tracks(axes: Any, clip: Clip) -> None:
    shown = clip.tracks[:_SHOWN_TRACKS]
    for row, track in enumerate(shown):
        colour = PERSON_COLOURS.get(track.person or "", OTHER_FACES[row % len(OTHER_FACES)])
        axes.broken_barh(
            [(track.start / FPS, (track.end - track.start) / FPS)], (row + 0.15, 0.7), facecolor=colour, alpha=0.45
        )
        words = [f"{track.identity or ''} {track.width:.0f} px, found in {track.coverage:.0%}".strip()]
        axes.text(track.start / FPS, row + 0.5, " " + " ".join(words), fontsize=7, va="center", clip_on=True, parse_math=False)
    axes.set_ylim(len(shown), 0)
    axes.set_yticks([row + 0.5 for row in range(len(shown))], [track.id for track in shown], fontsize=7)
    _label(axes, "faces")


def _turns(axes: Any, clip: Clip) -> None:
    rows = {"p0": 0, "p1": 1, None: 2}
    for turn in clip.turns:
        row, colour = rows.get(turn.person, 2), person_colour(turn.person)
        bar = [(float(turn.span.start), float(turn.span.duration))]
        if turn.unsure:
            axes.broken_barh(bar, (row + 0.12, 0.76), facecolor="none", edgecolor=colour, hatch="////", linewidth=0.6)
        else:
            alpha = 0.25 + 0.75 * float(np.clip(turn.confidence, 0, 1))
            axes.broken_barh(bar, (row + 0.12, 0.76), facecolor=colour, alpha=alpha, linewidth=0)
    axes.set_ylim(3, 0)
    axes.set_yticks([0.5, 1.5, 2.5], ["p0", "p1", "nobody"], fontsize=8)
    _label(axes, "turns" if not any(turn.unsure for turn in clip.turns) else "turns\n(unsure\nhatched)")


def _posteriors(axes: Any, arrays: dict[str, np.ndarray]) -> None:
    if "vad" in arrays:
        along = np.arange(len(arrays["vad"])) / FPS
        axes.fill_between(along, 0, arrays["vad"], color=VAD, alpha=0.25, linewidth=0, label="vad")
    for name in (*PERSONS, "unsure"):
        if name in arrays:
            style = {"linestyle": ":"} if name == "unsure" else {}
            axes.plot(np.arange(len(arrays[name])) / FPS, arrays[name], color=person_colour(name), lw=1, label=name, **style)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])
    axes.legend(loc="upper right", fontsize=7, ncols=4, frameon=True, framealpha=0.75, borderpad=0.2, handlelength=1.2)
    _label(axes, "speech\nprobability")


def _mouths(axes: Any, clip: Clip, faces: dict[str, FaceArrays]) -> None:
    tracks = {track.id: track for track in clip.tracks}
    for order, (track_id, track_faces) in enumerate(sorted(faces.items())):
        frames, opening = mouth_opening(track_faces)
        name, colour, _ = _name(clip, tracks.get(track_id), track_id, order, -1.0)
        gaps = np.where(np.diff(frames) > _GAP_FRAMES)[0] + 1  # no line across frames in which the face was not found
        axes.plot(np.insert(frames / FPS, gaps, np.nan), np.insert(opening, gaps, np.nan), color=colour, lw=0.9, label=name)
    axes.set_ylim(bottom=0)
    if len(faces) <= 6:
        axes.legend(loc="upper right", fontsize=7, ncols=6, frameon=True, framealpha=0.75, borderpad=0.2, handlelength=1.2)
    _label(axes, "mouth gap /\neye distance")
