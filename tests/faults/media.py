"""Small real media: parts of the composed conversation of `make demo`, and a long film that is made in seconds."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dyconv.synth.motion import Motion
from dyconv.synth.render import Conversation, PhotoFigure, Shot, render
from dyconv.time import FPS, SAMPLE_RATE
from dyconv.truth import TruthTurn

WIDTH, HEIGHT = 640, 360
PARTS = {  # name -> second it begins at, and its shots (length in seconds, what is shown)
    "talk": (Fraction("8.2"), ((Fraction(4), "two-shot"), (Fraction(3), "b"))),
    "more": (Fraction("20.0"), ((Fraction(4), "two-shot"),)),
}
RATE = 48_000


def compose(folder: Path) -> dict[str, Path]:
    """Render the parts of the conversation, by name: two people, two shots and two to four seconds a clip."""
    from pipelines.make_demo import conversation

    whole = conversation()
    found = {}
    for name, (start, shots) in PARTS.items():
        render(part(whole, start, shots), folder / name)
        found[name] = (folder / name / "conversation.mp4").rename(folder / f"{name}.mp4")
    return found


def part(whole: Conversation, start: Fraction, shots: tuple[tuple[Fraction, str], ...]) -> Conversation:
    """The seconds of a conversation from `start` on, as a conversation of its own in a small picture."""
    ends = [int(sum((length for length, _ in shots[: n + 1]), Fraction(0)) * FPS) for n in range(len(shots))]
    first, stop = int(start * FPS), int(start * FPS) + ends[-1]
    figures = {}
    for name, figure in whole.figures.items():
        assert isinstance(figure, PhotoFigure)
        motion = Motion(*(getattr(figure.motion, field.name)[first:stop] for field in fields(Motion)))
        figures[name] = PhotoFigure(figure.portrait, motion)
    begin, end = float(start), float(Fraction(stop, FPS))
    turns = [
        TruthTurn(turn.person, round(max(turn.start, begin) - begin, 3), round(min(turn.end, end) - begin, 3))
        for turn in whole.turns
        if turn.start < end and turn.end > begin
    ]
    return replace(
        whole,
        figures=figures,
        mix=whole.mix[first * SAMPLE_RATE // FPS : stop * SAMPLE_RATE // FPS],
        turns=turns,
        shots=[Shot(a, b, view) for a, b, (_, view) in zip([0, *ends], ends, shots, strict=False)],
        width=WIDTH,
        height=HEIGHT,
    )


def film(path: Path, seconds: int, *, fps: int = 10, shot_s: int = 2) -> Path:
    """A film of `seconds` with sound: 160x90, a still picture a shot, and a tone that changes with it."""
    width, height = 160, 90
    rng = np.random.default_rng(5)
    path.parent.mkdir(parents=True, exist_ok=True)
    phase = np.arange(RATE) / RATE
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "30"}
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        sound.bit_rate = 24_000
        for second in range(seconds):
            if second % shot_s == 0:
                coarse = rng.integers(20, 230, (9, 16, 3), dtype=np.uint8)
                picture = np.kron(coarse, np.ones((10, 10, 1), np.uint8))
                tone = (0.2 * np.sin(2 * np.pi * (200 + 20 * (second // shot_s)) * phase)).astype(np.float32)
            for index in range(fps):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = second * fps + index
                container.mux(video.encode(frame))
            samples = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = RATE, second * RATE
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def repeated(piece: Path, path: Path, times: int) -> Path:
    """A film that shows another again and again: its packets are copied, so that hours take seconds."""
    with av.open(str(piece)) as source, av.open(str(path), "w") as target:
        streams = [source.streams.video[0], source.streams.audio[0]]
        written = {stream.index: target.add_stream_from_template(stream) for stream in streams}
        length = Fraction(streams[0].frames) / Fraction(streams[0].average_rate or 1)
        # The sound begins before 0, with the encoder's delay, and must end by as much before the picture.
        begin = min(0, streams[1].start_time or 0) - 1024
        packets = [
            packet
            for packet in source.demux(streams)
            if packet.dts is not None and (packet.stream is streams[0] or packet.dts < length / packet.time_base + begin)
        ]
        for turn in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                shift = int(turn * length / packet.time_base)
                copy.pts, copy.dts, copy.duration = packet.pts + shift, packet.dts + shift, packet.duration
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.stream = written[packet.stream.index]
                target.mux(copy)
    return path
