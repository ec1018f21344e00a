"""Draws a planned conversation and writes it: the media file, the voices, and the truth that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import av
import numpy as np

from dyconv.media.audio import write_audio
from dyconv.media.x264 import SAME_EVERYWHERE, THREADS
from dyconv.synth.layouts import Panel, panels, paste, stage, toned, tones
from dyconv.synth.motion import Motion
from dyconv.synth.puppet import Portrait, Puppet
from dyconv.time import SAMPLE_RATE
from dyconv.truth import FILE_NAME, Truth, TruthFace, TruthTurn, write_truth

SOUNDS = {"aac": "mp4", "flac": "mkv", "pcm": "mov"}  # sound codec -> container
_AAC_RATE = 48_000
_BOX_S = 0.2  # seconds between truth boxes


class Picture(Protocol):
    """One person in one panel, frame by frame."""

    def draw(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The panel's picture uint8 RGB [H, W, 3], and the points [n, 2] of the face's mesh in its pixels."""
        ...


class Figure(Protocol):
    """One person, who can be shown in any panel."""

    def still(self, panel: Panel) -> np.ndarray:
        """What the panel looks like before anything moves: uint8 RGB [H, W, 3]."""
        ...

    def picture(self, panel: Panel, tone: np.ndarray | None) -> Picture:
        """The person in this panel, with its colours changed by a table of `layouts.tones`."""
        ...


@dataclass(frozen=True)
class PhotoFigure:
    """A photograph that moves."""

    portrait: Portrait
    motion: Motion

    def still(self, panel: Panel) -> np.ndarray:
        return stage(self.portrait, panel)[0]

    def picture(self, panel: Panel, tone: np.ndarray | None) -> Picture:
        canvas, points = stage(self.portrait, panel)
        return Puppet(canvas if tone is None else toned(canvas, tone), points, self.motion)


@dataclass(frozen=True)
class Shot:
    """Frames `[start, stop)` of the output and the view they show (see `layouts`)."""

    start: int
    stop: int
    view: str


@dataclass(frozen=True)
class Conversation:
    """Everything that is drawn, heard and written as truth.

    Attributes:
        figures: the two people, in the order in which layouts place them.
        mix: what is heard, float32 [N] mono 16 kHz, as long as the picture.
        voices: each voice alone as it is in the mix, float32 [N]; empty where that is not known.
        shots: cover the picture without a gap.
        layout: as in truth.json.
    """

    figures: Mapping[str, Figure]
    mix: np.ndarray
    turns: Sequence[TruthTurn]
    shots: Sequence[Shot]
    layout: str
    width: int
    height: int
    fps: Fraction
    voices: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return self.shots[-1].stop


def render(conversation: Conversation, out: Path, *, sound: str = "aac") -> Path:
    """Write `conversation.<ext>`, the voices and `truth.json` into the folder `out`; gives the path of the truth.

    The same conversation gives the same bytes. The truth is written last: where it is, the rest is complete.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE_NAME).unlink(missing_ok=True)
    media = out / f"conversation.{SOUNDS[sound]}"
    faces: list[TruthFace] = []
    with _Writer(media, conversation, sound) as writer:
        for shot in conversation.shots:
            faces += _draw_shot(conversation, shot, writer)
    for person, voice in conversation.voices.items():
        write_audio(out / f"{person}.wav", voice)
    truth = Truth(
        media=media.name,
        duration=float(conversation.frames / conversation.fps),
        layout=conversation.layout,
        people=tuple(conversation.figures),
        cuts=tuple(float(shot.start / conversation.fps) for shot in conversation.shots[1:]),
        turns=tuple(conversation.turns),
        faces=tuple(faces),
        voices={person: f"{person}.wav" for person in conversation.voices},
    )
    write_truth(out / FILE_NAME, truth)
    return out / FILE_NAME


def _draw_shot(conversation: Conversation, shot: Shot, writer: _Writer) -> list[TruthFace]:
    """Draw one shot into the writer; gives the faces seen in it."""
    size = conversation.width, conversation.height
    placed = panels(shot.view, list(conversation.figures), *size)
    table: dict[str, np.ndarray] = {}
    if shot.view == "two-shot":
        table = tones({panel.person: conversation.figures[panel.person].still(panel) for panel in placed})
    pictures = [conversation.figures[panel.person].picture(panel, table.get(panel.person)) for panel in placed]
    every = max(1, int(_BOX_S * conversation.fps))
    boxes: list[list[tuple[float, float, float, float, float]]] = [[] for _ in placed]
    for frame in range(shot.start, shot.stop):
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        for panel, picture, found in zip(placed, pictures, boxes, strict=True):
            drawn, mesh = picture.draw(frame)
            paste(canvas, drawn, panel)
            if (frame - shot.start) % every == 0:
                found.append((float(frame / conversation.fps), *_box(mesh, panel)))
        writer.write(canvas)
    start, end = float(shot.start / conversation.fps), float(shot.stop / conversation.fps)
    return [TruthFace(panel.person, start, end, tuple(found)) for panel, found in zip(placed, boxes, strict=True)]


def _box(mesh: np.ndarray, panel: Panel) -> tuple[float, float, float, float]:
    """Tight box of points [n, 2] of a panel, in pixels of the whole picture and inside the panel."""
    corner = np.array([panel.x, panel.y])
    low = np.maximum(mesh.min(0), 0) + corner
    high = np.minimum(mesh.max(0), [panel.width, panel.height]) + corner
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class _Writer:
    """Picture and sound into one file, in step, so that neither waits for the other in memory."""

    def __init__(self, path: Path, conversation: Conversation, sound: str) -> None:
        self._fps = conversation.fps
        self._count = 0
        self._container = av.open(str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"})
        video = self._container.add_stream("libx264", rate=self._fps)
        video.width, video.height, video.pix_fmt = conversation.width, conversation.height, "yuv420p"
        video.codec_context.time_base = 1 / self._fps
        video.codec_context.thread_count = THREADS
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        video.options = {"preset": "veryfast", "crf": "18", "x264-params": SAME_EVERYWHERE}
        self._video = video
        self._rate = _AAC_RATE if sound == "aac" else SAMPLE_RATE
        self._samples = _upsampled(conversation.mix, self._rate // SAMPLE_RATE)
        self._heard = 0
        self._format = "fltp" if sound == "aac" else "s16"
        name = {"aac": "aac", "flac": "flac", "pcm": "pcm_s16le"}[sound]
        audio: Any = self._container.add_stream(name, rate=self._rate, layout="mono", format=self._format)
        audio.codec_context.flags |= av.codec.context.Flags.bitexact
        if sound == "aac":
            audio.bit_rate = 128_000
        self._audio = audio

    def write(self, picture: np.ndarray) -> None:
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self._count, 1 / self._fps
        self._container.mux(self._video.encode(frame))
        self._count += 1
        self._sound(int(self._count / self._fps * self._rate))

    def _sound(self, until: int) -> None:
        part = self._samples[self._heard : until]
        if not len(part):
            return
        if self._format == "s16":
            part = np.clip(np.rint(part * 32767.0), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None]), format=self._format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._heard, Fraction(1, self._rate)
        self._container.mux(self._audio.encode(frame))
        self._heard += len(part)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._sound(len(self._samples))
            self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
        self._container.close()


def _upsampled(samples: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return samples
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(samples, factor, 1), np.float32)
