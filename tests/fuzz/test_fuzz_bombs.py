"""Files that claim more than there is: refused by name, and without the memory or the time that they ask for."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dyconv.arrays import load_arrays, save_arrays
from dyconv.bounds import BOUNDS, NotJson, parse_json, parse_object
from dyconv.errors import DyconvError, ManifestError, ModelMissing, ShardError, StoreError, UsageError
from dyconv.media.audio import write_audio
from dyconv.media.own import opened_video
from dyconv.media.source import UnreadableSource, probe
from dyconv.media.video import read_frames
from dyconv.records import Clip, dump
from dyconv.shards.tar import read_members
from dyconv.time import Span, seconds
from tests.fuzz.targets_text import clip
from tests.mediagen import make_media

_ROOM_MB = 400


def in_little_memory(code: str, folder: Path) -> str:
    """What the code prints in a process that may take 400 MB more than it has once the readers are there."""
    start = """
        import resource, sys
        from pathlib import Path
        import av, numpy, soundfile, pyarrow.parquet
        import dyconv.arrays, dyconv.download.look, dyconv.media.audio, dyconv.media.source, dyconv.media.video
        import dyconv.shards.table, dyconv.shards.tar
        from dyconv.errors import DyconvError
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (%d << 20), resource.RLIM_INFINITY))
    """
    text = textwrap.dedent(start % _ROOM_MB) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Numbers and JSON


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "9" * 5000, "1E+1_000_000", "nan", "1/0", ""])
def test_a_time_that_would_take_all_memory_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        seconds(text)


@pytest.mark.parametrize("value", [["0", "1e30"], ["0", 5], "01", [None, None], ["1", "0"], {}, ["0"]])
def test_a_span_of_a_record_is_two_times_in_order(value: object) -> None:
    with pytest.raises(ValueError):
        Span.from_json(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe", b"", b'{"a": 1'])
def test_json_that_breaks_a_parser_is_an_error_with_words(text: bytes) -> None:
    with pytest.raises(NotJson):
        parse_json(text)
    with pytest.raises(UsageError, match=r"x\.json is not JSON"):
        parse_object(text, "x.json")


def test_every_bound_says_its_name_and_how_to_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({bound.name for bound in BOUNDS}) == len(BOUNDS)
    for bound in BOUNDS:
        assert bound.why and f"{bound.variable}={2 * bound.value}" in bound.hint
    monkeypatch.setenv("DYCONV_MAX_JSON_BYTES", "10")
    with pytest.raises(NotJson, match=r"at most 10 are read.*DYCONV_MAX_JSON_BYTES=20"):
        parse_json(b'{"name": "too long"}')
    monkeypatch.setenv("DYCONV_MAX_JSON_BYTES", "many")
    with pytest.raises(UsageError, match="expected a whole number above 0, found 'many'"):
        parse_json(b"{}")


def test_half_characters_and_terminal_codes_reach_no_file_and_no_screen() -> None:
    title = json.loads(b'"\\ud800 \\u001b[2J"')
    assert json.loads(dump({"title": title})) == {"title": title}
    shown = str(DyconvError(f"title {title}", hint=title))
    assert shown.encode() and "\x1b" not in shown and "\\ud800" in shown


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tracks", 0, "width"), "wide"),
        (("tracks", 0, "end"), 10**30),
        (("turns", 0, "confidence"), float("nan")),
        (("people", 0, "seen"), "yes"),
        (("assets", "mix.flac", "size"), None),
        (("assets", "mix.flac", "path"), ["/etc/passwd"]),
        (("measures", "av_offset_s"), {"a": 1}),
        (("source", "id"), "../../x"),
        (("source", "title"), 5),
        (("id",), "a/b"),
        (("span",), ["0", "1e12"]),
    ],
)
def test_a_record_has_the_types_that_it_declares(path: tuple, value: object) -> None:
    data = clip().to_json()
    assert Clip.from_json(data) == clip()
    holder: object = data
    for step in path[:-1]:
        holder = holder[step]  # type: ignore[index]
    holder[path[-1]] = value  # type: ignore[index]
    with pytest.raises(ValueError):
        Clip.from_json(data)


# Arrays and sound


def npz_claiming(shape: tuple[int, ...], told: int | None = None) -> bytes:
    """An npz of some bytes whose array says it has this shape; `told`: what the zip's directory says of its size."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": shape})
    array.write(bytes(64))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latents.npy", array.getvalue())
    data = out.getvalue()
    if told is not None:
        at = data.index(b"PK\1\2") + 24
        data = data[:at] + struct.pack("<I", told) + data[at + 4 :]
    return data


def test_arrays_and_sound_that_claim_more_than_any_memory(tmp_path: Path) -> None:
    claims: tuple[tuple[tuple[int, ...], int | None], ...] = (
        *(((10**12,), None), ((10**6, 10**6), None), ((-1, 8), None), ((2**62, 4), None)),
        *(((4,), 0xFFFFFF00), ((10**9,), 8 * 10**9 % 2**32)),
    )
    for number, (shape, size) in enumerate(claims):
        (tmp_path / f"{number}.npz").write_bytes(npz_claiming(shape, size))
    for number, claimed in enumerate((0xFFFFFFFFF, 16000 * 3600 * 5)):
        (tmp_path / f"{number}.flac").write_bytes(flac_claiming(tmp_path, claimed))
    told = in_little_memory(
        """
        for path in sorted(Path().glob("*.npz")) + sorted(Path().glob("?.flac")):
            try:
                read = dyconv.arrays.load_arrays if path.suffix == ".npz" else dyconv.media.audio.read_audio
                print("read", path, len(read(path)))
            except DyconvError as error:
                print("refused", error)
        """,
        tmp_path,
    )
    assert told.count("refused") == len(claims) + 2, told
    assert "says that it lasts 4294967 s" in told and "DYCONV_MAX_MEDIA_SECONDS" in told


def flac_claiming(folder: Path, samples: int) -> bytes:
    """Half a second of sound whose header says that it has so many samples (36 bits of STREAMINFO)."""
    write_audio(folder / "made.flac", np.zeros(8000, np.float32))
    data = bytearray((folder / "made.flac").read_bytes())
    data[21] = (data[21] & 0xF0) | samples >> 32
    data[22:26] = struct.pack(">I", samples & 0xFFFFFFFF)
    return bytes(data)


def test_a_deflated_gigabyte_stops_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_arrays(tmp_path / "a.npz", {"zeros": np.zeros(4_000_000, np.uint8)})
    assert (tmp_path / "a.npz").stat().st_size < 50_000
    assert load_arrays(tmp_path / "a.npz")["zeros"].size == 4_000_000
    monkeypatch.setenv("DYCONV_MAX_ARRAY_BYTES", "1000000")
    with pytest.raises(StoreError, match=r"at most 1000000 are read.*\n.*DYCONV_MAX_ARRAY_BYTES=2000000"):
        load_arrays(tmp_path / "a.npz")


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", evil=np.array([{"a": 1}], object))
    with pytest.raises(StoreError, match="objects of Python"):
        load_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("p0.npy", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(StoreError):
        load_arrays(tmp_path / "b.npz")


# Tars


def tar_member(name: str, size: int, kind: bytes = b"0", extra: dict[int, bytes] | None = None) -> bytes:
    """A tar header with a right checksum."""
    header = bytearray(512)
    header[: len(name)] = name.encode()
    header[100:108] = b"0000644\0"
    header[124:136] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    for at, value in (extra or {}).items():
        header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


_END = bytes(1024)
_SPARSE = {257: b"ustar  \0", 386: b"%011o\0%011o\0" % (0, 0), 483: b"%011o\0" % (8**11 - 1)}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tar_member("a.json", 10**15) + bytes(512), "at most"),
        (tar_member("a.json", 8**11 - 1) + bytes(512), "at most"),
        (tar_member("a.json", 0, b"S", _SPARSE) + _END, "not a plain file"),
        (tar_member("a.json", 0, b"2", {157: b"/etc/passwd"}) + _END, "not a plain file"),
        (tar_member("a.json", 0, b"1", {157: b"/etc/passwd"}) + _END, "not a plain file"),
        (tar_member("a.json", 0, b"4") + _END, "not a plain file"),
        (tar_member("a.json", 0, b"6") + _END, "not a plain file"),
        (tar_member("../../a.json", 0) + _END, "not named"),
        (tar_member("/etc/cron.d/a.json", 0) + _END, "not named"),
        (tar_member("a.json/b", 0) + _END, "not named"),
        (b"\x1f\x8b\x08\x00" + zlib.compress(bytes(10_000)), "cut off or damaged"),
    ],
)
def test_a_member_that_is_no_plain_file_or_has_no_end(data: bytes, told: str) -> None:
    with pytest.raises(ShardError, match=told):
        list(read_members(io.BytesIO(data), "clips-000000.tar"))


# Media


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flac", "a"])
@pytest.mark.parametrize(
    "text",
    [
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        b'<?xml version="1.0"?><MPD><Period><BaseURL>file:///etc/passwd</BaseURL></Period></MPD>',
    ],
)
def test_a_playlist_opens_no_other_file_whatever_it_is_called(name: str, text: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(UnreadableSource):
        probe(path)
    for source in (path, io.BytesIO(text)):
        with pytest.raises(StoreError), opened_video(source):
            pass


def with_times(path: Path, times: list[int], base: Fraction) -> Path:
    """A Matroska or MP4 file with one frame at each of these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((36, 64, 3), time % 200, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_film_of_years_is_refused_with_the_bound(tmp_path: Path) -> None:
    path = with_times(tmp_path / "a.mkv", [0, 1, 10**9], Fraction(1))
    with pytest.raises(UnreadableSource, match=r"lasts 1000000\d\d\d s.*at most 86400.*DYCONV_MAX_MEDIA_SECONDS"):
        probe(path)


def test_a_bound_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_times(tmp_path / "a.mkv", [0, 1, 90_000], Fraction(1))
    with pytest.raises(UnreadableSource, match="DYCONV_MAX_MEDIA_SECONDS"):
        probe(path)
    monkeypatch.setenv("DYCONV_MAX_MEDIA_SECONDS", "100000")
    assert probe(path).duration >= 90_000


def test_a_header_that_claims_years_is_truncated_not_believed(tmp_path: Path) -> None:
    made = make_media(tmp_path / "a.mp4", duration=1.0, size=(64, 36)).path
    data = bytearray(made.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4
        data[at + 16 : at + 20] = struct.pack(">I", 0xFFFFFFFF)
    made.write_bytes(data)
    info = probe(made)
    assert info.duration < 2 and info.missing >= 0


def test_a_million_frames_a_second_are_read_as_time_goes(tmp_path: Path) -> None:
    path = with_times(tmp_path / "a.mp4", list(range(30)), Fraction(1, 1_000_000))
    video = probe(path).video
    assert video is not None and video.frame >= Fraction(1, 1000)


def png_video(path: Path, side: int) -> Path:
    """A QuickTime file with one PNG picture that is `side` pixels wide and high, of a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + side)) for _ in range(200)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "gray"
        container.start_encoding()
        for time in range(3):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, time, time, Fraction(1, 25)
            packet.is_keyframe = True
            container.mux(packet)
    return path


def test_pictures_of_billions_of_pixels_are_not_decoded(tmp_path: Path) -> None:
    png_video(tmp_path / "a.mov", 30_000)
    told = in_little_memory(
        """
        import dyconv.download.look as look
        try:
            look.look(Path("a.mov"))
        except (DyconvError, look.NotMedia) as error:
            print("refused", error)
        """,
        tmp_path,
    )
    assert "refused" in told


def test_the_largest_honest_picture_is_read(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        frame = av.VideoFrame(3840, 2160, "yuv420p")
        for time in range(2):
            frame.pts = time
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    video = probe(tmp_path / "a.mp4").video
    assert video is not None and (video.width, video.height) == (3840, 2160)
    assert sum(1 for _ in read_frames(tmp_path / "a.mp4", size=(64, 36))) == 2


def test_hundreds_of_streams(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(300)]
        for stream in streams[:2]:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    with pytest.raises(UnreadableSource, match="300 streams in it, at most 256"):
        probe(tmp_path / "a.mkv")


def test_a_photograph_of_a_few_bytes_and_billions_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from dyconv.synth.footage import is_clip
    from dyconv.synth.puppet import read_picture

    path = tmp_path / "a.png"
    Image.new("L", (100, 100)).save(path)
    assert read_picture(path).shape == (100, 100, 3)
    monkeypatch.setenv("DYCONV_MAX_PICTURE_PIXELS", "5000")
    with pytest.raises(UsageError, match="100 x 100 pixels, at most 5000"):
        read_picture(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert not is_clip(path)
    with pytest.raises(UsageError, match="not a readable picture"):
        read_picture(path)


# Weights, tables, manifests, stores


@pytest.mark.parametrize(
    ("field", "value"), [("latent", 10**9), ("channels", [8] * 3 + [10**6]), ("style", "x"), ("latent", 60_000), ("size", None)]
)
def test_a_config_that_asks_for_a_network_of_terabytes(field: str, value: object, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from dyconv.infp.stage1 import load_stage1

    config = {"size": 16, "latent": 8, "directions": 4, "channels": [8, 8, 8], "warped": [8], "style": 8, "dropped": 0.1}
    header = {
        "format": "dyconv.infp.stage1",
        "parts": ["encoder", "renderer"],
        "config": {**config, field: value},
        "encoder": "a",
    }
    save_file({"a": torch.zeros(4)}, str(tmp_path / "a.safetensors"), metadata={"dyconv": json.dumps(header)})
    with pytest.raises((ModelMissing, UsageError)):
        load_stage1(tmp_path / "a.safetensors")


def test_a_table_larger_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dyconv.shards.table import TableError, read_table

    pq.write_table(pa.table({"id": pa.array(["x" * 1000] * 10_000)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    assert len(read_table(tmp_path / "a.parquet", {"id": "string"}, ("id",))) == 10_000
    monkeypatch.setenv("DYCONV_MAX_TABLE_BYTES", "1000000")
    with pytest.raises(TableError, match="DYCONV_MAX_TABLE_BYTES"):
        read_table(tmp_path / "a.parquet", {"id": "string"}, ("id",))
    with pytest.raises(TableError, match="expected the column url of string, found none"):
        read_table(tmp_path / "a.parquet", {"url": "string"}, ())


def test_a_manifest_larger_than_is_read_and_lines_with_signs_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dyconv.manifest import read_manifest

    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"url": "https://example.org/a", "title": "one\u2028line\x85"}, ensure_ascii=False) + "\n")
    assert len(read_manifest(path)) == 1
    monkeypatch.setenv("DYCONV_MAX_MANIFEST_BYTES", "10")
    with pytest.raises(ManifestError, match="at most 10 are read"):
        read_manifest(path)


def test_a_pipe_in_place_of_a_file_is_no_endless_read(tmp_path: Path) -> None:
    import os

    from dyconv.shards.index import read_index
    from dyconv.store import Store

    (tmp_path / "shards").mkdir()
    os.mkfifo(tmp_path / "shards" / "index.json")
    with pytest.raises(StoreError, match="is no file"):
        read_index(Store(tmp_path))


@pytest.mark.parametrize("line", [b"null", b" null", b"[]", b"5", b"{}", b'{"id": null}', b'"x"'])
def test_a_ledger_with_a_line_that_is_no_event_kills_no_process(line: bytes, tmp_path: Path) -> None:
    """pyarrow's reader of JSON ended the whole process at a line `null`."""
    from dyconv.standings import read_standings
    from dyconv.store import Store
    from tests.fuzz.targets_text import _ledger

    (tmp_path / "ledger").mkdir()
    for whole in (line + b"\n", line + b"\n" + _ledger(tmp_path), _ledger(tmp_path) + line + b"\n"):
        (tmp_path / "ledger" / "run.jsonl").write_bytes(whole)
        with pytest.raises(StoreError, match="is not an event"):
            read_standings(Store(tmp_path))


_BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda _: b"[" * 100_000,
    lambda data: data[: len(data) // 2],
    lambda _: b"null",
    lambda _: b'{"recipe": 5}',
    lambda data: data.replace(b'"levels"', b'"other"'),
)


@pytest.mark.parametrize("broken", _BREAKS)
def test_a_damaged_run_file_has_a_name(broken: Callable[[bytes], bytes], tmp_path: Path) -> None:
    from dyconv.run_file import read_run
    from dyconv.store import Store
    from tests.fuzz.targets_text import _run_file

    store = Store(tmp_path)
    assert read_run(store) is None
    (tmp_path / "run.json").write_bytes(_run_file(tmp_path))
    assert (read_run(store) or {})["recipe"] == "dyconv"
    (tmp_path / "run.json").write_bytes(broken(_run_file(tmp_path)))
    with pytest.raises(StoreError, match=r"run\.json"):
        read_run(store)
