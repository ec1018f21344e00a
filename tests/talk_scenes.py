"""Composed conversations that something is wrong with, each with its truth: photographs and packaged telephone speech.

`scene(name, folder)` writes media and truth.json. Most share one picture, drawn once, under different sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np

from dyconv.media.audio import write_audio
from dyconv.media.video import VideoWriter
from dyconv.synth.compose import Cabinet, Options, PersonInput, arrange
from dyconv.synth.layouts import Panel, paste
from dyconv.synth.motion import animate
from dyconv.synth.puppet import portrait, read_picture
from dyconv.synth.render import Conversation, PhotoFigure, Shot, render
from dyconv.synth.sound import add_noise, leveled, read_sound, utterances
from dyconv.time import FPS, SAMPLE_RATE
from dyconv.truth import FILE_NAME, Truth, TruthFace, TruthTurn, read_truth, write_truth
from pipelines.make_demo import packaged
from pipelines.quality.composing import shifted, telephone, with_heard_turns
from pipelines.quality.identities import CLIPS, packaged_cast

SECONDS = 9.0
SIZE = (480, 270)
THIRD = (400, 215, 640, 560)  # of the group photograph
SHIFTS_MS = (40, 80, 200)


@dataclass(frozen=True)
class Scene:
    """Media to download, and what it holds."""

    media: Path
    truth: Path


def resound(media: Path, out: Path, channels: np.ndarray) -> None:
    """Copy the picture packet by packet and put other sound under it: float32 [C, N] at 16 kHz, one or two channels."""
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    with av.open(str(media)) as source, av.open(str(out), "w") as target:
        seen = source.streams.video[0]
        video = target.add_stream_from_template(seen)
        sound = target.add_stream("aac", rate=48_000, layout=layout)
        sound.bit_rate = 192_000
        for packet in source.demux(seen):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        frame = av.AudioFrame.from_ndarray(_upsampled(channels), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        target.mux(sound.encode(frame))
        target.mux(sound.encode(None))


def _upsampled(channels: np.ndarray) -> np.ndarray:
    from scipy.signal import resample_poly

    return np.ascontiguousarray(resample_poly(channels, 3, 1, axis=1), np.float32)


class Studio:
    """Makes scenes in a folder; people are found and the common picture is drawn once."""

    def __init__(self, folder: Path, real: Path | None = None) -> None:
        self.folder = folder
        self._real = real
        self._cast = packaged_cast(folder / "sounds").people
        self._cabinet = Cabinet()

    @cached_property
    def talk(self) -> Conversation:
        return self._arranged()

    def _arranged(self, *, b: PersonInput | None = None, **options: object) -> Conversation:
        wanted = Options(**{"width": SIZE[0], "height": SIZE[1], "duration": SECONDS, "overlap": 0.0, "seed": 13, **options})
        return with_heard_turns(arrange(self._cast["a"], b or self._cast["b"], wanted, self._cabinet))

    @cached_property
    def base(self) -> Path:
        return render(self.talk, self.folder / "base")

    def make(self, name: str) -> Scene:
        maker: Callable[[], Path] = getattr(self, f"_{name.replace('-', '_')}", None) or self._base
        truth = maker()
        return Scene(next(path for path in truth.parent.glob("conversation.*")), truth)

    def _base(self) -> Path:
        return self.base

    @cached_property
    def clips(self) -> Conversation:
        """Two real people out of clips that no model saw, 12 s."""
        assert self._real is not None
        a, b = (self._real / "heads" / f"{CLIPS[name]}.mp4" for name in ("desk", "reagan"))
        wanted = Options(width=SIZE[0], height=SIZE[1], duration=12.0, overlap=0.0, seed=1)
        return with_heard_turns(arrange(PersonInput(a), PersonInput(b, b.with_suffix(".wav")), wanted, self._cabinet))

    @cached_property
    def _drawn_clips(self) -> Path:
        return render(self.clips, self.folder / "clips")

    def _real_good(self) -> Path:
        return self._drawn_clips

    def _real_late_40(self) -> Path:
        return self._under("real-late-40", shifted(self.clips, 0.04), base=self._drawn_clips)

    def _real_late_80(self) -> Path:
        return self._under("real-late-80", shifted(self.clips, 0.08), base=self._drawn_clips)

    def _real_late_200(self) -> Path:
        return self._under("real-late-200", shifted(self.clips, 0.2), base=self._drawn_clips)

    def _under(
        self, name: str, conversation: Conversation, channels: np.ndarray | None = None, base: Path | None = None
    ) -> Path:
        """The common picture (or that of `base`) with other sound, and the truth that goes with it."""
        out = self.folder / name
        out.mkdir()
        base = base or self.base
        sound = conversation.mix[None] if channels is None else channels
        resound(base.parent / "conversation.mp4", out / "conversation.mp4", sound)
        truth = read_truth(base)
        write_truth(out / FILE_NAME, replace(truth, turns=tuple(conversation.turns), voices={}))
        return out / FILE_NAME

    # One sound under the common picture.

    def _laughter(self) -> Path:
        mix = self.talk.mix.copy()
        for at in (1.5, 5.0, 7.2):
            laugh = laughter(1.1)
            start = int(at * SAMPLE_RATE)
            mix[start : start + len(laugh)] += laugh[: len(mix) - start]
        return self._under("laughter", replace(self.talk, mix=mix))

    def _loud_music(self) -> Path:
        """Music 5 dB above the speech."""
        speech = self.talk.mix
        active = np.abs(speech) > 0.01
        mix = speech + add_noise(speech, active, music(len(speech)), -5.0)
        return self._under("loud-music", replace(self.talk, mix=(mix / np.abs(mix).max() * 0.9).astype(np.float32)))

    def _clipped(self) -> Path:
        mix = np.clip(self.talk.mix * (8.0 / np.abs(self.talk.mix).max()), -0.95, 0.95)
        return self._under("clipped", replace(self.talk, mix=mix.astype(np.float32)))

    def _dubbed(self) -> Path:
        """Other words, in other voices, where the lips move."""
        mix = np.zeros_like(self.talk.mix)
        for person, factor in (("a", 1.25), ("b", 0.8)):
            words = pitched(self._words(person), factor)[::-1]
            at = 0
            for turn in self.talk.turns:
                if turn.person == person:
                    start, stop = int(turn.start * SAMPLE_RATE), int(turn.end * SAMPLE_RATE)
                    mix[start:stop] += np.take(words, np.arange(at, at + stop - start), mode="wrap")
                    at += stop - start
        return self._under("dubbed", replace(self.talk, mix=mix))

    def _words(self, person: str) -> np.ndarray:
        samples = read_sound(self._cast[person].voice or Path())
        return leveled(samples, utterances(samples))

    def _narrow(self) -> Path:
        return self._under("narrow", telephone(self.talk))

    def _stereo(self) -> Path:
        """One person a side, each with a little of the other."""
        a, b = self.talk.voices["a"], self.talk.voices["b"]
        return self._under("stereo", self.talk, np.stack([a + 0.05 * b, b + 0.05 * a]))

    def _late_40(self) -> Path:
        return self._under("late-40", shifted(self.talk, 0.04))

    def _late_80(self) -> Path:
        return self._under("late-80", shifted(self.talk, 0.08))

    def _late_200(self) -> Path:
        return self._under("late-200", shifted(self.talk, 0.2))

    # Other pictures.

    def _crosstalk(self) -> Path:
        return render(self._arranged(overlap=0.8), self.folder / "crosstalk")

    def _narrator(self) -> Path:
        """A third voice off screen, a third of the speech."""
        told = self.folder / "sounds" / "narrator.wav"
        write_audio(told, pitched(self._words("b"), 0.75))
        talk = self._arranged(off_screen=told, duration=12.0)
        return render(talk, self.folder / "narrator")

    def _one_silent(self) -> Path:
        """b listens throughout."""
        frames = self.talk.frames
        silence = np.zeros_like(self.talk.mix)
        figure = self.talk.figures["b"]
        assert isinstance(figure, PhotoFigure)
        still = replace(figure, motion=animate(silence, self.talk.voices["a"], Fraction(FPS), frames, 5, 1))
        talk = replace(
            self.talk,
            figures={**self.talk.figures, "b": still},
            mix=self.talk.voices["a"],
            voices={"a": self.talk.voices["a"], "b": silence},
            turns=tuple(turn for turn in self.talk.turns if turn.person == "a"),
        )
        return render(talk, self.folder / "one-silent")

    def _twins(self) -> Path:
        """The same photograph twice, together and in single shots."""
        talk = self._arranged(b=replace(self._cast["b"], picture=self._cast["a"].picture))
        edges = [0, 75, 150, talk.frames]
        shots = [
            Shot(start, stop, view) for start, stop, view in zip(edges[:-1], edges[1:], ("two-shot", "a", "b"), strict=True)
        ]
        return render(replace(talk, shots=shots, layout="cuts"), self.folder / "twins")

    def _three(self) -> Path:
        """Three people side by side who speak in turn."""
        out = self.folder / "three"
        out.mkdir()
        third = pitched(self._words("a"), 0.75)
        length = len(self.talk.mix)
        turns = [TruthTurn(person, 1.5 * index, 1.5 * index + 1.35) for index, person in enumerate("abcabc")]
        heard = {person: np.zeros(length, np.float32) for person in "abc"}
        words = {"a": self._words("a"), "b": self._words("b"), "c": third}
        for turn in turns:
            start, stop = int(turn.start * SAMPLE_RATE), min(int(turn.end * SAMPLE_RATE), length)
            heard[turn.person or ""][start:stop] = words[turn.person or ""][start:stop]
        faces = self._draw_three(heard, out / "picture.mp4")
        resound(out / "picture.mp4", out / "conversation.mp4", sum(heard.values())[None])
        truth = Truth("conversation.mp4", length / SAMPLE_RATE, "side", ("a", "b", "c"), (), tuple(turns), faces)
        write_truth(out / FILE_NAME, truth)
        return out / FILE_NAME

    def _draw_three(self, heard: dict[str, np.ndarray], path: Path) -> tuple[TruthFace, ...]:
        group = read_picture(packaged("insightface", "data/images/t1.jpg"))
        x0, y0, x1, y1 = THIRD
        found = portrait(np.ascontiguousarray(group[y0:y1, x0:x1]), *self._cabinet.models)
        portraits = {**{name: figure.portrait for name, figure in self.talk.figures.items()}, "c": found}
        width, height, frames = 192, SIZE[1], self.talk.frames
        pictures, boxes = [], {person: [] for person in "abc"}
        for index, person in enumerate("abc"):
            others = sum(heard[other] for other in "abc" if other != person)
            motion = animate(heard[person], others, Fraction(FPS), frames, 5, index)
            panel = Panel(person, index * width, 0, width, height, 0.42)
            pictures.append((panel, PhotoFigure(portraits[person], motion).picture(panel, None)))
        with VideoWriter(path, 3 * width, height) as writer:
            for frame in range(frames):
                canvas = np.zeros((height, 3 * width, 3), np.uint8)
                for panel, picture in pictures:
                    drawn, mesh = picture.draw(frame)
                    paste(canvas, drawn, panel)
                    if frame % 10 == 0:
                        low, high = mesh.min(0), mesh.max(0)
                        boxes[panel.person].append((frame / FPS, low[0] + panel.x, low[1], high[0] + panel.x, high[1]))
                writer.write(canvas)
        return tuple(TruthFace(person, 0.0, frames / FPS, tuple(map(_floats, found))) for person, found in boxes.items())


def _floats(values: tuple[float, ...]) -> tuple[float, float, float, float, float]:
    time, x0, y0, x1, y1 = (float(value) for value in values)
    return time, x0, y0, x1, y1


def pitched(samples: np.ndarray, factor: float) -> np.ndarray:
    """A voice whose pitch and resonances lie `factor` times as high; it speaks faster by as much."""
    at = np.arange(0, len(samples) - 1, factor)
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def laughter(seconds: float, *, seed: int = 0) -> np.ndarray:
    """Voiced broadband bursts, five a second, as of "hahaha"."""
    rng = np.random.default_rng(seed)
    now = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voiced = sum(np.sin(2 * np.pi * 280 * k * now) / k for k in range(1, 12))
    burst = np.clip(np.sin(2 * np.pi * 5 * now), 0, 1) ** 0.5
    fade = np.linspace(1.0, 0.3, len(now))
    return (0.06 * (voiced + 0.8 * rng.standard_normal(len(now))) * burst * fade).astype(np.float32)


def music(count: int, *, seed: int = 0) -> np.ndarray:
    """Chords and a beat, unit power."""
    rng = np.random.default_rng(seed)
    now = np.arange(count) / SAMPLE_RATE
    out = np.zeros(count)
    for step in range(int(now[-1] / 0.5) + 1):
        part = slice(int(step * 0.5 * SAMPLE_RATE), int((step + 1) * 0.5 * SAMPLE_RATE))
        time = now[part] - now[part][0]
        for note in rng.choice([0, 3, 5, 7, 10, 12], 3, replace=False):
            pitch = 220 * 2 ** (note / 12)
            out[part] += sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 7)) * np.exp(-2 * time)
        out[part] += 1.5 * rng.standard_normal(len(time)) * np.exp(-40 * time)
    return (out / np.sqrt(np.mean(out**2))).astype(np.float32)
