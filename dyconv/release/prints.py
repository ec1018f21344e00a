"""What a clip looks and sounds like, small enough to compare with every other clip: picture hashes and voice vectors.

Pictures: the perceptual hash of Zauner 2010 ("Implementation and benchmarking of perceptual image hash functions") with
256 bits: the lowest 16 x 16 DCT coefficients of the grey picture at 64 x 64, each above or below their median. A mirrored
picture changes the sign of every second column of coefficients, so it has a hash of its own, which is made from the
flipped picture. Voices: the vector of the GE2E encoder (`dyconv.models.ge2e_net`) over what a person says alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.records import PERSONS, Clip, Key, Person
from dyconv.release.model import person_key
from dyconv.release.packed import Packed
from dyconv.store import Store
from dyconv.time import FPS, SAMPLE_RATE, sample_at

if TYPE_CHECKING:
    from rich.console import Console

    from dyconv.models.slots import FaceIdentity

BITS = 256
_SIDE, _KEPT = 64, 16
_EVERY_S = 1.0  # seconds between hashed pictures
_PICTURES = 40  # of one video, at most
_FLAT = 4.0  # grey levels of deviation: a blank picture is like every other blank one
_SPEECH_S = (3.0, 40.0)  # seconds of one voice alone: with less there is no vector, more is not read
VOICE_MODEL = "pyannote_ge2e"


class Reader(Protocol):
    """Where members come from: `dyconv.release.packed.Packed`."""

    def member(self, clip_id: str, field: str) -> bytes: ...


@dataclass(frozen=True)
class PersonPrint:
    """One person of a clip.

    Attributes:
        key: `person_key`.
        voice: float32 [256] of unit length; None with too little speech.
        face: float32 [D] of unit length; None where no recogniser looked, or nobody is seen.
    """

    id: str
    key: str
    voice: np.ndarray | None = field(default=None, repr=False)
    face: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Print:
    """One clip.

    Attributes:
        pictures: uint8 [n, 32], hashes of its pictures, those of all its videos; `mirrored` of the same pictures flipped.
    """

    clip: str
    source: str
    people: tuple[PersonPrint, ...]
    pictures: np.ndarray = field(repr=False)
    mirrored: np.ndarray = field(repr=False)


def picture_hash(picture: np.ndarray) -> np.ndarray | None:
    """256 bits as uint8 [32] of a picture uint8 [H, W] or [H, W, 3]; None where it is blank."""
    import cv2
    from scipy.fft import dctn

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    if small.std() < _FLAT:
        return None
    low = dctn(small, norm="ortho")[:_KEPT, :_KEPT].reshape(-1)
    return np.packbits(low > np.median(low[1:]))


class Printer:
    """Makes prints.

    Args:
        voices: compare voices; needs the encoder's weights.
        faces: a face recogniser that holds across sources; None for none.

    Raises:
        ModelMissing: where weights are not here.
    """

    def __init__(self, *, voices: bool = True, faces: FaceIdentity | None = None) -> None:
        self._voices = _voice_encoder() if voices else None
        self._faces = faces

    def print(self, clip: Clip, reader: Reader) -> Print:
        """The print of a clip whose assets' paths are members."""
        pictures: list[np.ndarray] = []
        mirrored: list[np.ndarray] = []
        faces: dict[str, np.ndarray] = {}
        for key in sorted(clip.assets):
            if not key.endswith(".mp4"):
                continue
            seen = _pictures(clip, key, reader)
            for grey in seen:
                plain, turned = picture_hash(grey), picture_hash(grey[:, ::-1])
                if plain is not None and turned is not None:
                    pictures.append(plain)
                    mirrored.append(turned)
        for person in PERSONS:
            if self._faces and (vector := _face(self._faces, clip, person, reader)) is not None:
                faces[person] = vector
        people = tuple(
            PersonPrint(person.id, person_key(clip, person), self._voice(clip, person, reader), faces.get(person.id))
            for person in clip.people
            if person.seen or person.heard
        )
        empty = np.zeros((0, BITS // 8), np.uint8)
        return Print(
            clip.id,
            clip.source.id,
            people,
            np.stack(pictures) if pictures else empty,
            np.stack(mirrored) if mirrored else empty,
        )

    def _voice(self, clip: Clip, person: Person, reader: Reader) -> np.ndarray | None:
        key = Key.of(person.id, "voice")
        if self._voices is None or not person.heard or key not in clip.assets:
            return None
        import torch

        from dyconv.media.audio import read_audio
        from dyconv.models.ge2e_net import levelled

        samples = alone(clip, person.id, read_audio(io.BytesIO(_member(clip, key, reader))))
        if len(samples) < _SPEECH_S[0] * SAMPLE_RATE:
            return None
        self._voices.forget()
        with torch.inference_mode():
            vector = self._voices(torch.from_numpy(levelled(samples))[None, None])[0].numpy()
        return np.asarray(vector, np.float32)


def alone(clip: Clip, person: str, samples: np.ndarray) -> np.ndarray:
    """The samples [N] of a voice in which only this person speaks, by the turns; at most 40 s of them."""
    keep = np.zeros(len(samples), bool)
    for turn in clip.turns:
        if turn.person == person:
            keep[sample_at(turn.span.start) : sample_at(turn.span.end)] = True
    for turn in clip.turns:
        if turn.person != person:
            keep[sample_at(turn.span.start) : sample_at(turn.span.end)] = False
    return samples[keep][: int(_SPEECH_S[1] * SAMPLE_RATE)]


def _member(clip: Clip, key: Key, reader: Reader) -> bytes:
    return reader.member(clip.id, clip.assets[key].path.partition(".")[2])


def _pictures(clip: Clip, key: Key, reader: Reader) -> list[np.ndarray]:
    """Small grey pictures of a video, one a second, only where the face is really there."""
    import cv2

    from dyconv.media.video import read_frames

    present = _present(clip, key, reader)
    step = max(int(_EVERY_S * FPS), -(-clip.frames // _PICTURES))
    frames = read_frames(io.BytesIO(_member(clip, key, reader)), size=(2 * _SIDE, 2 * _SIDE))
    return [
        cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        for number, frame in enumerate(frames)
        if number % step == step // 2 % max(clip.frames, 1) and (present is None or (number < len(present) and present[number]))
    ]


def _present(clip: Clip, key: Key, reader: Reader) -> np.ndarray | None:
    crop = Key.of(key.split(".")[0], "crop") if key in (Key.P0_FACE, Key.P1_FACE) else None
    if crop is None or crop not in clip.assets:
        return None
    from dyconv.arrays import load_arrays

    return np.asarray(load_arrays(io.BytesIO(_member(clip, crop, reader)))["present"], bool)


def _face(model: FaceIdentity, clip: Clip, person: str, reader: Reader) -> np.ndarray | None:
    """Mean descriptor of some pictures of a face."""
    video, crop = Key.of(person, "face"), Key.of(person, "crop")
    if video not in clip.assets or crop not in clip.assets:
        return None
    from dyconv.arrays import load_arrays
    from dyconv.faces import unpack_points
    from dyconv.media.video import read_frames

    held = load_arrays(io.BytesIO(_member(clip, crop, reader)))
    landmarks, there = unpack_points(held["landmarks"]), np.flatnonzero(held["present"])
    chosen = set(there[np.linspace(0, len(there) - 1, min(8, len(there))).astype(int)].tolist()) if len(there) else set()
    frames = enumerate(read_frames(io.BytesIO(_member(clip, video, reader))))
    vectors = [model.embed(frame, landmarks[number]) for number, frame in frames if number in chosen]
    if not vectors:
        return None
    mean = np.mean(vectors, axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-6), np.float32)


def _voice_encoder() -> Any:
    from dyconv.models.pyannote_load import quiet_import
    from dyconv.models.registry import require, weight_path
    from dyconv.store import sha256_of

    weight = next(one for one in require(VOICE_MODEL).weights if one.path.endswith("voices.pt"))
    path = weight_path(weight)
    if weight.sha256 and sha256_of(path) != weight.sha256:
        raise ModelMissing(f"{path} is not the voice encoder", hint=f"run: dyconv models pull --force {VOICE_MODEL}")
    quiet_import()
    import torch

    from dyconv.models.ge2e_net import load_voice_encoder

    torch.set_num_threads(1)  # sums in another order would be other numbers
    return load_voice_encoder(path)


def _recogniser(name: str) -> FaceIdentity:
    """A model that says who somebody is across sources.

    Raises:
        ModelMissing: if it is not here.
        UsageError: if it holds within one source only.
    """
    from dyconv.errors import UsageError
    from dyconv.models.registry import load

    model = load(name)
    if getattr(model, "scope", None) != "global":
        raise UsageError(
            f"{name} tells people apart within one source only, releases compare people across sources",
            hint="use a face recogniser such as insightface_buffalo_l (`dyconv models list` tells the licence)",
        )
    return model


@dataclass(frozen=True)
class Settings:
    """How prints are made. `workers` processes make them; the prints are the same with any number.

    Attributes:
        identity: a face recogniser that holds across sources, by its name in the registry.
    """

    voices: bool = True
    identity: str | None = None
    workers: int = 1

    def printer(self) -> Printer:
        """Raises ModelMissing or UsageError where a model is not here or cannot compare sources."""
        return Printer(voices=self.voices, faces=_recogniser(self.identity) if self.identity else None)


def prints_of(clips: Sequence[Clip], packed: Packed, settings: Settings, console: Console | None = None) -> list[Print]:
    """The prints of clips, in order; `console` is shown how far it is.

    Raises:
        ModelMissing: where weights are not here.
    """
    from rich.progress import track

    with _mapped(packed, settings) as mapped:
        shown = track(mapped(clips), "comparing clips", len(clips), console=console, disable=console is None)
        return list(shown)


@contextmanager
def _mapped(packed: Packed, settings: Settings) -> Iterator[Callable[[Sequence[Clip]], Iterator[Print]]]:
    if settings.workers < 2:
        printer = settings.printer()
        yield lambda clips: (printer.print(clip, packed) for clip in clips)
        return
    if settings.voices:
        _voice_encoder()  # says what is missing before any process starts
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    packed.shard_of()  # verifies the shards, which the processes then need not
    with ProcessPoolExecutor(
        settings.workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(packed.store, settings)
    ) as pool:
        yield lambda clips: pool.map(_print_one, clips, chunksize=4)


_here: tuple[Packed, Printer] | None = None  # of a worker process


def _begin(store: Store, settings: Settings) -> None:
    global _here
    _here = Packed(store, verified=True), settings.printer()


def _print_one(clip: Clip) -> Print:
    assert _here is not None
    return _here[1].print(clip, _here[0])
