"""Foreign files: what they are, and what of them is damaged.

Whatever comes from a host is untrusted. Only the containers and protocols below are opened, so that a "video" which is
really a playlist cannot make this machine read another file or call another host. Times are presentation timestamps as
exact `Fraction` seconds on the file's own clock, which need not start at zero.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from dyconv.bounds import AUDIO_CHANNELS, AUDIO_RATE, MEDIA_PACKETS, MEDIA_SECONDS, MEDIA_STREAMS, PIXELS, Bound
from dyconv.errors import DyconvError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,rm,nut,wav,mp3,flac,aac,ac3,w64,aiff,caf,"
    "h264,hevc,m4v,mpegvideo,ivf,y4m,yuv4mpegpipe,dv,gif"
)
# Not ENOMEM: FFmpeg says so of sizes that no machine has, and of streams beyond its own bound.
_MACHINE = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
_CHUNK = 1 << 24
_TIMES = 1 << 60  # timestamps and lengths beyond it, in a stream's own units, are damage
_SHORTEST_FRAME, _LONGEST_FRAME = Fraction(1, 1000), Fraction(60)  # s: usual times between frames that are believed
_SQUARE = 10  # a pixel is not so many times as wide as high, or as high as wide
_SLOWEST = 1000  # samples a second of sound: with fewer, one packet lasts for hours
_INDEX_TAIL = 1000  # index entries looked at from a stream's end: what is missing is missing at the end
# The second three-letter code that ISO 639-2 has for some languages, which older containers write.
_BIBLIOGRAPHIC = {
    **{"sqi": "alb", "hye": "arm", "eus": "baq", "mya": "bur", "zho": "chi", "ces": "cze", "nld": "dut", "fra": "fre"},
    **{"kat": "geo", "deu": "ger", "ell": "gre", "isl": "ice", "mkd": "mac", "mri": "mao", "msa": "may", "fas": "per"},
    **{"ron": "rum", "slk": "slo", "bod": "tib", "cym": "wel"},
}


class UnreadableSource(DyconvError):
    """Not media, or nothing of it can be read. About the data: a stage turns it into a `Drop`."""


@dataclass(frozen=True)
class VideoFacts:
    """A video stream. Sizes are in coded pixels; see `dyconv.media.picture.display_size` for what a viewer sees."""

    index: int
    codec: str
    width: int
    height: int
    sar: Fraction  # width of a pixel over its height
    rotation: int  # degrees clockwise that a player turns it by: 0, 90, 180 or 270
    start: Fraction  # presentation time of the first frame
    end: Fraction  # where the last frame ends
    frame: Fraction  # median time from frame to frame
    variable: bool  # frame times are not evenly spaced
    packets: int


@dataclass(frozen=True)
class AudioFacts:
    index: int
    codec: str
    rate: int
    channels: int
    language: str | None  # as the container says it, mostly ISO 639-2
    start: Fraction
    end: Fraction
    rank: int  # 0 for the original track, 1 for the default one, 2 for others, 3 for dubs and comments


@dataclass(frozen=True)
class SourceInfo:
    """What `probe` found. `missing` is the time that the container promises and that is not there, in seconds."""

    format: str
    start: Fraction
    duration: Fraction
    video: VideoFacts | None
    audio: tuple[AudioFacts, ...]
    missing: Fraction
    cut_off: bool  # the container's index points behind the end of the file
    damaged_packets: int


def open_source(path: Path) -> InputContainer:
    """Open a foreign file with the safe set of containers and protocols.

    Pictures are not decoded beyond the bound `PIXELS`, whatever size the stream itself says on the way.

    Raises:
        UnreadableSource: if it is none of them, damaged beyond opening, or has more streams or larger pictures than are read.
        OSError: if the file is missing or the machine cannot read it.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        container = av.open(str(path.absolute()), "r", container_options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        if _of_machine(error, path):
            raise
        raise UnreadableSource(f"not readable as media: {error.strerror}") from error
    except (ValueError, OverflowError) as error:  # values of a header that PyAV has no type for
        raise UnreadableSource(f"not readable as media: {error}") from error
    try:
        _bounded(container)
    except BaseException:
        container.close()
        raise
    return container


def _bounded(container: InputContainer) -> None:
    if MEDIA_STREAMS.passed_by(len(container.streams)):
        raise _too_much(f"{len(container.streams)} streams in it", MEDIA_STREAMS)
    for stream in container.streams.video:
        if stream.codec_context is None:
            continue
        width, height = stream.codec_context.width, stream.codec_context.height
        if PIXELS.passed_by(width * height):
            raise _too_much(f"pictures of {width} x {height} pixels", PIXELS)
        stream.codec_context.options = {"max_pixels": str(PIXELS.now)}


def _too_much(found: str, bound: Bound) -> UnreadableSource:
    return UnreadableSource(f"{found}, at most {bound.now} are read ({bound.variable} sets another bound)")


def probe(path: Path) -> SourceInfo:
    """Read every packet of a file, decode one frame, and say what it is.

    Raises:
        UnreadableSource: see `open_source`; also for a file with neither pictures nor sound, and for one that lasts longer or
            has more packets than are read.
    """
    with open_source(path) as container:
        pictures = [
            stream
            for stream in container.streams.video
            if stream.codec_context is not None and stream.time_base and not stream.disposition & Disposition.attached_pic
        ]
        sounds = [stream for stream in container.streams.audio if stream.time_base and _audible(stream.codec_context)]
        if not pictures and not sounds:
            raise UnreadableSource("no pictures and no sound in it")
        times, damaged = _scan(container, [*pictures[:1], *sounds])
        video = _video_facts(path, pictures[0], times[pictures[0].index]) if pictures else None
        audio = tuple(_audio_facts(stream, times[stream.index]) for stream in sounds if len(times[stream.index]))
        start = Fraction(container.start_time or 0, av.time_base)
        ends = [
            found[:, 1].max() * stream.time_base for stream in [*pictures[:1], *sounds] if len(found := times[stream.index])
        ]
        end = max(map(_exact, ends), default=start)
        if MEDIA_SECONDS.passed_by(end - start):
            raise _too_much(f"it lasts {float(end - start):.0f} s by its timestamps", MEDIA_SECONDS)
        promised = _promised_end(container, [*pictures[:1], *sounds], times)
        return SourceInfo(
            format=container.format.name,
            start=start,
            duration=max(end - start, Fraction(0)),
            video=video,
            audio=audio,
            missing=max(promised, Fraction(0)),
            cut_off=any(_points_behind(stream, path.stat().st_size) for stream in [*pictures[:1], *sounds]),
            damaged_packets=damaged,
        )


def pick_audio(info: SourceInfo, language: str | None = None) -> AudioFacts | None:
    """The sound track to use: the wanted language first, then the original or default track. None where there is none."""
    if not info.audio:
        return None
    wanted = _language_codes(language) if language and len(info.audio) > 1 else frozenset()
    return min(info.audio, key=lambda track: ((track.language or "").lower() not in wanted, track.rank, track.index))


def packets_of(container: InputContainer, stream: Any) -> Iterator[av.Packet]:
    """Packets of a stream, up to where the container can no longer be read; the last one may be the empty flush packet."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError as error:
        if _of_machine(error, Path(container.name)):
            raise


def _of_machine(error: av.FFmpegError, path: Path) -> bool:
    """Whether it is the machine that fails. FFmpeg says "input/output error" of some damaged files too: of those that read."""
    if error.errno != errno.EIO:
        return error.errno in _MACHINE
    try:
        with path.open("rb") as file:
            while file.read(_CHUNK):
                pass
    except OSError:
        return True
    return False


def _scan(container: InputContainer, streams: list[Any]) -> tuple[dict[int, np.ndarray], int]:
    """Per stream int64 [n, 2]: (pts, end) of its packets in time-base units, in order of time; and how many are damaged."""
    found = {stream.index: array("q") for stream in streams}
    damaged = count = 0
    for packet in packets_of(container, streams):
        time, length = packet.pts if packet.pts is not None else packet.dts, packet.duration or 0
        if not packet.size or time is None or packet.is_discard:
            continue
        count += 1
        if MEDIA_PACKETS.passed_by(count):
            raise _too_much(f"more than {MEDIA_PACKETS.now} packets in it", MEDIA_PACKETS)
        if not (-_TIMES < time < _TIMES and 0 <= length < _TIMES):
            damaged += 1
            continue
        damaged += packet.is_corrupt
        found[packet.stream_index].extend((time, time + length))
    return {index: _in_order(np.array(times, np.int64).reshape(-1, 2)) for index, times in found.items()}, damaged


def _in_order(times: np.ndarray) -> np.ndarray:
    return times[np.lexsort((times[:, 1], times[:, 0]))]


def _audible(context: Any) -> bool:
    """Whether a sound track is one at all: one with a million samples a second, or one, is left out."""
    if context is None:
        return False
    return _SLOWEST <= context.sample_rate <= AUDIO_RATE.now and 0 < context.channels <= AUDIO_CHANNELS.now


def _exact(value: Any) -> Fraction:
    """A numpy integer times a Fraction comes out as a Fraction over numpy integers: make it plain."""
    return Fraction(int(value.numerator), int(value.denominator))


def _video_facts(path: Path, stream: Any, times: np.ndarray) -> VideoFacts | None:
    if not len(times):
        return None
    base = stream.time_base
    steps = np.diff(times[:, 0])
    steps = steps[steps > 0]
    usual = int(np.median(steps)) if len(steps) else int(times[0, 1] - times[0, 0])
    frame = Fraction(usual) * base if usual else Fraction(1, 25)
    frame = min(max(frame, _SHORTEST_FRAME), _LONGEST_FRAME)
    slack = max(float(frame) * 0.1, 0.0015) / float(base)
    variable = bool(len(steps)) and float(np.mean(np.abs(steps - usual) > slack)) > 0.01
    last_start, last_end = int(times[-1, 0]), int(times[:, 1].max())
    end = max(last_end * base, last_start * base + frame) if last_end <= last_start else last_end * base
    return VideoFacts(
        index=stream.index,
        codec=stream.codec_context.name,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        sar=_pixel_shape(stream.sample_aspect_ratio),
        rotation=_rotation(path, stream.index),
        start=int(times[0, 0]) * base,
        end=end,
        frame=frame,
        variable=variable,
        packets=len(times),
    )


def _pixel_shape(told: Fraction | None) -> Fraction:
    return told if told and Fraction(1, _SQUARE) <= told <= _SQUARE else Fraction(1)


def _rotation(path: Path, index: int) -> int:
    """Clockwise turn in degrees, from the first frame that decodes; 0 where none does."""
    with open_source(path) as container:
        stream = container.streams[index]
        for packet in packets_of(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                return round(-frame.rotation / 90) % 4 * 90
    return 0


def _audio_facts(stream: Any, times: np.ndarray) -> AudioFacts:
    base, flags = stream.time_base, stream.disposition
    poor = Disposition.dub | Disposition.comment | Disposition.visual_impaired | Disposition.karaoke
    rank = 3 if flags & poor else 0 if flags & Disposition.original else 1 if flags & Disposition.default else 2
    return AudioFacts(
        index=stream.index,
        codec=stream.codec_context.name,
        rate=stream.codec_context.sample_rate,
        channels=stream.codec_context.channels,
        language=None if stream.language in (None, "und") else stream.language,
        start=int(times[0, 0]) * base,
        end=int(times[:, 1].max()) * base,
        rank=rank,
    )


def _promised_end(container: InputContainer, streams: list[Any], times: dict[int, np.ndarray]) -> Fraction:
    """Seconds that streams or container promise beyond what was found; nothing where the length is only an estimate."""
    if container.format.name in ("mpegts", "mpeg", "mp3", "aac", "flv", "h264", "hevc"):
        return Fraction(0)
    gaps = [Fraction(0)]
    seen = Fraction(container.start_time or 0, av.time_base)
    for stream in streams:
        found, base = times[stream.index], stream.time_base
        end = int(found[:, 1].max()) * base if len(found) else Fraction(0)
        seen = max(seen, end)
        if stream.duration:
            gaps.append(((stream.start_time or 0) + stream.duration) * base - end)
    if container.duration:  # Matroska counts it from zero, not from the first packet
        begin = 0 if "matroska" in container.format.name else container.start_time or 0
        gaps.append(Fraction(begin + container.duration, av.time_base) - seen)
    return max(gaps)


def _points_behind(stream: Any, size: int) -> bool:
    entries = stream.index_entries
    return any(entry.pos + entry.size > size for entry in entries[max(0, len(entries) - _INDEX_TAIL) :])


def _language_codes(language: str) -> frozenset[str]:
    """The ways containers write a BCP 47 language: its two-letter and its three-letter code."""
    from yt_dlp.utils import ISO639Utils

    short = language.split("-")[0].lower()
    codes = {short, ISO639Utils.short2long(short), ISO639Utils.long2short(short)}
    codes |= {_BIBLIOGRAPHIC.get(code or "") for code in codes}
    return frozenset(code for code in codes if code)
