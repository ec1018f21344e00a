"""Systems that anything trained must beat.

- `static`: the portrait, repeated.
- `mirror`: the portrait moves as the partner does, relative to how each is held, smoothed.
- `random-train`: the portrait moves as somebody of the training builds did, relative to how each is held.
- `role-switch`: the same weights with roles assigned by hand, as DIM does (see `dyconv.infp.roles`).
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.errors import DyconvError, UsageError
from dyconv.records import PERSONS, Key
from training.evaluation.case import Case, Truth, View
from training.evaluation.clock import Clock
from training.evaluation.sets import CaseSet, Face, clips_of, face_of, sources_in, split_of
from training.evaluation.systems import (
    Maker,
    agent_clock,
    fingerprint,
    pictures_of,
    portrait_of,
    seed_of,
    subject_of,
    voices_of,
)
from training.infp.clips import Builds, Item

if TYPE_CHECKING:
    from dyconv.infp.agent import Agent

NAMES = ("static", "mirror", "random-train", "role-switch")
_SMOOTHED = 5  # frames: 0.2 s


class CannotMake(DyconvError):
    """A baseline has nothing to go by in one case."""


def make_baseline(
    name: str, agent: Agent, cases: CaseSet, train: Sequence[str] = (), seed: int = 0, *, cache: Path | None = None
) -> Maker:
    """
    Args:
        name: one of `NAMES`.
        agent: whose renderer draws, and whose size videos have; `role-switch` uses its Stage 2.
        cases: the set that is evaluated.
        train: builds of `random-train`, or splits of releases (`BUILD@split`).
        cache: folder for copies of their remote shards.

    Raises:
        UsageError: for another name, or `random-train` without builds.
    """
    if name == "static":
        return Static(agent)
    if name == "mirror":
        return Mirror(agent, cases)
    if name == "random-train":
        return RandomTrain(agent, train, seed, cache)
    if name == "role-switch":
        return RoleSwitch(agent, seed)
    raise UsageError(f"expected a baseline of {', '.join(NAMES)}, found {name!r}", hint="correct --baseline")


class Static(Maker):
    """The portrait at the agent's size, repeated."""

    hears = works = False

    def __init__(self, agent: Agent) -> None:
        super().__init__("static", ["static", agent.size])
        self.agent = agent

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        with clock.waiting():
            picture = portrait_of(self.agent, truth).image
        for _ in range(truth.case.frames):
            yield picture


class Rendered(Maker):
    """A baseline whose motion latents the agent's renderer draws."""

    def __init__(self, name: str, agent: Agent, told: object) -> None:
        super().__init__(name, [name, fingerprint(agent), told])
        self.agent = agent

    def clock(self) -> Clock:
        return agent_clock(self.agent)


class Mirror(Rendered):
    """The portrait's latent, and what the partner's differs by from its mean over the clip, smoothed over 0.2 s.

    The partner's motion at once and not some time later: nothing is foreseen, nothing is reacted to.
    """

    hears = False

    def __init__(self, agent: Agent, cases: CaseSet) -> None:
        super().__init__("mirror", agent, _SMOOTHED)
        self.cases = cases

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        import torch

        partner = self.cases.partner(truth.case)
        if partner is None:
            raise CannotMake(
                f"{truth.case.name}: expected the partner's face to mirror, found that it is not in the clip",
                hint="mirror is measured on the clips that show both people",
            )
        subject = subject_of(self.agent, truth, clock)
        latents = latents_of(self.agent, partner, clock)
        moved = smoothed(latents - latents[partner.present].mean(axis=0), _SMOOTHED)
        yield from self.agent.render(subject, subject.latent + torch.from_numpy(moved).to(self.agent.device))


class RandomTrain(Rendered):
    """True motion of a random person of the training builds, from a random frame on; there and back where it is too short.

    As in `Mirror`, what their latent differs by from its mean is added to the portrait's. Sources of the case itself are never
    drawn.
    """

    hears = False

    def __init__(self, agent: Agent, train: Sequence[str], seed: int, cache: Path | None) -> None:
        if not train:
            raise UsageError("expected a build to draw motion from, found none", hint="give --train BUILD with random-train")
        keys = [Key.of(person, what) for person in PERSONS for what in ("face", "crop")]
        if cache is None:
            cache = Path(tempfile.mkdtemp(prefix="dyconv-train-"))
            weakref.finalize(self, shutil.rmtree, cache, ignore_errors=True)
        places = [split_of(one) for one in train]
        self._builds, self.seed = Builds([build for build, _ in places], keys, cache), seed
        rows = [self._builds.rows(at) for at in range(len(places))]
        self._sources = [sources_in(table) for table in rows]
        chosen = [clips_of(table, *place) for table, place in zip(rows, places, strict=True)]
        items = [item for item in self._builds.items() if item.clip in chosen[item.build]]
        self._people: list[tuple[Item, str]] = [(item, person) for item in items for person in item.seen]
        tables = [[self._builds.index(at).table.sha256, split] for at, (_, split) in enumerate(places)]
        super().__init__("random-train", agent, [seed, tables])

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        import torch

        face, taken = self._drawn(truth.case)
        subject = subject_of(self.agent, truth, clock)
        first, last = int(taken.min()), int(taken.max()) + 1
        latents = latents_of(self.agent, face, clock, first, last)[taken - first]
        moved = torch.from_numpy(latents - latents.mean(axis=0)).to(self.agent.device)
        yield from self.agent.render(subject, subject.latent + moved)

    def _drawn(self, case: Case) -> tuple[Face, np.ndarray]:
        """A face, and the numbers [T] of its frames that are shown."""
        people = [(item, one) for item, one in self._people if self._sources[item.build][item.clip] != case.unit]
        if not people:
            raise CannotMake(
                f"{case.name}: expected another source in the training builds, found only {case.unit}",
                hint="give a build of other sources with --train",
            )
        rng = np.random.default_rng(seed_of(self.seed, case))
        item, person = people[int(rng.integers(len(people)))]
        face = face_of(self._builds.sample(item), person, item.frames)
        if not face.present.any():
            raise CannotMake(f"{case.name}: the face drawn is never found ({face.where})", hint="pack that build again")
        start = int(rng.integers(max(1, len(face) - case.frames + 1)))
        return face, start + there_and_back(len(face), case.frames)


class RoleSwitch(Rendered):
    """Two passes of the same Stage 2, switched by voice activity; see `dyconv.infp.roles.switched`."""

    def __init__(self, agent: Agent, seed: int) -> None:
        super().__init__("role-switch", agent, seed)
        self.seed = seed

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        from dyconv.infp.roles import switched

        if truth.case.view is View.VIDEO:
            raise CannotMake(
                f"{truth.case.name}: role-switch hears voices, and the view video gives none",
                hint="choose interactive, talking or listening",
            )
        own, partner = (np.zeros_like(truth.own) if voice is None else voice for voice in voices_of(truth))
        subject = subject_of(self.agent, truth, clock)
        latents = switched(
            self.agent.stage2, own, partner, previous=self.agent.before(subject), seed=seed_of(self.seed, truth.case)
        )
        yield from self.agent.render(subject, latents)


def latents_of(agent: Agent, face: Face, clock: Clock, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Motion latents float32 [stop - start, latent] of a face; between those of its neighbours where it was not found."""
    import torch

    stop = len(face) if stop is None else stop
    shown = np.flatnonzero(face.present)
    inside = shown[(shown >= start) & (shown < stop)]
    if not len(inside):  # held still as in the nearest frame that shows it
        inside = shown[[np.abs(shown - start).argmin()]]
    wanted = set(inside.tolist())
    pictures = islice(pictures_of(face.video, len(face), face.where), int(inside[-1]) + 1)
    taken = (picture for at, picture in enumerate(pictures) if at in wanted)
    known = torch.cat(list(agent.encode(clock.paused(taken), face.landmarks[inside]))).cpu().numpy()
    place = np.interp(np.arange(start, stop), inside, np.arange(len(inside)))
    low = np.floor(place).astype(int)
    share = (place - low)[:, None].astype(np.float32)
    return np.asarray(known[low] * (1 - share) + known[np.minimum(low + 1, len(known) - 1)] * share)


def smoothed(values: np.ndarray, frames: int) -> np.ndarray:
    """Mean of float [T, D] over so many frames (odd), the first and last repeated beyond the ends."""
    reach = frames // 2
    padded = np.pad(values.astype(np.float64), ((reach + 1, reach), (0, 0)), mode="edge").cumsum(axis=0)
    return np.asarray((padded[frames:] - padded[:-frames]) / frames, np.float32)


def there_and_back(length: int, count: int) -> np.ndarray:
    """Frame numbers int [count]: 0 ... length - 1 ... 0 ... without showing a turning point twice."""
    cycle = max(1, 2 * (length - 1))
    place = np.arange(count) % cycle
    return np.asarray(np.minimum(place, cycle - place) if length > 1 else np.zeros(count, int))
