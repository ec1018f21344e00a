"""What Stage 2 makes of one conversation, on the way: curves of mouth and head, and a film where there is a renderer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dyconv.faces import unpack_points
from dyconv.infp.blocks import to_pixels, to_unit
from dyconv.infp.film import SOUND_PER_FRAME, SOUND_RATE, Film
from dyconv.infp.render import Renderer
from dyconv.media.video import frame_size
from dyconv.records import PERSONS, Key
from dyconv.shards.sample import Sample
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from training.infp.latents import clips_of
from training.infp.monitor import Monitor
from training.infp.probes import TARGETS, Probe, targets_of
from training.infp.stage2_learner import Stage2Learner

_CLIPS = 24  # that the probe is fitted on
_LEAST, _MOST = 3 * FPS, 10 * FPS  # frames of the conversation that is shown
_SHOWN = ("mouth_open", "head_yaw", "head_pitch")
_AT_ONCE = 16
_STYLE = 32


@dataclass(frozen=True)
class Person:
    """Somebody in a conversation of T frames, n of which show their face.

    Attributes:
        own, partner: float32 [T * 640].
        shown: int64 [n]; latents, targets: float32 [n, ...].
        picture: uint8 [S, S, 3] of the first of these.
    """

    own: np.ndarray
    partner: np.ndarray
    shown: np.ndarray
    latents: np.ndarray
    targets: np.ndarray
    picture: np.ndarray


class Talking:
    """An observer of `trainer.Trainer`.

    Args:
        data: builds; the first conversation of some seconds is taken, the length of an only clip where none is so long.
        encoder: hash of the encoder of their latents.
        renderer: of that encoder.
        only, without: patterns of sources.
    """

    def __init__(
        self,
        data: Sequence[str],
        encoder: str,
        every: int,
        *,
        renderer: Renderer | None = None,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> None:
        self.data, self.encoder, self.every, self.renderer = data, encoder, every, renderer
        self.only, self.without = only, without
        self._held: tuple[Person, Probe] | None = None

    @torch.inference_mode()
    def __call__(self, learner: Stage2Learner, position: int, monitor: Monitor) -> None:
        person, probe = self._held = self._held or self._read()
        style = person.latents[:: max(1, len(person.latents) // _STYLE)]
        made = learner.mean.generate(person.own, person.partner, torch.from_numpy(style)).float().cpu()
        monitor.picture(position, "curves", curves(person, probe(made.numpy())))
        if self.renderer is not None:
            self._film(person, made, monitor.sample(position, "talk", ".mp4"))

    def _read(self) -> tuple[Person, Probe]:
        side = self.renderer.config.size if self.renderer is not None else 64
        keys = [Key.of(one, what) for one in PERSONS for what in ("voice", "face", "crop", "motion")]
        people: list[Person] = []
        clips = clips_of(self.data, keys, encoder=self.encoder, only=self.only, without=self.without)
        for _, sample in zip(range(_CLIPS), clips, strict=False):
            people += _people(sample, side)
        latents, targets = (np.concatenate([getattr(one, name) for one in people]) for name in ("latents", "targets"))
        long = [one for one in people if len(one.own) >= _LEAST * SAMPLES_PER_FRAME and one.own.any()]
        return (long or sorted(people, key=lambda one: -len(one.own)))[0], Probe(latents, targets)

    def _film(self, person: Person, latents: torch.Tensor, path: Any) -> None:
        """The person's first picture, moving as was generated; own voice left, partner right."""
        from torchaudio.functional import resample

        assert self.renderer is not None
        picture = to_unit(torch.from_numpy(person.picture[None].copy()))
        portrait = self.renderer.portrait(picture, torch.from_numpy(person.latents[:1]))
        sound = resample(torch.from_numpy(np.stack([person.own, person.partner])), SAMPLE_RATE, SOUND_RATE).numpy()
        with Film(path, self.renderer.config.size, channels=2) as film:
            for part in latents.split(_AT_ONCE):
                for frame in to_pixels(self.renderer(portrait, part).picture).numpy():
                    heard = sound[:, film.count * SOUND_PER_FRAME : (film.count + 1) * SOUND_PER_FRAME]
                    film.write(frame, heard)


def _people(sample: Sample, side: int) -> Iterator[Person]:
    """Those of a clip whose face and voice are there."""
    for one, other in (PERSONS, PERSONS[::-1]):
        if any(Key.of(one, what) not in sample for what in ("face", "crop", "motion", "voice")):
            continue
        crop, motion = sample.arrays(Key.of(one, "crop")), sample.arrays(Key.of(one, "motion"))
        frames = min(len(motion["latents"]), _MOST)
        shown = np.flatnonzero((crop["present"] & motion["present"])[:frames])
        if not len(shown):
            continue
        face = Key.of(one, "face")
        width, _ = frame_size(io.BytesIO(sample.raw(face)))
        own = sample.audio(Key.of(one, "voice"), 0, frames * SAMPLES_PER_FRAME)
        voice = Key.of(other, "voice")
        partner = sample.audio(voice, 0, frames * SAMPLES_PER_FRAME) if voice in sample else np.zeros_like(own)
        yield Person(
            own,
            partner,
            shown,
            motion["latents"][shown].astype(np.float32),
            targets_of(unpack_points(crop["landmarks"])[shown], width),
            sample.frames(face, int(shown[0]), int(shown[0]) + 1, size=(side, side))[0],
        )


def curves(person: Person, made: np.ndarray) -> np.ndarray:
    """A figure uint8 [H, W, 3]: what was read off the face and off the motion generated, and how loud both voices are.

    Args:
        made: `TARGETS` [T, targets] of the motion generated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(len(_SHOWN) + 1, 1, sharex=True), (*_SHOWN, "loudness, dB"), strict=True):
        if name in TARGETS:
            which = TARGETS.index(name)
            axes.plot(person.shown / FPS, person.targets[:, which], label="real", color="0.6")
            axes.plot(np.arange(len(made)) / FPS, made[:, which], label="made", color="C3")
        else:
            for voice, told, colour in ((person.own, "own", "C0"), (person.partner, "partner", "C2")):
                energy = np.square(voice[: len(voice) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]).reshape(-1, SAMPLES_PER_FRAME)
                axes.plot(np.arange(len(energy)) / FPS, 10 * np.log10(energy.mean(axis=1) + 1e-6), label=told, color=colour)
            axes.set_xlabel("s")
        axes.set_ylabel(name)
        axes.legend(loc="upper right", fontsize="small")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
