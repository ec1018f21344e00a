"""Valid files made wrong: byte by byte, and where the format keeps its lengths, types and names. Seeded: the same seed, the
same file.
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

_HUGE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 10**19, -(10**30), 10**400, float("nan"), float("inf")),
    *("", " ", "\0", "a\0b", "\ud800", "\udfff x", "../../etc/passwd", "/etc/passwd", "..", "a/../b", "C:\\x", "a" * 5000),
    *("NaN", "1e999999999", "1/0", "-1", "9" * 4000, "\u202e\u2028\x1b[2J", "file:///etc/passwd", "p0", "json"),
    *([], {}, [[]], {"": ""}, [None], {"id": None}),
)
Mutation = Callable[[bytes, random.Random], bytes]


def mutated(data: bytes, kind: str, seed: int) -> bytes:
    """One to three changes of a valid file.

    Args:
        kind: of format: a key of `STRUCTURAL`; any other gets byte changes alone.
    """
    rng = random.Random(f"{kind}/{seed}")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        choices: tuple[Mutation, ...] = (*_BYTES, *(STRUCTURAL.get(kind, ()) * 3))
        try:
            data = rng.choice(choices)(data, rng)
        except (ValueError, LookupError, TypeError, AttributeError, struct.error, RecursionError):
            data = flip(data, rng)  # an earlier change left nothing of the structure
    return data


# Bytes


def flip(data: bytes, rng: random.Random) -> bytes:
    """Some bits the other way round."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def swap_blocks(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice((16, 64, 512, 4096))
    a, b = (rng.randrange(max(1, len(data) // size)) * size for _ in range(2))
    a, b = sorted((a, b))
    if b - a < size:
        return data
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 8, 100, 1024))
    return data[:at] + data[at : at + size] * rng.choice((2, 3, 50)) + data[at + size :]


def remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 8, 100, 1024)) :]


def number(data: bytes, rng: random.Random) -> bytes:
    """Somewhere, a binary number that is too large, too small or negative."""
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(_HUGE) % (1 << (8 * size))
    return data[:at] + struct.pack(form, value) + data[at + size :]


def noise(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 64, 512))
    return data[:at] + rng.randbytes(size) + data[at + size :]


_BYTES: tuple[Mutation, ...] = (flip, truncate, swap_blocks, repeat, remove, number, noise)


# JSON


def nasty(rng: random.Random) -> Any:
    """A value that nobody expects."""
    if rng.random() < 0.1:
        deep: Any = rng.choice(([], "x"))
        for _ in range(rng.choice((20, 200))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        return deep
    return rng.choice(_NASTY)


def json_value(data: bytes, rng: random.Random) -> bytes:
    """One value of a JSON document, at any depth, replaced, removed, renamed or doubled."""
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        item = stack.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            places.append((item, key))
            if isinstance(item[key], (dict, list)):
                stack.append(item[key])
    if not places:
        return _dumped(nasty(rng))
    holder, key = rng.choice(places)
    how = rng.randrange(10)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(("", "\ud800", "id", "x" * 300, "../x"))] = holder.pop(key)
    elif how == 2 and isinstance(holder, list):
        holder.append(holder[key])
    elif how == 3:
        other, place = rng.choice(places)
        holder[key] = other[place] if place in (other if isinstance(other, dict) else range(len(other))) else None
    else:
        holder[key] = nasty(rng)
    return _dumped(value)


def json_number(data: bytes, rng: random.Random) -> bytes:
    """One whole number, larger by far."""
    places = list(re.finditer(rb"(?<=[:,\[ ])\d+(?=[,\]} ])", data))
    found = rng.choice(places)
    return data[: found.start()] + str(rng.choice((0, 3, 4096, 10**6, 10**9, 2**31, 2**62))).encode() + data[found.end() :]


def json_text(data: bytes, rng: random.Random) -> bytes:
    """JSON that only careless readers take: names twice, numbers without end, nesting without end, other encodings."""
    return rng.choice(
        (
            lambda: b"[" * 100_000 + data,
            lambda: b'{"a":' * 50_000 + data,
            lambda: re.sub(rb"\d+", b"9" * 5000, data, count=1),
            lambda: re.sub(rb"\d+", b"1e99999999", data, count=1),
            lambda: re.sub(rb":", b":" + rng.choice((b"NaN", b"Infinity", b"-Infinity", b"[]")) + b",", data, count=1),
            lambda: data.decode(errors="replace").encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + data,
            lambda: data + data,
            lambda: data.replace(b"{", b'{"id":1,', 1),
            lambda: rng.choice((b"", b"null", b"[]", b"{}", b"0", b'""', b"[{}]", b"\x80")),
        )
    )()


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()  # with \u escapes, so that half characters get through


def json_line(data: bytes, rng: random.Random) -> bytes:
    """One line of a file of JSON lines."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((json_value, json_text, flip, truncate))(lines[at] or b"{}", rng)
    return b"\n".join(lines)


# Text


def cell(data: bytes, rng: random.Random) -> bytes:
    """One word of a text in lines and cells, replaced by what nobody expects."""
    words = list(re.finditer(rb"[^,\t \n]+", data))
    if not words:
        return data
    word = rng.choice(words)
    value = rng.choice((*(item for item in _NASTY if isinstance(item, str)), '"', '"x', ",,,,", "\n", "\r", "=1+1", "1e400"))
    return data[: word.start()] + value.encode("utf-8", "surrogatepass") + data[word.end() :]


def xml(data: bytes, rng: random.Random) -> bytes:
    """Entities, document types, nesting and attributes."""
    body = re.sub(rb"^<\?xml[^>]*\?>", b"", data)
    laughs = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"ha") for n in range(12))
    name = rng.choice(re.findall(rb"<([A-Za-z_:]+)", body) or [b"x"])
    return rng.choice(
        (
            lambda: b"<!DOCTYPE x [" + laughs + b"]>" + body.replace(b">", b">&a11;", 2),
            lambda: b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + body.replace(b"</", b"&e;</", 1),
            lambda: b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + body,
            lambda: body.replace(b"<" + name, b"<" + name + b"><" + name, 1),
            lambda: b"<a>" * 5000 + body,
            lambda: re.sub(rb'"[^"]*"', b'"' + b"9" * rng.choice((1, 12, 400)) + b'"', body, count=rng.randrange(1, 9)),
            lambda: b'<?xml version="1.0" encoding="utf-7"?>' + body,
            lambda: body.decode(errors="replace").encode("utf-16"),
        )
    )()


# Containers


_TAR_FIELDS: tuple[tuple[int, int, tuple[bytes, ...]], ...] = (
    (0, 100, (b"../../x.json", b"/etc/passwd", b"a/b.json", b".json", b"x", b"\xff\xfe.json", b"a" * 100, b"a.json.pyd")),
    (124, 12, (b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"00000000001\0", b"-0000000001\0")),
    (124, 12, (b"\x80" + bytes(7) + b"\1\0\0\0", b"", b"99999999999\0", b"00000010000\0")),
    (156, 1, (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"D", b"\xff")),
    (157, 100, (b"/etc/passwd", b"../../..")),
    (257, 8, (b"ustar  \0", b"\0" * 8)),
    (345, 155, (b"..", b"/abs", b"a" * 155)),
    (386, 97, (b"00000000000\00077777777777\0", b"\x80" * 24)),
)


def tar_header(data: bytes, rng: random.Random) -> bytes:
    """A field of a tar header, mostly with a checksum that fits."""
    headers = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    header = bytearray(data[at : at + 512])
    place, size, values = rng.choice(_TAR_FIELDS)
    value = rng.choice(values)
    header[place : place + size] = value.ljust(size, b"\0")[:size]
    if rng.random() < 0.9:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + 512 :]


def compressed(data: bytes, rng: random.Random) -> bytes:
    """The whole of it compressed: what reads "any tar" would unpack it."""
    import bz2
    import gzip
    import lzma

    return rng.choice((partial(gzip.compress, mtime=0), bz2.compress, lzma.compress))(data)


def zip_field(data: bytes, rng: random.Random) -> bytes:
    """A field of a zip's local header, directory or end."""
    signatures = {b"PK\3\4": (4, 26), b"PK\1\2": (4, 46), b"PK\5\6": (4, 18)}
    places = [(at.start(), signatures[at[0]]) for at in re.finditer(b"PK(?:\3\4|\1\2|\5\6)", data)]
    start, (low, high) = rng.choice(places)
    form = rng.choice(("<H", "<I"))
    at = start + rng.randrange(low, high, 2)
    value = rng.choice(_HUGE) % (1 << (8 * struct.calcsize(form)))
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


_BOXES = rb"ftyp|moov|mvhd|trak|tkhd|edts|elst|mdia|mdhd|hdlr|minf|stbl|stsd|avc1|avcC|mp4a|esds|mdat|uuid"
_BOXES += rb"|stts|stss|stsc|stsz|stco|ctts"


def box(data: bytes, rng: random.Random) -> bytes:
    """A box of an mp4: its size, its type, or a number in it."""
    places = [found.start() - 4 for found in re.finditer(_BOXES, data) if found.start() >= 4]
    at = rng.choice(places)
    how = rng.randrange(5)
    if how == 0:
        return data[:at] + struct.pack(">I", rng.choice(_HUGE) & 0xFFFFFFFF) + data[at + 4 :]
    if how == 1:
        return data[: at + 4] + rng.choice((b"free", b"moov", b"trak", b"mdat", b"cmov", b"dref")) + data[at + 8 :]
    if how == 2:
        size = struct.unpack(">I", data[at : at + 4])[0]
        return data[:at] + data[at : at + size] * rng.choice((2, 30)) + data[at + size :]
    place = at + 8 + 2 * rng.randrange(40)
    form = rng.choice((">H", ">I"))
    value = rng.choice(_HUGE) % (1 << (8 * struct.calcsize(form)))
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


def ebml(data: bytes, rng: random.Random) -> bytes:
    """A number near the start of a Matroska or WebM file: sizes, rates, durations and tracks are all there."""
    at = rng.randrange(min(len(data), 1200))
    value = rng.choice(
        (b"\x01" + b"\xff" * 7, b"\xff" * 8, b"\x7f\xef\xff\xff\xff\xff\xff\xff", b"\0" * 4, b"\x80", rng.randbytes(4))
    )
    return data[:at] + value + data[at + len(value) :]


def parquet_footer(data: bytes, rng: random.Random) -> bytes:
    """The last kilobytes, where a Parquet file says what is where; and the length of that."""
    if rng.random() < 0.2:
        return data[:-8] + struct.pack("<I", rng.choice(_HUGE) & 0xFFFFFFFF) + data[-4:]
    low = max(0, len(data) - 8 - struct.unpack("<I", data[-8:-4])[0])
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 6))):
        out[rng.randrange(low, len(data) - 8)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(out)


def safetensors_header(data: bytes, rng: random.Random) -> bytes:
    """The JSON header, with the length before it right or wrong."""
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size]
    about = json.loads(header).get("__metadata__")
    if about and rng.random() < 0.6:  # what our own files say of the network is JSON within JSON
        name = rng.choice(list(about))
        inner = rng.choice((json_value, json_value, json_number, json_text))(about[name].encode(), rng)
        header = _dumped({**json.loads(header), "__metadata__": {**about, name: inner.decode("utf-8", "replace")}})
    else:
        header = rng.choice((json_value, json_value, json_text))(header, rng)
    told = len(header) if rng.random() < 0.8 else rng.choice(_HUGE)
    return struct.pack("<Q", told) + header + data[8 + size :]


STRUCTURAL: dict[str, tuple[Mutation, ...]] = {
    "json": (json_value, json_value, json_value, json_number, json_text),
    "jsonl": (json_line, json_line, cell),
    "csv": (cell,),
    "text": (cell,),
    "xml": (xml, cell),
    "tar": (tar_header, tar_header, compressed),
    "npz": (zip_field,),
    "mp4": (box,),
    "mkv": (ebml,),
    "parquet": (parquet_footer,),
    "safetensors": (safetensors_header,),
}
