"""An agent: one portrait that talks and listens, or moves as a driver does.

    from dyconv.infp import Agent

    agent = Agent.load()
    face = agent.portrait("face.jpg")
    for frame in agent.talk(face, own, partner):   # mono 16 kHz; frames are uint8 RGB [S, S, 3] at 25 fps
        ...

Everything is a generator: memory does not grow with length. What is shown to people must say that it is synthetic:
`dyconv.infp.film.Film` writes video that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dyconv.errors import UsageError
from dyconv.infp.blocks import to_pixels, to_unit
from dyconv.infp.driver import Driver, read_driver
from dyconv.infp.mask import masked
from dyconv.infp.portraits import FaceCrop, FaceModels, find_portrait
from dyconv.infp.render import Portrait
from dyconv.infp.stage1 import Stage1, encoded, load_stage1
from dyconv.infp.stage2 import Guidance, Stage2
from dyconv.infp.stream import Stream
from dyconv.infp.weights import WeightFiles, in_folder, reference
from dyconv.time import FPS, SAMPLES_PER_FRAME

_BATCH = 8  # frames rendered at once
_ENCODED = 32  # frames encoded at once
_STYLE, _STYLE_FRAMES = 10 * FPS, 32  # frames of a style clip that are looked at, and of those how many are taken


@dataclass(frozen=True)
class Subject:
    """A portrait that an agent can animate.

    Attributes:
        crop: the face as it was cut out.
        portrait: what the renderer keeps of it.
    """

    crop: FaceCrop
    portrait: Portrait

    @property
    def latent(self) -> Tensor:
        """The portrait's own motion latent float32 [1, latent]."""
        return self.portrait.motion


class Agent:
    """
    Args:
        stage1, stage2: as trained; without `stage2` a portrait can be driven by video only.
        device: of torch.
        batch: frames rendered at once.

    Raises:
        UsageError: where `stage2` generates latents of another encoder.
    """

    def __init__(
        self, stage1: Stage1, stage2: Stage2 | None = None, *, device: str | torch.device = "cpu", batch: int = _BATCH
    ) -> None:
        if stage2 is not None and stage2.encoder_hash != stage1.encoder_hash:
            raise UsageError(
                f"Stage 2 generates motion latents of encoder {stage2.encoder_hash[:8] or '(not said)'}, "
                f"but the renderer belongs to encoder {stage1.encoder_hash[:8]}",
                hint="use the Stage-1 weights it was trained with",
            )
        self.device = torch.device(device)
        self.stage1 = stage1.to(self.device).eval()
        self._stage2 = None if stage2 is None else stage2.to(self.device).eval()
        self.batch = batch
        self._models: FaceModels | None = None

    @classmethod
    def load(
        cls, weights: str | Path | WeightFiles | None = None, *, device: str | torch.device | None = None, batch: int = _BATCH
    ) -> Self:
        """An agent from files.

        Args:
            weights: a folder (see `dyconv.infp.weights.in_folder`) or the files; by default the reference weights.
            device: by default CUDA where there is one.

        Raises:
            ModelMissing: where weights are not there or damaged; the hint says what makes them.
            UsageError: where they do not belong together, or there is no such device.
        """
        device = device_named(device)
        files = reference() if weights is None else weights if isinstance(weights, WeightFiles) else in_folder(Path(weights))
        stage1 = load_stage1(files.encoder, files.renderer)
        stage2 = None if files.stage2 is None else Stage2.load(files.stage2, encoder_hash=stage1.encoder_hash)
        return cls(stage1, stage2, device=device, batch=batch)

    @property
    def size(self) -> int:
        """Side of portraits and frames, pixels."""
        return self.stage1.config.size

    @property
    def stage2(self) -> Stage2:
        """
        Raises:
            UsageError: where there is none.
        """
        if self._stage2 is None:
            raise UsageError("this agent has no Stage 2, which makes motion of voices", hint="give weights that hold one")
        return self._stage2

    @property
    def models(self) -> FaceModels:
        """The pipeline's face models, loaded when they are first needed."""
        if self._models is None:
            self._models = FaceModels.load()
        return self._models

    def portrait(
        self, picture: str | Path | np.ndarray | FaceCrop, *, face: int | None = None, like: Driver | None = None
    ) -> Subject:
        """The face of a photograph or drawing, ready to be animated.

        Args:
            picture: a file, uint8 RGB [H, W, 3], or a face that was cut out at this agent's size.
            face: which one, counted from the left from 1; the largest if not given.
            like: who will drive it: the face is cut out as the driver's is in the frame that is most like it, so that nothing
                jumps; by default with a window 1.5 faces wide.

        Raises:
            UsageError: where the picture cannot be read, or no face is found in it.
        """
        if isinstance(picture, FaceCrop):
            crop = picture
        else:
            found = find_portrait(picture, self.models, face=face)
            crop = found.cut(self.size, None if like is None else like.landmarks[like.most_like(found.landmarks)])
        mask = masked(crop.image[None], crop.landmarks[None])
        with torch.inference_mode():
            pictures, masks = (to_unit(torch.from_numpy(values)).to(self.device) for values in (crop.image[None], mask))
            return Subject(crop, self.stage1.portrait(pictures, masks))

    def encode(self, frames: Iterable[np.ndarray], landmarks: np.ndarray) -> Iterator[Tensor]:
        """Latents float32 [k, latent] of face crops uint8 [S, S, 3] with landmarks [T, 478, 3] in their pixels, in batches."""
        for latents in encoded(self.stage1.encoder, self.size, frames, landmarks, batch=_ENCODED):
            yield torch.from_numpy(latents).to(self.device)

    def render(self, subject: Subject, latents: Tensor | Iterable[Tensor]) -> Iterator[np.ndarray]:
        """Frames uint8 RGB [S, S, 3] of motion latents [T, latent], or of pieces of them."""
        for piece in [latents] if isinstance(latents, Tensor) else latents:
            for part in piece.split(self.batch):
                if not len(part):
                    continue
                with torch.inference_mode():
                    pictures = to_pixels(self.stage1.frames(subject.portrait, part.to(self.device))).cpu().numpy()
                yield from pictures

    def driver(self, video: str | Path, *, most: int | None = None, seen: Callable[[int], None] | None = None) -> Driver:
        """The face of a video, followed; see `dyconv.infp.driver.read_driver`."""
        return read_driver(Path(video), self.size, self.models, most=most, seen=seen)

    def style(self, video: str | Path) -> np.ndarray:
        """Latents float32 [S, latent] of 32 frames (as in training) from ten seconds of a person's video: how they move.

        Raises:
            UsageError: where it is no video, or no face is followed in it.
        """
        driver = self.driver(video, most=_STYLE)
        latents = torch.cat(list(self.encode(driver.pictures(), driver.landmarks))).cpu().numpy()[driver.present]
        return latents[np.unique(np.linspace(0, len(latents) - 1, _STYLE_FRAMES).round().astype(int))]

    def guidance(self, motion: float | None = None, style: float | None = None) -> Guidance:
        """Scales of guidance; those not given are the model's own."""
        own = self.stage2.config
        return Guidance(own.guide_motion if motion is None else motion, own.guide_style if style is None else style)

    def animate(
        self,
        subject: Subject,
        frames: Iterable[np.ndarray],
        landmarks: np.ndarray,
        *,
        relative: bool = False,
        reference: Tensor | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames of the portrait moving as the driver does.

        Args:
            frames: the driver's face uint8 RGB [S, S, 3], cut out by one window as wide as the portrait's (1.5 faces).
            landmarks: float [T, 478, 3] in their pixels.
            relative: add the driver's motion to how the face is held in the portrait; otherwise the portrait takes on the
                driver's pose and expression.
            reference: for `relative`: the driver's latent [1, latent] when held as the portrait is; by default the first.
        """
        for latents in self.encode(frames, landmarks):
            if relative:
                reference = latents[:1].clone() if reference is None else reference
                latents = subject.latent + latents - reference
            yield from self.render(subject, latents)

    def live(
        self,
        subject: Subject,
        *,
        style: Tensor | np.ndarray | None = None,
        seed: int = 0,
        guidance: Guidance | None = None,
        chunk: int | None = None,
        steps: int | None = None,
    ) -> Live:
        """A conversation whose sound is still to come; see `Live` and `dyconv.infp.stage2.Stage2.generate`."""
        stream = Stream(
            self.stage2,
            style=style,
            seed=seed,
            previous=self.before(subject),
            guidance=guidance,
            chunk=chunk,
            steps=steps,
        )
        return Live(self, subject, stream)

    def before(self, subject: Subject) -> Tensor:
        """What comes before a conversation, latents [context, latent]: the portrait, still. Motion begins where it is held."""
        return subject.latent.expand(self.stage2.config.context, -1)

    def talk(
        self,
        subject: Subject,
        own: np.ndarray | None,
        partner: np.ndarray | None,
        *,
        style: Tensor | np.ndarray | None = None,
        seed: int = 0,
        guidance: Guidance | None = None,
        chunk: int | None = None,
        steps: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames uint8 RGB [S, S, 3] of the portrait in a conversation: ceil(N / 640) of voices mono 16 kHz [N].

        Without a partner's voice it is a talking head, without an own voice a listening one. Nothing is switched.

        Args:
            own, partner: samples; None, or what is missing of the shorter one, is silence.
            For the others see `Stage2.generate`.

        Raises:
            UsageError: where there is no voice at all, or no Stage 2.
        """
        live = self.live(subject, style=style, seed=seed, guidance=guidance, chunk=chunk, steps=steps)
        for piece in _pieces(own, partner, live.chunk * SAMPLES_PER_FRAME):
            yield from live.push(*piece)
        yield from live.finish()


class Live:
    """A conversation while it goes on: sound in, frames out.

    The same sound, cut in any way, gives the same frames to the bit, and those that `Agent.talk` gives with the same options.

    Attributes:
        latency: seconds from when a frame's sound is heard to when the frame can be there, in the worst case, without the
            time to compute a chunk: the chunk must be complete, and the little sound after it that the features look at.
        chunk: frames generated at once.
    """

    def __init__(self, agent: Agent, subject: Subject, stream: Stream) -> None:
        self._agent, self._subject, self._stream = agent, subject, stream
        self.latency, self.chunk = stream.latency, stream.chunk

    def push(self, own: np.ndarray | None, partner: np.ndarray | None) -> Iterator[np.ndarray]:
        """Take the next samples [n] of both voices, equally many (None: silence), and give the frames that are ready.

        Frames uint8 RGB [S, S, 3] are rendered as they are taken; the sound is taken at once.
        """
        return self._frames(self._stream.push(own, partner))

    def finish(self) -> Iterator[np.ndarray]:
        """The rest of the frames: silence follows. Nothing may be pushed after it."""
        return self._frames(self._stream.finish())

    def _frames(self, latents: Tensor) -> Iterator[np.ndarray]:
        return self._agent.render(self._subject, latents.split(self.chunk))


def device_named(name: str | torch.device | None) -> torch.device:
    """
    Raises:
        UsageError: where there is no such device.
    """
    cuda = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if cuda else "cpu"))
    except RuntimeError as error:
        raise UsageError(f"expected a device such as cpu or cuda, found {name!r}", hint="leave --device out") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not cuda):
        raise UsageError(f"expected a device of this machine, found {name}: there is none", hint="use cpu")
    return device


def _pieces(
    own: np.ndarray | None, partner: np.ndarray | None, length: int
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Both voices in pieces of `length` samples; the shorter one is silent after its end.

    Raises:
        UsageError: where both are None.
    """
    if own is None and partner is None:
        raise UsageError("expected a voice, found neither an own nor a partner's", hint="give at least one voice")
    longest = max(len(voice) for voice in (own, partner) if voice is not None)
    for start in range(0, longest, length):
        count = min(length, longest - start)
        parts = (None if voice is None else voice[start : start + count] for voice in (own, partner))
        mine, theirs = (None if part is None else np.pad(part, (0, count - len(part))) for part in parts)
        yield mine, theirs
