"""Whole films: a portrait driven by a video, and a portrait in a conversation, written with sound and mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dyconv.errors import StoreError
from dyconv.infp.agent import Agent, Subject
from dyconv.infp.driver import Driver
from dyconv.infp.film import SOUND_RATE, Film
from dyconv.infp.stage2 import Guidance
from dyconv.infp.voices import Voice, blocks
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

Told = Callable[[int, int], None]  # frames done, frames in all


class Made(NamedTuple):
    """A film that was written: its frames, the seconds it took, and what it shows."""

    path: Path
    frames: int
    took: float

    @property
    def rate(self) -> float:
        """Frames made a second."""
        return self.frames / max(self.took, 1e-9)


@dataclass(frozen=True)
class Manner:
    """How a portrait talks; see `Stage2.generate`.

    Attributes:
        style: motion latents [S, latent] that show the manner of moving.
        roles: whether roles are assigned by hand, as the DIM baseline does, instead of hearing both voices at once.
    """

    style: np.ndarray | None = None
    seed: int = 0
    guidance: Guidance | None = None
    chunk: int | None = None
    steps: int | None = None
    roles: bool = False


def write_driven(
    agent: Agent, subject: Subject, driver: Driver, out: Path, *, relative: bool = False, told: Told | None = None
) -> Made:
    """The portrait moving as the driver does, with the driver's sound.

    Args:
        relative: see `Agent.animate`; the driver's frame that is most like the portrait counts as held like it.
    """
    heard: Iterator[np.ndarray | None] = repeat(None)
    channels = 0
    if driver.sound is not None:
        channels = 2 if driver.sound.channels > 1 else 1
        heard = blocks(driver.path, driver.sound, driver.span.start, len(driver), SOUND_RATE, channels)
    reference = None
    if relative:
        at = driver.most_like(subject.crop.landmarks)
        reference = next(agent.encode(islice(driver.pictures(at), 1), driver.landmarks[at : at + 1]))
    frames = agent.animate(subject, driver.pictures(), driver.landmarks, relative=relative, reference=reference)
    return _write(out, agent.size, frames, heard, channels, len(driver), told)


def write_talk(
    agent: Agent,
    subject: Subject,
    own: Voice | None,
    partner: Voice | None,
    out: Path,
    manner: Manner | None = None,
    *,
    told: Told | None = None,
) -> Made:
    """The portrait in a conversation; as long as the longer voice. Own voice left, partner right; one voice alone is mono."""
    voices = [voice for voice in (own, partner) if voice is not None]
    count = max((voice.frames for voice in voices), default=0)
    frames = talking(agent, subject, own, partner, manner or Manner())
    heard: Iterator[np.ndarray] = (
        np.concatenate(parts) for parts in zip(*(_blocks(voice, SOUND_RATE, count) for voice in voices), strict=True)
    )
    return _write(out, agent.size, frames, heard, len(voices), count, told)


def talking(agent: Agent, subject: Subject, own: Voice | None, partner: Voice | None, manner: Manner) -> Iterator[np.ndarray]:
    """The frames of a portrait whose voices are read as they are needed."""
    count = max((voice.frames for voice in (own, partner) if voice is not None), default=0)
    if manner.roles:
        yield from agent.render(subject, _by_roles(agent, subject, own, partner, manner, count))
        return
    live = agent.live(
        subject, style=manner.style, seed=manner.seed, guidance=manner.guidance, chunk=manner.chunk, steps=manner.steps
    )
    both = [repeat(None) if voice is None else _blocks(voice, SAMPLE_RATE, count) for voice in (own, partner)]
    for mine, theirs in islice(zip(*both, strict=False), count):
        yield from live.push(None if mine is None else mine[0], None if theirs is None else theirs[0])
    yield from live.finish()


def _by_roles(agent: Agent, subject: Subject, own: Voice | None, partner: Voice | None, manner: Manner, frames: int) -> Tensor:
    """Latents [frames, latent] of the DIM-style baseline; whole voices are held, as it hears them twice."""
    from dyconv.infp.roles import switched

    voices = [np.zeros(frames * SAMPLES_PER_FRAME, np.float32) for _ in range(2)]
    for samples, voice in zip(voices, (own, partner), strict=True):
        if voice is not None:
            found = voice.samples()
            samples[: len(found)] = found
    return switched(
        agent.stage2,
        *voices,
        previous=agent.before(subject),
        style=manner.style,
        seed=manner.seed,
        guidance=manner.guidance,
        chunk=manner.chunk,
        steps=manner.steps,
    )


def _blocks(voice: Voice, rate: int, frames: int) -> Iterator[np.ndarray]:
    return blocks(voice.path, voice.track, voice.span.start, frames, rate, 1)


def _write(
    out: Path,
    side: int,
    frames: Iterator[np.ndarray],
    heard: Iterator[np.ndarray | None],
    channels: int,
    count: int,
    told: Told | None,
) -> Made:
    begin = monotonic()
    with Film(out, side, channels=channels) as film:
        for frame, sound in zip(frames, heard, strict=False):
            film.write(frame, sound)
            if told is not None:
                told(film.count, count)
        if film.count != count:
            raise StoreError(f"{out}: expected {count} frames, made {film.count}", hint="please report this")
    return Made(out, count, monotonic() - begin)
