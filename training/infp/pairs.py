"""Rows of Stage 1: two frames of one person in one shot, the first a portrait, the second what it is to look like."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dyconv.errors import UsageError
from dyconv.faces import unpack_points
from dyconv.infp.config import Stage1Config
from dyconv.infp.mask import at_size, masked, regions
from dyconv.media.video import iter_pictures
from dyconv.records import PERSONS, Clip, Key
from dyconv.shards.sample import Sample
from dyconv.time import FPS
from training.infp.augment import changed, for_masks
from training.infp.clips import Builds, Item, Recent
from training.infp.order import Lane, Visit, rows_of
from training.infp.plan import DataPlan
from training.infp.probes import targets_of

KEYS = tuple(Key.of(person, what) for person in PERSONS for what in ("face", "crop"))
APART = FPS  # frames between portrait and driver, where a shot is long enough
_STEP = 4  # a frame in so many is decoded for nothing but those after it, at most
_TRIES = 50  # clips tried for a row before giving up


class Row(NamedTuple):
    """One pair; pictures uint8 [S, S, 3], landmarks float32 [478, 3], regions bool [3, S, S]."""

    portrait: np.ndarray
    portrait_mask: np.ndarray
    portrait_points: np.ndarray
    driver: np.ndarray
    driver_mask: np.ndarray
    driver_points: np.ndarray
    regions: np.ndarray


@dataclass(frozen=True)
class Faces:
    """Frames of one person in one clip, as large as a model sees them.

    Attributes:
        pictures: uint8 [F, S, S, 3].
        points: float32 [F, 478, 3].
        frames: int [F], on the clip's clock, rising.
        shots: int [F], number of the shot that each is in.
    """

    pictures: np.ndarray
    points: np.ndarray
    frames: np.ndarray
    shots: np.ndarray

    @property
    def bytes(self) -> int:
        return self.pictures.nbytes + self.points.nbytes

    def drivers(self) -> np.ndarray:
        """Frames that have another one in their shot."""
        return np.flatnonzero((self.shots[:, None] == self.shots[None]).sum(axis=1) > 1)

    def pair(self, rng: np.random.Generator) -> tuple[int, int]:
        """Portrait and driver, of one shot: `APART` frames apart or more where it is long enough, else as far as can be."""
        driver = int(rng.choice(self.drivers()))
        apart = np.where(self.shots == self.shots[driver], np.abs(self.frames - self.frames[driver]), 0)
        far = np.flatnonzero(apart >= min(APART, int(apart.max())))
        return int(rng.choice(far)), driver


def faces_of(sample: Sample, person: str, size: int, *, limit: int, phase: int) -> Faces:
    """At most `limit` frames in which the person's face was found; each phase gives others, see `phases`."""
    crop = sample.arrays(Key.of(person, "crop"))
    present = np.flatnonzero(crop["present"])
    parts, step = phases(len(present), limit)
    wanted = np.array_split(present, parts)[phase % parts][phase // parts % step :: step]
    pictures = _pictures(io.BytesIO(sample.raw(Key.of(person, "face"))), wanted.tolist())
    small, points = at_size(pictures, unpack_points(crop["landmarks"][wanted]), size)
    return Faces(small, points, wanted, shots_of(sample.clip, wanted))


def phases(frames: int, limit: int) -> tuple[int, int]:
    """Into how many parts a clip is cut, of which one is decoded at a time; and that each nth frame of a part is taken.

    So a minute costs no more than some seconds, and after as many phases as the product of both every frame had its turn.
    """
    step = min(_STEP, max(1, -(-frames // limit)))
    return max(1, -(-frames // (limit * step))), step


def shots_of(clip: Clip, frames: np.ndarray) -> np.ndarray:
    """Number of the shot that each frame is in."""
    return np.searchsorted([shot.frames.start for shot in clip.shots], frames, side="right")


def _pictures(video: BinaryIO, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """Some frames of a video. Those between are decoded, but not converted; and conversion is the quick one, whose pixels are
    not the same on every processor to the last bit."""
    chosen = frozenset(wanted)
    for index, frame in iter_pictures(video, wanted[0], wanted[-1] + 1) if wanted else ():
        if index in chosen:
            yield frame.to_ndarray(format="rgb24")


class Pairs:
    """Makes rows of the batches of a plan.

    Args:
        memory: bytes of decoded clips that are kept.
    """

    def __init__(
        self, builds: Builds, items: Sequence[Item], lanes: Sequence[Lane], config: Stage1Config, plan: DataPlan, memory: int
    ) -> None:
        self.builds, self.items, self.lanes = builds, items, lanes
        self.config, self.plan = config, plan
        self.recent = Recent(memory)

    def __call__(self, number: int, places: range) -> tuple[Tensor, ...]:
        """Columns of some rows of a global batch, and the targets of their drivers."""
        chosen = rows_of(self.plan.batch, len(self.lanes), number, places)
        columns = Row(*map(np.stack, zip(*(self.row(self.lanes[lane], row) for lane, row in chosen), strict=True)))
        targets = targets_of(columns.driver_points, self.config.size)
        return tuple(torch.from_numpy(column) for column in (*columns, targets))

    def row(self, lane: Lane, number: int) -> Row:
        """Row `number` of a lane. A clip with fewer than two faces is passed over for one that comes later."""
        rng = np.random.default_rng([*lane.key, 2, number])
        visit = lane.at(number)
        for _ in range(_TRIES):
            faces = self._faces(lane, visit)
            if len(faces.drivers()):
                return self._pair(faces, rng)
            visit = lane.visit(visit.number + lane.opened)
        raise UsageError(
            f"{_TRIES} clips one after the other have no two frames with a face, the last {self.items[visit.item].clip}",
            hint="run `dyconv check --deep` on the build",
        )

    def _faces(self, lane: Lane, visit: Visit) -> Faces:
        item = self.items[visit.item]
        person = item.seen[int(np.random.default_rng([*lane.key, 3, visit.number]).integers(len(item.seen)))]

        def make() -> Faces:
            return faces_of(self.builds.sample(item), person, self.config.size, limit=self.plan.frames, phase=phase)

        phase = visit.epoch % math.prod(phases(item.frames, self.plan.frames))
        return self.recent.get((visit.item, person, phase), make, lambda faces: faces.bytes)

    def _pair(self, faces: Faces, rng: np.random.Generator) -> Row:
        pair = list(faces.pair(rng))
        pictures, points = faces.pictures[pair], faces.points[pair]
        shown, dropped = pictures, 0.0
        if self.plan.augment:
            pictures, points = changed(pictures, points, rng)
            shown, dropped = for_masks(pictures, rng), self.config.dropped
        masks = masked(shown, points, dropped=dropped, rng=rng)
        where = regions(points[1:], self.config.size)[0]
        return Row(pictures[0], masks[0], points[0], pictures[1], masks[1], points[1], where)
