"""Twelve synthetic clips with something of nature in them, and what was written measured against what is true of them.

Each clip is 30 s of 640x360 at 25 fps: a textured picture that pans, a body that sways, camera grain, and other content
after the cuts at 9.2 s and 18.2 s. A square flashes white at known times while a tone sounds; a grey patch tells the
shots apart, so that a frame of a neighbouring shot is seen in whatever was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dyconv.media.audio import read_audio
from dyconv.media.picture import PictureReader, Upright, display_size
from dyconv.media.sound import no_sound, read_sound
from dyconv.media.source import UnreadableSource, pick_audio, probe
from dyconv.media.video import read_frames
from dyconv.time import FPS, SAMPLE_RATE, Span

WIDTH, HEIGHT, SECONDS = 640, 360, 30
CUTS = (Fraction("9.2"), Fraction("18.2"))
EVENTS = tuple(Fraction(second, 25) for second in range(40, 25 * SECONDS, 70))  # each on a frame's start
RATE = 48_000
_TONE_HZ, _TONE_S, _FLASH_FRAMES = 1500, 0.12, 3
_PATCH = 32  # pixels; both marks are squares of this size at the bottom


def make_clip(path: Path, seed: int) -> Path:
    """Write one clip as H.264 and AAC in MP4; the same seed gives the same clip."""
    rng = np.random.default_rng(seed)
    scenes = [_texture(rng) for _ in range(len(CUTS) + 1)]
    grain = rng.normal(0, 2.5, (8, HEIGHT, WIDTH, 1)).astype(np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "veryfast", "crf": "20"}
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for index in range(SECONDS * FPS):
            picture = av.VideoFrame.from_ndarray(_picture(index, scenes, grain), format="rgb24")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(_sound(rng)[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts = RATE, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    return path


def _texture(rng: np.random.Generator) -> np.ndarray:
    """A picture twice the frame's size, int16 [2H, 2W, 3], whose spectrum falls like that of photographs (1/f)."""
    rows, columns = np.fft.fftfreq(2 * HEIGHT)[:, None], np.fft.rfftfreq(2 * WIDTH)[None, :]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / (2 * WIDTH))
    shape = (2 * HEIGHT, WIDTH + 1)
    base = np.fft.irfft2(fall * np.exp(2j * np.pi * rng.random(shape)), (2 * HEIGHT, 2 * WIDTH))
    base = 40 * base / base.std()
    tint = rng.uniform(0.6, 1.2, 3)
    return np.clip(rng.uniform(70, 170) + base[..., None] * tint, 0, 255).astype(np.int16)


def _picture(index: int, scenes: list[np.ndarray], grain: np.ndarray) -> np.ndarray:
    time = Fraction(index, FPS)
    shot = sum(time >= cut for cut in CUTS)
    x, y = int(WIDTH / 2 + 0.4 * WIDTH * np.sin(index / 190)), int(HEIGHT / 2 + 0.2 * HEIGHT * np.cos(index / 140))
    picture = scenes[shot][y : y + HEIGHT, x : x + WIDTH] + grain[index % len(grain)]
    sway, rows, columns = 30 * np.sin(index / 9), np.arange(HEIGHT)[:, None], np.arange(WIDTH)[None, :]
    body = ((columns - WIDTH / 2 - sway) / 70) ** 2 + ((rows - HEIGHT / 2) / 110) ** 2 < 1
    picture[body] = scenes[shot][:HEIGHT, :WIDTH][body] // 2 + (95, 70, 60)
    picture[-_PATCH:, :_PATCH] = 40 + 80 * shot
    picture[-_PATCH:, -_PATCH:] = 255 if any(0 <= index - int(event * FPS) < _FLASH_FRAMES for event in EVENTS) else 30
    return np.clip(picture, 0, 255).astype(np.uint8)


def _sound(rng: np.random.Generator) -> np.ndarray:
    now = np.arange(SECONDS * RATE) / RATE
    out = 0.02 * rng.standard_normal(len(now)) * (1 + np.sin(2 * np.pi * 3.5 * now))
    for event in EVENTS:
        start = int(event * RATE)
        out[start : start + int(_TONE_S * RATE)] += 0.6 * np.sin(2 * np.pi * _TONE_HZ * now[: int(_TONE_S * RATE)])
    return out.astype(np.float32)


@dataclass(frozen=True)
class Marks:
    """What is seen and heard in a written clip.

    Attributes:
        shots: of each frame, which shot's patch it shows.
        offsets: sound minus picture at each event, in 25 fps frames.
    """

    shots: list[int]
    offsets: list[float]


def read_marks(video: Path, mix: Path) -> Marks:
    """Find the patches, flashes and tones in a normalized clip."""
    return _marks(((index / FPS, frame) for index, frame in enumerate(read_frames(video))), read_audio(mix))


def read_foreign_marks(path: Path) -> Marks:
    """The same in any file with pictures and sound, by its presentation timestamps.

    Raises:
        UnreadableSource: if nothing of it can be read.
    """
    video, samples = pictures_and_sound(path)
    return _marks(video, samples)


def pictures_and_sound(path: Path) -> tuple[Iterator[tuple[float, np.ndarray]], np.ndarray]:
    """(seconds, uint8 RGB [H, W, 3] upright) of each frame, and mono sound [N] at 16 kHz, both from the first frame's time.

    Raises:
        UnreadableSource: if nothing of it can be read.
    """
    info = probe(path)
    if info.video is None:
        raise UnreadableSource("no pictures")
    span = Span(info.video.start, info.video.end)
    track = pick_audio(info, None)
    sound = (read_sound(path, track, span) if track else no_sound(span)).samples
    upright = Upright(display_size(info.video), "rgb24", quick=True)
    reader = PictureReader(path, info.video)
    return ((float(frame.time - span.start), upright(frame.picture).to_ndarray()) for frame in reader), sound


def _marks(pictures: Iterable[tuple[float, np.ndarray]], samples: np.ndarray) -> Marks:
    shots, lit, times = [], [], []
    for time, frame in pictures:
        shots.append(int(np.clip(round((float(frame[-_PATCH + 8 : -8, 8 : _PATCH - 8].mean()) - 40) / 80), 0, 9)))
        lit.append(float(frame[-_PATCH + 8 : -8, -_PATCH + 8 : -8].mean()) > 140)
        times.append(time)
    flashes = [times[index] for index in range(1, len(lit)) if lit[index] and not lit[index - 1]]
    return Marks(shots, offsets_of(flashes, [tone / SAMPLE_RATE for tone in _tone_starts(samples)]))


def offsets_of(flashes: Sequence[float], tones: Sequence[float]) -> list[float]:
    """Sound minus picture in 25 fps frames at each flash that has a tone within a second; both in seconds."""
    found = []
    for flash in flashes:
        near = min(tones, key=lambda tone: abs(tone - flash), default=None)
        if near is not None and abs(near - flash) < 1:
            found.append((near - flash) * FPS)
    return found


def _tone_starts(samples: np.ndarray) -> list[int]:
    """First samples of the tones: where the level at the tone's pitch, over 4 ms, rises through half of its peak."""
    window = int(0.004 * SAMPLE_RATE)
    turning = samples * np.exp(-2j * np.pi * _TONE_HZ * np.arange(len(samples)) / SAMPLE_RATE)
    level = np.abs(np.convolve(turning, np.ones(window) / window, "same"))
    loud = level > 0.5 * level.max(initial=1e-9)
    starts = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1
    return [int(start) for number, start in enumerate(starts) if number == 0 or start - starts[number - 1] > SAMPLE_RATE // 2]
