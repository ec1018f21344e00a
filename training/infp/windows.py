"""Rows of Stage 2: a stretch of one person's motion, and both voices around it.

Either person of a clip whose face is there can be the agent. The other one's voice is the partner's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dyconv.errors import UsageError
from dyconv.infp.audio import sound_around
from dyconv.infp.config import Stage2Config
from dyconv.records import PERSONS, Key
from dyconv.shards.sample import Sample
from dyconv.time import SAMPLES_PER_FRAME
from training.infp.clips import Builds, Item, Recent
from training.infp.order import Lane, lanes_of, rows_of
from training.infp.plan import DataPlan, kind_of
from training.infp.voices import louder, speaks, with_partner

KEYS = tuple(Key.of(person, what) for person in PERSONS for what in ("voice", "motion"))
_STYLE = 32  # frames that show a style
_TRIES = 50  # clips tried for a row before giving up
_AWAY = 25  # frames between a window and the style's frames, where a clip is long enough
_FEWEST = 10  # frames that make a style


class Row(NamedTuple):
    """One window; see `dyconv.infp.stage2.Window`, without the first dimension."""

    motion: np.ndarray
    own: np.ndarray
    partner: np.ndarray
    previous: np.ndarray
    known: np.ndarray
    style: np.ndarray
    style_known: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Talk:
    """What a clip has to tell of its people.

    Attributes:
        latents: float32 [T, latent] by person, of those that are seen.
        present: bool [T] by person, where the face was found.
        voices: float32 [N] by person, of those that have one.
        shots: frames at which shots begin, the first 0; and T.
    """

    latents: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    voices: Mapping[str, np.ndarray]
    shots: np.ndarray
    agents: tuple[str, ...] = field(default=())

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for part in (self.latents, self.present, self.voices) for array in part.values())

    def sound(self, person: str, start: int, stop: int) -> np.ndarray:
        """The voice in frames [start, stop), float32; silence outside the clip, and where there is no voice."""
        out = np.zeros((stop - start) * SAMPLES_PER_FRAME, np.float32)
        voice = self.voices.get(person)
        if voice is not None:
            first, last = max(start, 0) * SAMPLES_PER_FRAME, min(stop * SAMPLES_PER_FRAME, len(voice))
            part = voice[first : max(last, first)]
            at = first - start * SAMPLES_PER_FRAME
            out[at : at + len(part)] = part
        return out


def talk_of(sample: Sample) -> Talk:
    """The talk of a clip."""
    latents, present, voices = {}, {}, {}
    for person in PERSONS:
        if Key.of(person, "motion") in sample:
            arrays = sample.arrays(Key.of(person, "motion"))
            latents[person], present[person] = arrays["latents"].astype(np.float32), arrays["present"].astype(bool)
        if Key.of(person, "voice") in sample:
            voices[person] = sample.audio(Key.of(person, "voice"))
    frames = max((len(found) for found in present.values()), default=0)
    cuts = {shot.frames.start for shot in sample.clip.shots if 0 < shot.frames.start < frames}
    agents = tuple(person for person, found in present.items() if found.any())
    return Talk(latents, present, voices, np.array([0, *sorted(cuts), frames]), agents)


class Windows:
    """Makes rows of the batches of a plan.

    Args:
        kinds: lanes over clips in which one person speaks, and over conversations; one of them may be empty.
        memory: bytes of decoded clips that are kept.
    """

    def __init__(
        self,
        builds: Builds,
        items: Sequence[Item],
        kinds: tuple[Sequence[Lane], Sequence[Lane]],
        config: Stage2Config,
        plan: DataPlan,
        memory: int,
    ) -> None:
        self.builds, self.items, self.kinds = builds, items, kinds
        self.config, self.plan = config, plan
        self.before, self.ahead = sound_around(config)
        self.recent = Recent(memory)

    def __call__(self, number: int, places: range) -> tuple[Tensor, ...]:
        """Columns of some rows of a global batch."""
        count = lanes_of(self.plan.batch, self.plan.lanes)
        rows = []
        for lane, row in rows_of(self.plan.batch, count, number, places):
            kind, at = (0, row) if self.kinds[0] else (1, row)
            if all(self.kinds):
                kind, at = kind_of(self.plan.curriculum, self.plan.seed, lane, row, self.plan.batch // count)
            rows.append(self.row(self.kinds[kind][lane], at))
        return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))

    def row(self, lane: Lane, number: int) -> Row:
        """Row `number` of a lane. A clip in which no face was found is passed over for one that comes later."""
        rng = np.random.default_rng([*lane.key, 2, number])
        visit = lane.at(number)
        for _ in range(_TRIES):
            talk = self._talk(visit.item)
            if talk.agents:
                return self._window(lane, number, visit.item, talk, rng)
            visit = lane.visit(visit.number + lane.opened)
        raise UsageError(
            f"{_TRIES} clips one after the other have no frame with a face, the last {self.items[visit.item].clip}",
            hint="run `dyconv check --deep` on the build",
        )

    def _talk(self, item: int) -> Talk:
        return self.recent.get(item, lambda: talk_of(self.builds.sample(self.items[item])), lambda talk: talk.bytes)

    def _window(self, lane: Lane, number: int, item: int, talk: Talk, rng: np.random.Generator) -> Row:
        agent = str(rng.choice(talk.agents))
        partner = PERSONS[1 - PERSONS.index(agent)]
        size, context = self.config.window, self.config.context
        start, first, last = place(talk.present[agent], talk.shots, size, rng)
        motion, mask = cut(talk, agent, start, start + size, (first, last))
        previous, known = cut(talk, agent, start - context, start, (first, last))
        style, style_known = self._style(talk, agent, start, rng)
        reach = start - self.before, start + size + self.ahead
        own, other = talk.sound(agent, *reach), talk.sound(partner, *reach)
        if self.plan.augment:
            if rng.random() < self.plan.invent and not speaks(other).any():
                other = with_partner(own, self._strangers(lane, number, item), rng)
            own, other = louder(own, rng), louder(other, rng)
        return Row(motion, own, other, previous, known, style, style_known, mask)

    def _style(self, talk: Talk, agent: str, start: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames away from the window, where there are enough of them; otherwise any."""
        present = np.flatnonzero(talk.present[agent])
        away = present[(present < start - _AWAY) | (present >= start + self.config.window + _AWAY)]
        outside = present[(present < start) | (present >= start + self.config.window)]
        frames = next(some for some in (away, outside, present) if len(some) >= _FEWEST or some is present)
        chosen = rng.choice(frames, min(_STYLE, len(frames)), replace=False)
        latents = np.zeros((_STYLE, talk.latents[agent].shape[1]), np.float32)
        latents[: len(chosen)] = talk.latents[agent][chosen]
        return latents, np.arange(_STYLE) < len(chosen)

    def _strangers(self, lane: Lane, number: int, item: int) -> list[np.ndarray]:
        """Voices of the other clips that the lane has open."""
        others = sorted({visit.item for visit in lane.open_at(number)} - {item})
        spoken = [(self._talk(other).voices, person) for other in others for person in self.items[other].heard]
        return [voices[person] for voices, person in spoken if person in voices]


def place(present: np.ndarray, shots: np.ndarray, size: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Where a window begins, and the shot [first, last) it is of: anywhere in it around a frame with a face."""
    frame = int(rng.choice(np.flatnonzero(present)))
    shot = int(np.searchsorted(shots, frame, side="right")) - 1
    first, last = int(shots[shot]), int(shots[shot + 1])
    low, high = max(first, frame - size + 1), min(frame, last - size)
    return int(rng.integers(low, high + 1)) if high > low else max(first, high), first, last


def cut(talk: Talk, person: str, start: int, stop: int, shot: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Latents [stop - start, latent] of some frames, and bool [stop - start]: which are in the shot and show a face."""
    latents, present = talk.latents[person], talk.present[person]
    at = np.arange(start, stop)
    there = (at >= shot[0]) & (at < shot[1])
    there[there] = present[at[there]]
    out = np.zeros((len(at), latents.shape[1]), np.float32)
    out[there] = latents[at[there]]
    return out, there
