"""Side-by-side videos: ground truth, ours and a baseline in one picture, with the voices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dyconv.errors import UsageError
from dyconv.infp.film import SOUND_PER_FRAME, SOUND_RATE, Film
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.evaluation.videos import open_video

SIDE = 256  # pixels of a column
STRIP = 28  # pixels above it, for its name
_CHUNK = 16  # frames held at a time


def side_by_side(
    columns: Sequence[tuple[str, bytes | Path]],
    path: Path,
    *,
    frames: int,
    sound: Sequence[np.ndarray] = (),
    side: int = SIDE,
) -> None:
    """Write an mp4 with the columns beside each other, their names above them; it is marked as synthetic.

    A few frames are held at a time, however long the videos are.

    Args:
        columns: from left to right: name, and mp4 of T square frames at 25 fps.
        frames: T.
        sound: voices float32 [T * 640] at 16 kHz: one is heard in the middle; of two the first is heard left, the second right.
        side: pixels of each picture, even.

    Raises:
        UsageError: where there is no column, or no mp4 can be written to `path`.
        BadVideo: where a video is missing, damaged or of another length.
    """
    if not columns:
        raise UsageError("a side-by-side video needs one column at least, found none", hint="name the systems to show")
    videos = [open_video(source, frames=frames, where=_where(name, source)) for name, source in columns]
    head = np.concatenate([label(name, side) for name, _ in columns], axis=1)
    heard = _heard(sound, frames)
    with Film(path, side * len(columns), height=side + STRIP, channels=len(sound)) as film:
        for pictures in _rows(zip(*(video.chunks(side, _CHUNK) for video in videos), strict=True)):
            film.write(np.concatenate([head, pictures]), next(heard))


def label(name: str, width: int) -> np.ndarray:
    """A name on a dark strip uint8 [STRIP, width, 3]; cut where it is longer than the strip."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (width, STRIP), "#14181d")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    while len(name) > 1 and pen.textlength(name, font=font) > width - 8:
        name = name[:-2] + "…"
    pen.text((width / 2, STRIP / 2), name, fill="#e3e8ee", font=font, anchor="mm")
    return np.asarray(image)


def _rows(chunks: Iterator[tuple[np.ndarray, ...]]) -> Iterator[np.ndarray]:
    """Each frame's pictures in one row uint8 [side, side * columns, 3]."""
    for parts in chunks:
        yield from np.concatenate(parts, axis=2)


def _heard(sound: Sequence[np.ndarray], frames: int) -> Iterator[np.ndarray | None]:
    """What is heard in each frame: float32 [voices, 1920], or None without sound."""
    from scipy.signal import resample_poly

    wanted = frames * SAMPLES_PER_FRAME
    if any(len(voice) != wanted for voice in sound):
        raise ValueError(f"expected voices of {wanted} samples, found {[len(voice) for voice in sound]}")
    high = [resample_poly(voice, SOUND_RATE // SAMPLE_RATE, 1).astype(np.float32).clip(-1, 1) for voice in sound]
    for frame in range(frames):
        part = slice(frame * SOUND_PER_FRAME, (frame + 1) * SOUND_PER_FRAME)
        yield np.stack([voice[part] for voice in high]) if high else None


def _where(name: str, source: bytes | Path) -> str:
    return str(source) if isinstance(source, Path) else f"the video of {name}"
