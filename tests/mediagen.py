"""Small odd media files for tests, with known truth: made with PyAV, nothing is downloaded.

A made clip shows, in each shot, another textured background with a head-like blob that moves. At each sync event a white
square lights up in the middle of the picture for `FLASH_S`, and a click is heard at the same instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from dyconv.records import Clip, Drop, Key, Ref, Source, source_clip
from dyconv.stages.base import Files, Stage, check_contract
from dyconv.store import Store, sha256_of

FLASH_S = 0.12
CLICK_S = 0.02


@dataclass(frozen=True)
class Made:
    """What a made file truly contains. Times are on the file's presentation clock, seconds."""

    path: Path
    cuts: tuple[float, ...]
    events: tuple[float, ...]  # when each click is heard
    shown: tuple[float, ...]  # when each event's square lights up: the first frame at or after the event
    start: float
    duration: float


def times_cfr(duration: float, fps: Fraction | int = 25) -> list[Fraction]:
    """Presentation times of constant-rate frames."""
    return [Fraction(index) / Fraction(fps) for index in range(int(duration * Fraction(fps)))]


def times_vfr(duration: float, seed: int = 0) -> list[Fraction]:
    """Presentation times with steps that change between 1/60 and 1/10 s, in whole milliseconds."""
    rng = np.random.default_rng(seed)
    times, now = [], Fraction(0)
    while now < duration:
        times.append(now)
        now += Fraction(int(rng.integers(17, 100)), 1000)
    return times


def shot_picture(shot: int, width: int, height: int) -> np.ndarray:
    """Background of a shot, uint8 [H, W, 3]: smooth blobs of colour, different for each shot, dark and light in turn."""
    rng = np.random.default_rng(1000 + shot)
    coarse = rng.integers(*((20, 130), (70, 210))[shot % 2], (5, 8, 3)).astype(np.float32)
    rows = np.linspace(0, 4, height)
    columns = np.linspace(0, 7, width)
    low_r, low_c = np.minimum(rows.astype(int), 3), np.minimum(columns.astype(int), 6)
    part_r, part_c = (rows - low_r)[:, None, None], (columns - low_c)[None, :, None]
    upper = coarse[low_r][:, low_c] * (1 - part_c) + coarse[low_r][:, low_c + 1] * part_c
    lower = coarse[low_r + 1][:, low_c] * (1 - part_c) + coarse[low_r + 1][:, low_c + 1] * part_c
    picture: np.ndarray = (upper * (1 - part_r) + lower * part_r).astype(np.uint8)
    return picture


def draw(picture: np.ndarray, time: float, *, lit: bool, move: bool = True) -> np.ndarray:
    """A frame of a shot: the blob where it is at `time`, and the white square if `lit`."""
    height, width = picture.shape[:2]
    frame = picture.copy()
    swing = np.sin(2 * np.pi * 0.5 * time) if move else 0.0
    x, y, radius = width * (0.5 + 0.05 * swing), height * (0.45 + 0.03 * swing), height * 0.22
    rows, columns = np.ogrid[:height, :width]
    frame[((columns - x) / radius) ** 2 + ((rows - y) / (1.3 * radius)) ** 2 < 1] = (205, 160, 140)
    if lit:
        side = height // 6
        frame[height // 2 - side : height // 2 + side, width // 2 - side : width // 2 + side] = 255
    return frame


def sound(duration: float, rate: int, events: Sequence[float], *, level: float = 0.05, seed: int = 0) -> np.ndarray:
    """Speech-like noise (syllables at 4 Hz) with a click at each event: float32 [N]."""
    count = int(duration * rate)
    now = np.arange(count) / rate
    rng = np.random.default_rng(seed)
    voice = np.sin(2 * np.pi * 140 * now) + 0.5 * np.sin(2 * np.pi * 700 * now) + 0.3 * rng.standard_normal(count)
    out = level * voice * np.clip(np.sin(2 * np.pi * 4 * now), 0, 1) * (np.sin(2 * np.pi * 0.31 * now) > -0.4)
    for event in events:
        at = round(event * rate)
        length = min(int(CLICK_S * rate), count - at)
        if length > 0:
            out[at : at + length] += 0.8 * np.sin(2 * np.pi * 1500 * np.arange(length) / rate)
    return np.clip(out, -1, 1).astype(np.float32)


def make_media(
    path: Path,
    *,
    duration: float = 4.0,
    times: Sequence[Fraction] | None = None,
    size: tuple[int, int] = (320, 180),
    cuts: Sequence[float] = (),
    dissolves: Sequence[tuple[float, float]] = (),
    camera_flashes: Sequence[float] = (),
    events: Sequence[float] = (),
    start: float = 0.0,
    audio_start: float | None = None,
    rotation: int = 0,
    sar: Fraction | None = None,
    audio: str | None = "aac",
    audio_rate: int = 44100,
    silent: bool = False,
    video: str | None = "libx264",
    move: bool = True,
    options: dict[str, str] | None = None,
    heard: np.ndarray | None = None,
) -> Made:
    """Write one file; the container follows from the path's suffix.

    Args:
        times: presentation times of the frames from zero; 25 fps if not given.
        cuts: the picture changes with the first frame at or after each of these times.
        dissolves: (start, end) of linear blends from one shot to the next.
        camera_flashes: times of a single all-white frame.
        events: times of a white square in the picture together with a click in the sound.
        start: presentation time of everything's zero. `audio_start` moves the sound's samples but not what they mean:
            events stay together with the picture.
        heard: sound instead of the speech-like noise and its clicks, float32 [channels, N] at `audio_rate`.
        rotation: degrees counter-clockwise written to the display matrix.
    """
    times = list(times) if times is not None else times_cfr(duration)
    offset = Fraction(start).limit_denominator(90000)
    with av.open(str(path), "w", options=options or {}) as container:
        picture = _add_video(container, video, size, rotation, sar) if video else None
        layout = "stereo" if heard is not None and len(heard) == 2 else "mono"
        speech = container.add_stream(audio, rate=audio_rate, layout=layout) if audio else None
        if picture is not None:
            changes = sorted([*cuts, *((a + b) / 2 for a, b in dissolves)])
            for time in times:
                image = _picture_at(float(time), size, changes, dissolves, camera_flashes, events, move)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round((time + offset) * 90000), Fraction(1, 90000)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if speech is not None:
            late = audio_start or 0.0
            whole = sound(duration, audio_rate, events)[None] if heard is None else heard
            samples = whole[:, round(late * audio_rate) :] * (0.0 if silent else 1.0)
            _encode_sound(container, speech, samples, round((float(offset) + late) * audio_rate), audio_rate)
    return Made(
        path,
        cuts=_first_at(times, cuts, offset),
        events=tuple(float(offset) + event for event in events),
        shown=_first_at(times, events, offset),
        start=float(offset),
        duration=duration,
    )


def _first_at(times: Sequence[Fraction], moments: Sequence[float], offset: Fraction) -> tuple[float, ...]:
    """The first frame time at or after each moment."""
    exact = [Fraction(moment).limit_denominator(10**6) for moment in moments]
    return tuple(float(offset + next(time for time in times if time >= moment)) for moment in exact)


def _add_video(container, codec: str, size: tuple[int, int], rotation: int, sar: Fraction | None):
    stream = container.add_stream(codec, rate=30)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, 90000)
    stream.codec_context.thread_count = 1
    if codec == "libx264":
        stream.options = {"preset": "veryfast", "crf": "20"}
    if sar:
        stream.codec_context.sample_aspect_ratio = sar
    if rotation:
        stream.set_display_rotation(rotation)
    return stream


def _picture_at(time, size, changes, dissolves, camera_flashes, events, move) -> np.ndarray:
    shot = sum(time >= change - 1e-9 for change in changes)
    lit = any(event - 1e-9 <= time < event + FLASH_S - 1e-9 for event in events)
    if any(flash - 1e-9 <= time < flash + 0.035 for flash in camera_flashes):
        return np.full((size[1], size[0], 3), 250, np.uint8)
    image = draw(shot_picture(shot, *size), time, lit=lit, move=move)
    for begin, end in dissolves:
        if begin <= time < end:
            before = sum((begin + end) / 2 > change for change in changes)
            part = (time - begin) / (end - begin)
            first = draw(shot_picture(before, *size), time, lit=lit, move=move).astype(np.float32)
            second = draw(shot_picture(before + 1, *size), time, lit=lit, move=move).astype(np.float32)
            return (first * (1 - part) + second * part).astype(np.uint8)
    return image


def _encode_sound(container, stream, samples: np.ndarray, pts: int, rate: int) -> None:
    planar = np.ascontiguousarray(samples, np.float32)
    frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout="stereo" if len(planar) == 2 else "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def truncate(path: Path, target: Path, share: float) -> Path:
    """Copy the first `share` of a file's bytes."""
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


def flip_bits(path: Path, target: Path, count: int, *, seed: int = 0, between: tuple[float, float] = (0.2, 0.9)) -> Path:
    """Copy a file with `count` single bits flipped in the given part of it."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    low, high = (int(len(data) * edge) for edge in between)
    for position in rng.integers(low, high, count):
        data[position] ^= 1 << int(rng.integers(8))
    target.write_bytes(bytes(data))
    return target


class Bench:
    """Runs stages one after another on a store in a folder, as the runner would, and checks their contract."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self._runs = 0

    def source(self, media: Path, *, language: str | None = None) -> Clip:
        """A source's record whose MEDIA is a copy of the file."""
        copy = self.folder / f"in-{media.name}"
        copy.write_bytes(media.read_bytes())
        clip = source_clip(Source(id="src", url="https://example.org/v", language=language))
        ref = Ref(f"in/{media.name}", sha256_of(copy), copy.stat().st_size)
        self.store.put(copy, ref.path)
        return replace(clip, assets={Key.MEDIA: ref})

    def run(self, stage: Stage, clip: Clip) -> list[Clip | Drop]:
        self._runs += 1
        scratch = self.folder / f"scratch{self._runs}"
        scratch.mkdir()
        files = Files(self.store, f"{stage.name}/{self._runs}", scratch)
        stage.setup()
        outputs = list(stage.process(clip, files))
        check_contract(stage, clip, outputs)
        files.commit()
        return outputs

    def kept(self, stage: Stage, clip: Clip) -> list[Clip]:
        """The clips a stage keeps; fails on a drop."""
        outputs = self.run(stage, clip)
        for output in outputs:
            assert isinstance(output, Clip), f"{output.reason}: {output.detail}"
        return [output for output in outputs if isinstance(output, Clip)]

    def path(self, clip: Clip, key: Key) -> Path:
        return self.store.local(clip.assets[key].path)
