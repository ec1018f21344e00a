"""A cut that is not on IDR frames: whole groups of pictures are copied, and only what is cut off at the ends is encoded.

The encoded ends keep parameter sets of their own beside those of the copied packets, under another id, as H.264 and its MP4
box (`avcC`, ISO/IEC 14496-15, 5.3.3) provide for: each group of pictures names those it was coded with.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av

from dyconv.errors import StoreError
from dyconv.time import FPS

OWN_ID = 1  # of the parameter sets of what is encoded here; those of what is copied are 0


@dataclass(frozen=True)
class Piece:
    """Frames [start, stop) of a normalized video, which begin on an IDR frame and end before one, or at the end."""

    path: Path
    start: int
    stop: int


def join(pieces: Sequence[Piece], target: Path, *, like: Path, options: dict[str, str]) -> bool:
    """Write pieces one after the other as one video, without encoding. Returns whether they go together; if not, none is.

    Args:
        like: the video whose picture size, colours and place for parameter sets the joined one takes.
        options: of FFmpeg's MP4 writer.

    Raises:
        StoreError: if a piece does not hold exactly its frames.
    """
    found = [_read(piece) for piece in pieces]
    sets = merged(list(dict.fromkeys(extra for _, extra in found)))
    if sets is None:
        return False
    step = Fraction(1, FPS)
    with av.open(str(like)) as model, av.open(str(target), "w", format="mp4", options=options) as container:
        stream: Any = container.add_stream_from_template(model.streams.video[0])
        stream.codec_context.extradata = sets
        stream.time_base = step
        # One frame a packet: decoding times count packets, as much earlier as the most reordered frame asks for.
        shown = list(chain.from_iterable(_places(pieces, [packets for packets, _ in found])))
        early = max(number - index for number, (index, _) in enumerate(shown))
        for number, (index, packet) in enumerate(shown):
            packet.pts, packet.dts, packet.time_base = index, number - early, step
            packet.duration = 1
            packet.stream = stream
            container.mux(packet)
    return True


def _places(pieces: Sequence[Piece], found: Sequence[list[tuple[int, av.Packet]]]) -> Any:
    """(frame of the joined video, packet) of each piece, in decoding order."""
    begin = 0
    for piece, packets in zip(pieces, found, strict=True):
        yield [(begin + index - piece.start, packet) for index, packet in packets]
        begin += piece.stop - piece.start


def _read(piece: Piece) -> tuple[list[tuple[int, av.Packet]], bytes]:
    """(frame, packet) of a piece in decoding order, and the parameter sets they need."""
    with av.open(str(piece.path)) as container:
        stream: Any = container.streams.video[0]
        packets = packets_between(container, stream, piece.start, piece.stop)
        if packets is None:
            where = f"{piece.path.name}, frames {piece.start} to {piece.stop}"
            raise StoreError(f"{where}: expected whole groups of pictures, found others", hint="please report this")
        base = stream.time_base
        return [(round((packet.pts or 0) * base * FPS), packet) for packet in packets], bytes(stream.codec_context.extradata)


def packets_between(container: Any, stream: Any, start: int, stop: int) -> list[av.Packet] | None:
    """Packets of exactly these frames in decoding order, None where the cut is not on closed groups of pictures."""
    base = stream.time_base
    container.seek(int(Fraction(start, FPS) / base), stream=stream, backward=True)
    packets: list[av.Packet] = []
    for packet in container.demux(stream):
        if not packet.size or packet.pts is None:
            continue
        index = round(packet.pts * base * FPS)
        if not packets:
            if index == start and packet.is_keyframe:
                packets.append(packet)
            elif index >= start and packet.is_keyframe:
                return None
            continue
        if index >= stop and packet.is_keyframe:
            break
        packets.append(packet)
    indices = sorted(round((packet.pts or 0) * base * FPS) for packet in packets)
    return packets if indices == list(range(start, stop)) else None


def merged(records: Sequence[bytes]) -> bytes | None:
    """One `avcC` record with the parameter sets of all, those of the first one first; None for two profiles or formats.

    Raises:
        StoreError: for what is no such record.
    """
    parsed = [_parsed(record) for record in records]
    head, _, _, tail = parsed[0]
    if any(other[0][1:3] != head[1:3] or other[3] != tail for other in parsed):
        return None
    level = max(other[0][3] for other in parsed)
    sequence = list(dict.fromkeys(chain.from_iterable(other[1] for other in parsed)))
    picture = list(dict.fromkeys(chain.from_iterable(other[2] for other in parsed)))
    out = head[:3] + bytes([level]) + head[4:5] + bytes([0xE0 | len(sequence)])
    out += b"".join(struct.pack(">H", len(item)) + item for item in sequence) + bytes([len(picture)])
    return out + b"".join(struct.pack(">H", len(item)) + item for item in picture) + tail


def _parsed(record: bytes) -> tuple[bytes, list[bytes], list[bytes], bytes]:
    """Fixed fields, sequence and picture parameter sets, and what follows them."""
    if len(record) < 7 or record[0] != 1:
        raise StoreError("H.264 without an avcC record cannot be joined", hint="please report this")
    sets: list[list[bytes]] = []
    at, mask = 5, 0x1F
    for _ in range(2):
        count, at = record[at] & mask, at + 1
        found = []
        for _ in range(count):
            (size,) = struct.unpack_from(">H", record, at)
            found.append(record[at + 2 : at + 2 + size])
            at += 2 + size
        sets.append(found)
        mask = 0xFF
    return record[:5], sets[0], sets[1], record[at:]
