"""What is compared: systems that make a video of each case.

A system is given a portrait (the first true frame that shows the face) and what the view gives away. In `talking` and
`listening` the missing voice is silence for it; the truth keeps both real ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dyconv.errors import UsageError
from dyconv.records import dump
from dyconv.store import write_atomic
from training.evaluation.case import Case, Truth, View
from training.evaluation.clock import Clock
from training.evaluation.folder import Folder, MissingVideo
from training.evaluation.notes import note_of, sidecar, told
from training.evaluation.videos import open_video

if TYPE_CHECKING:
    from torch import Tensor

    from dyconv.infp.agent import Agent, Subject
    from dyconv.infp.portraits import FaceCrop
    from dyconv.infp.stage2 import Guidance

__all__ = ["Checkpoint", "Folder", "Maker", "MissingVideo", "System", "told"]

VERSION = 1  # of how videos are made and written
_CRF = 4  # x264: far below what metrics see; `tests/test_eval_videos.py` holds it to 45 dB on smooth pictures
_DECODED = 32  # frames held at once
_STYLE = 32  # frames that show a style, as in training


class System(Protocol):
    """
    Attributes:
        name: row of the report, and the folder of its videos.
        version: fingerprint of everything that decides its videos, but the truth.
    """

    name: str
    version: str

    def make(self, truth: Truth, path: Path) -> Path:
        """Make the video of a case, or find it.

        A video that is at `path` already, made of the same truth by the same version, is left as it is. Videos and told
        numbers appear complete or not at all, so that a run can be stopped at any time.

        Args:
            path: an mp4 file to write; its folder is made.

        Returns:
            Where the video is: `path`, or a file of somebody else's, which is never copied. `told` reads its numbers.

        Raises:
            DyconvError: where this case cannot be made; others can.
        """
        ...


class Maker:
    """A system that makes frames here; the rest is writing them down.

    Args:
        name: of the row.
        told: what decides the frames, besides the truth.

    Attributes:
        hears: whether frames depend on what the view gives away. Otherwise one film, linked, does for all views of a person.
        works: whether the time it takes says anything.
    """

    hears = True
    works = True

    def __init__(self, name: str, told: Any) -> None:
        self.name = name
        self.version = hashlib.sha256(dump([VERSION, _CRF, told])).hexdigest()

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        """Frames uint8 RGB [S, S, 3] of a case, all of one size; waiting for the truth's own pictures goes to `clock.waiting`.

        Raises:
            DyconvError: where this case cannot be made.
        """
        raise NotImplementedError

    def make(self, truth: Truth, path: Path) -> Path:
        from dyconv.infp.film import Film

        of = _fingerprint(self.version, truth, self.hears)
        if path.is_file() and sidecar(path).get("of") == of:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        note_of(path).unlink(missing_ok=True)
        if not self.hears and _linked(path, of):
            return path
        clock = self.clock()
        with closing(self.frames(truth, clock)) as frames:
            first, rest = _begun(clock.timed(frames))
            with Film(path, len(first), crf=_CRF) as film:
                for frame in rest:
                    film.write(frame)
                if film.count != truth.case.frames:
                    raise UsageError(
                        f"{self.name}: expected {truth.case.frames} frames of {truth.case.name}, made {film.count}",
                        hint="please report this",
                    )
        numbers = clock.told() if self.works else {}
        write_atomic(note_of(path), json.dumps({**numbers, "of": of}, indent=1).encode())
        return path

    def clock(self) -> Clock:
        """Of one making."""
        return Clock()


class Checkpoint(Maker):
    """An INFP agent.

    Args:
        style: "none", or "own": of frames spread over the clip itself, which gives away something of the truth.
        seed: of all cases; each draws its own noise from it and its name.
        guidance: None for the weights' own.

    Raises:
        UsageError: for another style.
    """

    def __init__(
        self, agent: Agent, *, name: str = "ours", style: str = "none", seed: int = 0, guidance: Guidance | None = None
    ) -> None:
        if style not in ("none", "own"):
            raise UsageError(f"expected the style none or own, found {style!r}", hint="give --style none or --style own")
        scales = None if guidance is None else list(guidance)
        super().__init__(name, ["checkpoint", fingerprint(agent), style, seed, scales])
        self.agent, self.style, self.seed, self._guidance = agent, style, seed, guidance

    def clock(self) -> Clock:
        return agent_clock(self.agent)

    def frames(self, truth: Truth, clock: Clock) -> Generator[np.ndarray]:
        subject = subject_of(self.agent, truth, clock)
        if truth.case.view is View.VIDEO:
            pictures = clock.paused(true_pictures(truth))
            yield from self.agent.animate(subject, pictures, truth.landmarks)
            return
        with clock.waiting():
            style = self._style(truth) if self.style == "own" else None
        own, partner = voices_of(truth)
        options: dict[str, Any] = {"style": style, "seed": seed_of(self.seed, truth.case), "guidance": self._guidance}
        with clock.waiting():
            clock.latency_s = self.agent.live(subject, **options).latency
        yield from self.agent.talk(subject, own, partner, **options)

    def _style(self, truth: Truth) -> Tensor:
        """Latents [S, latent] of frames spread over those that show the face."""
        import torch

        shown = np.flatnonzero(truth.present)
        taken = np.unique(shown[np.linspace(0, len(shown) - 1, _STYLE).round().astype(int)])
        chosen = set(taken.tolist())
        pictures = (picture for at, picture in enumerate(true_pictures(truth)) if at in chosen)
        return torch.cat(list(self.agent.encode(pictures, truth.landmarks[taken])))


def _begun(frames: Iterator[np.ndarray]) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The first frame, and all of them, it included."""
    first = next(frames, None)
    if first is None:
        raise UsageError("expected frames, found none", hint="please report this")
    return first, chain([first], frames)


def _linked(path: Path, of: str) -> bool:
    """Whether the same film was there for another view, and is now at `path` too."""
    for other in (path.parent.parent / view / path.name for view in View if view != path.parent.name):
        if other.is_file() and sidecar(other).get("of") == of:
            path.unlink(missing_ok=True)
            try:
                path.hardlink_to(other)
            except OSError:  # a file system without links
                return False
            write_atomic(note_of(path), note_of(other).read_bytes())
            return True
    return False


def _fingerprint(version: str, truth: Truth, hears: bool) -> str:
    view = str(truth.case.view) if hears else ""
    digest = hashlib.sha256(dump([version, truth.case.name, view, truth.portrait]))
    for part in (truth.video, truth.partner_video or b"", truth.own.tobytes(), truth.partner.tobytes()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def seed_of(seed: int, case: Case) -> int:
    """A seed of a person's own, the same in all views."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{case.name}".encode()).digest()[:4], "big")


def voices_of(truth: Truth) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Own and partner's voice as far as the view gives them away."""
    view = truth.case.view
    return (None if view is View.LISTENING else truth.own), (None if view is View.TALKING else truth.partner)


def pictures_of(video: bytes, frames: int, where: str) -> Generator[np.ndarray]:
    """Frames uint8 RGB [S, S, 3] of a face video of a build, at its own size."""
    opened = open_video(video, frames=frames, where=where)
    for chunk in opened.chunks(opened.size, _DECODED):
        yield from chunk


def true_pictures(truth: Truth) -> Generator[np.ndarray]:
    """Frames of the true face; see `pictures_of`."""
    return pictures_of(truth.video, truth.case.frames, f"face video of {truth.case.name}")


def portrait_of(agent: Agent, truth: Truth) -> FaceCrop:
    """The portrait's frame at an agent's size."""
    from dyconv.infp.mask import at_size
    from dyconv.infp.portraits import FaceCrop

    at = truth.portrait
    with closing(true_pictures(truth)) as pictures:
        picture = next(islice(pictures, at, None))
    images, landmarks = at_size([picture], truth.landmarks[at : at + 1], agent.size)
    box = np.array([0, 0, len(picture), len(picture)], np.float32)
    return FaceCrop(images[0], landmarks[0], box, 1, 1)


def subject_of(agent: Agent, truth: Truth, clock: Clock) -> Subject:
    """The portrait, ready to be animated; reading its frame is not counted."""
    with clock.waiting():
        crop = portrait_of(agent, truth)
    return agent.portrait(crop)


def fingerprint(agent: Agent) -> str:
    """Sha256 of an agent's weights and configs."""
    digest = hashlib.sha256()
    for model in parts_of(agent):
        digest.update(dump(model.config.to_json()))
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + b"\0" + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def parts_of(agent: Agent) -> list[Any]:
    """Its Stage 1, and its Stage 2 where it has one."""
    try:
        return [agent.stage1, agent.stage2]
    except UsageError:
        return [agent.stage1]


def agent_clock(agent: Agent) -> Clock:
    """A clock that counts the agent's weights to the memory."""
    held = sum(value.numel() * value.element_size() for model in parts_of(agent) for value in model.state_dict().values())
    return Clock(agent.device, held)
