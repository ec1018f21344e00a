"""Downloading against a server that misbehaves: every fault has its named outcome, and no bytes are mixed up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dyconv.download.hosts import backoff_s, hold_back, locked, wait_turn
from dyconv.download.licences import OPEN_LICENCES, refusal
from dyconv.errors import AuthRequired, DyconvError, Transient, UsageError
from dyconv.records import Clip, Drop, DropReason, Key, Source, source_clip
from dyconv.stages.base import Files, check_contract
from dyconv.stages.download import Download
from dyconv.store import Store
from dyconv.time import Span
from tests.faultserver import Fault, FaultServer
from tests.mediagen import make_media, truncate

QUICK = Download(attempts=3, backoff_s=0.02, per_host_interval_s=0.0, timeout_s=10.0, max_wait_s=3.0)
PAGE = b"<!DOCTYPE html><html><head><title>x</title></head><body>%s</body></html>"


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> bytes:
    return make_media(tmp_path_factory.mktemp("media") / "a.mp4", duration=2.0, start=0.0).path.read_bytes()


@pytest.fixture(scope="module")
def other_media(tmp_path_factory) -> bytes:
    return make_media(tmp_path_factory.mktemp("media") / "b.mp4", duration=2.4, cuts=(1.0,)).path.read_bytes()


@pytest.fixture
def server():
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Cache, queues and locks of this test alone."""
    for variable in ("DYCONV_CACHE", "TMPDIR"):
        folder = tmp_path / variable.lower()
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("DYCONV_COOKIES", raising=False)
    return tmp_path


def run(stage: Download, url: str, place: Path, **fields: str | None) -> tuple[Clip | Drop, Files]:
    """One run of the stage for a source, as the runner makes it: a fresh scratch folder each time."""
    scratch = place / f"scratch{len(list(place.iterdir()))}"
    scratch.mkdir()
    files = Files(Store(place / "store"), "download/s1", scratch)
    clip = source_clip(Source(**{"id": "s1", "url": url, "licence": "CC-BY-4.0", **fields}))
    output = list(stage.process(clip, files))
    check_contract(stage, clip, output)
    return output[0], files


def fetched(stage: Download, url: str, place: Path, **fields: str | None) -> bytes:
    clip, files = run(stage, url, place, **fields)
    assert isinstance(clip, Clip), clip
    return files.path(clip, Key.MEDIA).read_bytes()


def partials(place: Path) -> list[Path]:
    return sorted(path for path in (place / "dyconv_cache").rglob("*") if path.is_file())


# --- what arrives


def test_a_video_arrives_as_served(server, media, place):
    clip, files = run(QUICK, server.serve("talk.mp4", media), place)
    assert isinstance(clip, Clip)
    assert files.path(clip, Key.MEDIA).read_bytes() == media
    assert clip.assets[Key.MEDIA].path == "download/s1/s1.media.mp4"
    assert clip.span == Span.of(0, 2)
    assert partials(place) == [], "nothing stays behind a finished download"
    files.commit()
    assert files.store.verified(clip.assets[Key.MEDIA]).read_bytes() == media


def test_info_is_the_same_each_time_and_tells_nothing_local(server, media, place):
    url = server.serve("talk.mp4", media, content_type="video/mp4")
    texts = []
    for _ in range(2):
        clip, files = run(QUICK, f"{url}?signature=s3cret", place)
        texts.append(files.path(clip, Key.INFO).read_bytes())
    assert texts[0] == texts[1]
    assert b"s3cret" not in texts[0] and str(place).encode() not in texts[0]
    info = json.loads(texts[0])
    assert info["extractor"] == "generic" and info["span"] == ["0", "2"]
    assert info["video"] == {"codec": "h264", "width": 320, "height": 180}


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("get.php", "video/mp4"), ("noname", "application/octet-stream"), ("a.mp4", "text/plain"), ("x.sh", "video/mp4")],
)
def test_the_name_is_found_from_the_bytes(server, media, place, name, content_type):
    clip, _ = run(QUICK, server.serve(name, media, content_type=content_type), place)
    assert clip.assets[Key.MEDIA].path.endswith("s1.media.mp4")


def test_other_containers_and_start_times(server, place):
    for name, suffix, start in (("a.mkv", ".mkv", 0.0), ("a.mp4", ".mp4", 3.5), ("a.ts", ".ts", 1.5)):
        made = make_media(place / name, duration=1.0, start=start)
        clip, _ = run(QUICK, server.serve(name, made.path.read_bytes(), content_type="video/x"), place)
        assert isinstance(clip, Clip) and clip.assets[Key.MEDIA].path.endswith(suffix)
        assert float(clip.span.duration) == pytest.approx(1.0, abs=0.06)
        if suffix == ".mp4":
            assert float(clip.span.start) == pytest.approx(start, abs=0.03)


def test_a_page_with_one_video_is_that_video_and_with_two_is_a_bad_row(server, media, other_media, place):
    first, second = server.serve("1.mp4", media), server.serve("2.mp4", other_media)
    one = server.serve("one.html", PAGE % f'<video src="{first}"></video>'.encode(), content_type="text/html")
    two = server.serve(
        "two.html", PAGE % f'<video src="{first}"></video><video src="{second}"></video>'.encode(), content_type="text/html"
    )
    assert fetched(QUICK, one, place) == media
    drop, _ = run(QUICK, two, place)
    assert isinstance(drop, Drop) and drop.reason is DropReason.BAD_ROW and "list" in drop.detail


# --- faults


@pytest.mark.parametrize("status", [404, 410, 400])
def test_gone_is_a_drop_after_one_request(server, place, status):
    drop, _ = run(QUICK, server.serve("a.mp4", fault=lambda number: Fault(status=status)), place)
    assert drop.reason is DropReason.UNAVAILABLE and str(status) in drop.detail
    assert len(server.seen) == 1
    assert partials(place) == []


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (402, 1), (403, 3), (451, 1)])
def test_refused_is_failed_with_a_hint(server, place, status, requests):
    with pytest.raises(AuthRequired) as caught:
        run(QUICK, server.serve("a.mp4", fault=lambda number: Fault(status=status)), place)
    assert str(status) in caught.value.message and "--retry-failed" in (caught.value.hint or "")
    assert len(server.seen) == requests


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(cut_at=9000),
        Fault(cut_at=0),
        Fault(declare=700),
        Fault(stall_at=9000),
        Fault(stall_at=0),
    ],
    ids=lambda fault: str(fault.status or [name for name, value in vars(fault).items() if value not in (None, 0, {}, 30.0)]),
)
def test_the_network_is_failed_as_transient_after_bounded_attempts(server, media, place, fault):
    stage = replace(QUICK, attempts=2, timeout_s=0.6)
    with pytest.raises(Transient, match="after 2 attempts"):
        run(stage, server.serve("a.mp4", media, ranges=False, fault=lambda number: fault), place)
    assert 2 <= len(server.seen) <= 4


def test_a_drip_is_not_waited_for(server, media, place, monkeypatch):
    monkeypatch.setattr("dyconv.download.ytdlp._SLOW_WINDOW_S", 0.3)
    url = server.serve("a.mp4", media, fault=lambda number: Fault(bytes_s=400))
    with pytest.raises(Transient, match="slower than"):
        run(replace(QUICK, attempts=1), url, place)


def test_nobody_listening_is_transient(place):
    with pytest.raises(Transient, match="refused"):
        run(QUICK, "http://127.0.0.1:9/a.mp4", place)


@pytest.mark.parametrize("status", [500, 502, 403, 408, 429])
def test_what_passes_is_tried_again(server, media, place, status):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(status=status) if number in (0, 2) else None)
    assert fetched(QUICK, url, place) == media
    assert len(server.seen) == 5  # look, fail | look | media fail | look, media


def test_429_waits_as_long_as_it_is_asked_to(server, media, place):
    throttled = Fault(status=429, headers={"Retry-After": "1"})
    assert fetched(QUICK, server.serve("a.mp4", media, fault=lambda number: throttled if number == 0 else None), place) == media
    assert server.seen[1].time - server.seen[0].time >= 1.0


def test_429_for_long_is_left_for_later_and_nobody_asks_that_host(server, media, place):
    throttled = Fault(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(Transient, match="3600 s"):
        run(QUICK, server.serve("a.mp4", media, fault=lambda number: throttled), place)
    with pytest.raises(Transient, match="asked not to be asked"):
        run(replace(QUICK, attempts=1), server.serve("b.mp4", media), place)
    assert [seen.path for seen in server.seen] == ["/a.mp4"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "video/mp4"),
        (PAGE % b"sign up", "text/html"),
        (PAGE % b"sign up", "video/mp4"),
        (b'{"error": "gone"}', "application/json"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(5000), "video/mp4"),
        (random.Random(3).randbytes(4000), "video/mp4"),
        (b"GIF89a", "image/gif"),
    ],
)
def test_what_is_no_media_is_a_drop(server, place, body, content_type):
    drop, _ = run(QUICK, server.serve("a.mp4", body, content_type=content_type), place)
    assert isinstance(drop, Drop) and drop.reason is DropReason.UNREADABLE and drop.detail
    assert partials(place) == []


def test_a_truncated_original_is_unreadable_or_passed_on_but_never_an_error(server, media, place, tmp_path):
    (tmp_path / "a.mp4").write_bytes(media)
    outcomes = {}
    for share in (0.1, 0.5, 0.99):
        body = truncate(tmp_path / "a.mp4", tmp_path / "cut.mp4", share).read_bytes()
        output, _ = run(QUICK, server.serve(f"{share}.mp4", body), place)
        outcomes[share] = output.reason if isinstance(output, Drop) else "passed on"
    assert outcomes[0.1] is DropReason.UNREADABLE
    assert set(outcomes.values()) <= {DropReason.UNREADABLE, "passed on"}


def test_size_and_height_limits(server, media, place):
    url = server.serve("a.mp4", media)
    drop, _ = run(replace(QUICK, max_bytes=len(media) - 1), url, place)
    assert drop.reason is DropReason.TOO_LARGE and str(len(media)) in drop.detail
    large = server.serve("large.mp4", bytes(40_000_000))
    drop, _ = run(replace(QUICK, max_bytes=30_000_000), large, place)
    assert drop.reason is DropReason.TOO_LARGE
    assert server.sent < 40_000_000, "refused by its length, not after fetching it"
    drop, _ = run(replace(QUICK, min_height=400), url, place)
    assert drop.reason is DropReason.FACE_TOO_SMALL and "180" in drop.detail
    assert fetched(replace(QUICK, max_bytes=len(media), min_height=180), url, place) == media


# --- resume


def test_a_cut_connection_is_continued(server, media, place):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(cut_at=20_000) if number == 1 else None)
    assert fetched(QUICK, url, place) == media
    begin = int(server.ranges()[0].removeprefix("bytes=").rstrip("-"))
    assert 0 < begin <= 20_000
    assert server.seen[-1].if_range == '"v1"'


@pytest.mark.parametrize(
    "changed",
    [
        {"etag": '"v2"'},
        {"etag": '"v2"', "heed_if_range": False},
        {"etag": None, "heed_if_range": False},
        {"etag": '"v2"', "ranges": False},
    ],
    ids=["if-range", "ignores if-range", "only the length differs", "no ranges"],
)
def test_a_changed_file_is_never_spliced(server, media, other_media, place, changed):
    before = {"etag": None} if changed["etag"] is None else {}
    url = server.serve("a.mp4", media, fault=lambda number: Fault(cut_at=20_000), **before)
    with pytest.raises(Transient):
        run(replace(QUICK, attempts=1), url, place)
    assert any(path.suffix == ".part" for path in partials(place))
    server.serve("a.mp4", other_media, **changed)
    assert fetched(QUICK, url, place) == other_media


def test_bytes_of_unknown_origin_are_not_continued(server, media, place):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(cut_at=20_000))
    with pytest.raises(Transient):
        run(replace(QUICK, attempts=1), url, place)
    for path in partials(place):
        if path.name.endswith(".whole.json"):
            path.unlink()
        else:
            path.write_bytes(bytes(path.stat().st_size))
    server.serve("a.mp4", media)
    assert fetched(QUICK, url, place) == media


@pytest.mark.parametrize("extra", [b"", b"tail"], ids=["complete", "too long"])
def test_a_partial_file_that_is_already_complete(server, media, place, extra):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(cut_at=20_000))
    with pytest.raises(Transient):
        run(replace(QUICK, attempts=1), url, place)
    part = next(path for path in partials(place) if path.suffix == ".part")
    part.write_bytes(media + extra)  # as if killed just before the rename
    server.serve("a.mp4", media)
    assert fetched(QUICK, url, place) == media


def test_a_killed_download_goes_on_where_it_was(server, media, place):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(bytes_s=16_000) if number == 1 else None)
    code = (
        "import sys; from pathlib import Path; from tests.test_download import QUICK, run\n"
        "run(QUICK, sys.argv[1], Path(sys.argv[2]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, url, str(place)], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    )
    deadline = time.monotonic() + 60
    while not any(path.suffix == ".part" and path.stat().st_size > 4096 for path in partials(place)):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    sent_before = server.sent
    assert fetched(QUICK, url, place) == media
    assert int(server.ranges()[-1].removeprefix("bytes=").rstrip("-")) > 0
    assert server.sent - sent_before < 2 * len(media), "what was there was not fetched again"
    assert partials(place) == []


def test_partial_downloads_are_swept_after_a_month(server, media, place):
    url = server.serve("a.mp4", media, fault=lambda number: Fault(cut_at=20_000))
    with pytest.raises(Transient):
        run(replace(QUICK, attempts=1), url, place)
    QUICK.setup()
    assert partials(place)
    folder = partials(place)[0].parent
    for path in [*partials(place), folder]:
        os.utime(path, (1, 1))
    with locked(f"partial {folder}"):
        QUICK.setup()
    assert partials(place), "somebody is at it"
    QUICK.setup()
    assert partials(place) == []


# --- formats


def dash(server: FaultServer, place: Path) -> str:
    """A DASH presentation: two sizes of picture without sound, and two languages of sound without picture."""
    for name, size in (("small", (160, 90)), ("large", (320, 180))):
        made = make_media(place / f"{name}.mp4", duration=1.0, size=size, audio=None)
        server.serve(f"{name}.mp4", made.path.read_bytes())
    for language, rate in (("en", 44100), ("de", 48000)):
        made = make_media(place / f"{language}.m4a", duration=1.0, video=None, audio_rate=rate)
        server.serve(f"{language}.m4a", made.path.read_bytes(), content_type="audio/mp4")
    pictures = "".join(
        f'<Representation id="{name}" bandwidth="{width}000" width="{width}" height="{height}" codecs="avc1.64000c">'
        f"<BaseURL>{name}.mp4</BaseURL></Representation>"
        for name, width, height in (("small", 160, 90), ("large", 320, 180))
    )
    sounds = "".join(
        f'<AdaptationSet mimeType="audio/mp4" lang="{language}"><Representation id="{language}" bandwidth="64000" '
        f'codecs="mp4a.40.2"><BaseURL>{language}.m4a</BaseURL></Representation></AdaptationSet>'
        for language in ("en", "de")
    )
    text = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" '
        f'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">{pictures}'
        f"</AdaptationSet>{sounds}</Period></MPD>"
    )
    return server.serve("talk.mpd", text.encode(), content_type="application/dash+xml")


@pytest.mark.parametrize(("language", "rate", "max_height"), [("en", 44100, 1080), ("de-AT", 48000, 90)])
def test_picture_and_sound_are_chosen_and_merged(server, place, language, rate, max_height):
    url = dash(server, place)
    stage = replace(QUICK, max_height=max_height)
    clip, files = run(stage, url, place, language=language)
    info = json.loads(files.path(clip, Key.INFO).read_bytes())
    assert [track["rate"] for track in info["audio"]] == [rate]
    assert info["video"]["height"] == min(180, max_height)
    assert {form.get("language") for form in info["formats"]} == {None, language[:2]}
    again, more = run(stage, url, place, language=language)
    assert again.assets == clip.assets, "merging gives the same bytes"
    assert more.path(again, Key.MEDIA).read_bytes() == files.path(clip, Key.MEDIA).read_bytes()


def test_too_small_on_offer_is_refused_before_fetching(server, place):
    drop, _ = run(replace(QUICK, min_height=720), dash(server, place), place)
    assert drop.reason is DropReason.FACE_TOO_SMALL
    assert {seen.path for seen in server.seen} == {"/talk.mpd"}


def test_hls_segments(server, place):
    made = make_media(place / "seg.ts", duration=1.0)
    segment = server.serve("seg.ts", made.path.read_bytes())
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{segment}\n#EXT-X-ENDLIST\n"
    clip, _ = run(QUICK, server.serve("a.m3u8", text.encode(), content_type="application/vnd.apple.mpegurl"), place)
    assert isinstance(clip, Clip) and clip.assets[Key.MEDIA].path.endswith(".ts")


# --- what must not be reached


def test_a_playlist_cannot_make_us_read_local_files(server, media, place):
    secret = place / "secret.mp4"
    secret.write_bytes(media)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    for number, content_type in enumerate(("application/vnd.apple.mpegurl", "video/mp4")):
        url = server.serve(f"{number}.bin", text, content_type=content_type)
        try:
            output, _ = run(QUICK, url, place)
        except DyconvError:
            continue
        assert isinstance(output, Drop), "a local file came out of a playlist from the network"


def test_a_redirect_to_a_local_file_is_not_followed(server, media, place):
    secret = place / "secret.mp4"
    secret.write_bytes(media)
    fault = Fault(status=302, headers={"Location": f"file://{secret}"})
    try:
        output, _ = run(QUICK, server.serve("a.mp4", fault=lambda number: fault), place)
    except DyconvError:
        return
    assert isinstance(output, Drop)


def test_redirects_between_hosts_are_followed(server, media, place):
    target = server.serve("b.mp4", media)
    url = server.serve("a.mp4", fault=lambda number: Fault(status=302, headers={"Location": target}))
    assert fetched(QUICK, url, place) == media


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.mp4", "ytsearch:x", "data:video/mp4,x", "a.mp4", "-oProxy"])
def test_other_schemes_are_bad_rows(place, url):
    drop, _ = run(replace(QUICK, allow_local=True), url, place)
    assert drop.reason is DropReason.BAD_ROW


# --- local files


def test_local_files_only_where_allowed_and_as_copies(media, place):
    original = place / "ä b.mp4"
    original.write_bytes(media)
    drop, _ = run(QUICK, original.as_uri(), place)
    assert drop.reason is DropReason.BAD_ROW and "local" in drop.detail
    stage = replace(QUICK, allow_local=True)
    clip, files = run(stage, original.as_uri(), place)
    files.commit()
    stored = files.store.verified(clip.assets[Key.MEDIA])
    original.write_bytes(b"changed afterwards")
    assert stored.read_bytes() == media
    assert str(place) not in files.store.local(clip.assets[Key.INFO].path).read_text()


def test_local_files_that_cannot_be_used(media, place):
    stage = replace(QUICK, allow_local=True, max_bytes=10_000)
    os.mkfifo(place / "pipe.mp4")
    (place / "folder.mp4").mkdir()
    (place / "empty.mp4").write_bytes(b"")
    (place / "large.mp4").write_bytes(media)
    found = {
        name: run(stage, (place / f"{name}.mp4").as_uri(), place)[0].reason for name in ("pipe", "folder", "empty", "large")
    }
    assert found == {
        "pipe": DropReason.UNREADABLE,
        "folder": DropReason.UNREADABLE,
        "empty": DropReason.UNREADABLE,
        "large": DropReason.TOO_LARGE,
    }
    assert run(stage, (place / "missing.mp4").as_uri(), place)[0].reason is DropReason.UNAVAILABLE


def test_real_files_are_taken_or_dropped_by_name(real_data, place):
    stage = replace(QUICK, allow_local=True)
    reasons = {}
    for path in sorted((real_data / "broken").iterdir()):
        output, _ = run(stage, path.as_uri(), place)
        reasons[path.name] = output.reason if isinstance(output, Drop) else output.span.duration > 0
    assert reasons["streamio-ffmpeg__broken.mp4"] is DropReason.UNREADABLE
    assert reasons["torchcodec__var_fps_video.mp4"] is True


# --- licences


@pytest.mark.parametrize("licence", ["CC-BY-4.0", "cc by 4.0", "CC_BY-3.0", "CC0-1.0", "own", "Public Domain", "CC-BY-SA-4.0"])
def test_open_licences_pass(licence):
    assert refusal(licence, OPEN_LICENCES) is None


@pytest.mark.parametrize(
    "licence", [None, "", "  ", "CC-BY-NC-4.0", "cc by nc nd 4.0", "CC-BY-ND-4.0", "youtube", "owned", "*"]
)
def test_other_licences_do_not(licence):
    assert refusal(licence, OPEN_LICENCES)


def test_no_licence_is_taken_by_no_recipe():
    assert refusal(None, ("*",)) and refusal(" ", ("*",)) and refusal("anything", ("*",)) is None


def test_the_gate_comes_before_any_request(server, media, place):
    url = server.serve("a.mp4", media)
    for licence in (None, "All rights reserved"):
        drop, _ = run(QUICK, url, place, licence=licence)
        assert drop.reason is DropReason.LICENCE
    assert server.seen == []


# --- cookies, fingerprint, queue


def test_cookies_go_to_their_host_and_the_file_stays_as_it_is(server, media, place, monkeypatch):
    cookies = place / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tabc\n"
    cookies.write_text(text)
    url = server.serve("a.mp4", media)
    fetched(replace(QUICK, cookies=str(cookies)), url, place)
    monkeypatch.setenv("DYCONV_COOKIES", str(cookies))
    fetched(QUICK, url, place)
    assert {seen.cookie for seen in server.seen} == {"session=abc"}
    assert cookies.read_text() == text
    monkeypatch.setenv("DYCONV_COOKIES", str(place / "nowhere.txt"))
    with pytest.raises(UsageError, match="cookies"):
        QUICK.setup()
    (place / "cookies.json").write_text("[]")
    with pytest.raises(UsageError, match="Netscape"):
        run(replace(QUICK, cookies=str(place / "cookies.json")), url, place)


def test_manners_are_not_part_of_the_fingerprint():
    base = QUICK.fingerprint("u")
    for change in ({"attempts": 9}, {"timeout_s": 99.0}, {"cookies": "/x"}, {"per_host_interval_s": 7.0}, {"max_wait_s": 1.0}):
        assert replace(QUICK, **change).fingerprint("u") == base
    for change in ({"max_height": 720}, {"licences": ("own",)}, {"allow_local": True}, {"max_bytes": 5}, {"min_height": 9}):
        assert replace(QUICK, **change).fingerprint("u") != base


def test_one_queue_for_all_who_ask_a_host():
    begun: list[float] = []

    def ask() -> None:
        wait_turn("example.org", 0.15, 10.0)
        begun.append(time.time())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    start = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(begun) - start >= 3 * 0.15 - 0.02
    wait_turn("other.example.org", 9.0, 0.0)  # another host has its own queue: no wait


def test_the_queue_is_shared_between_processes(place):
    code = "from dyconv.download.hosts import hold_back; hold_back('example.org', 500)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
    with pytest.raises(Exception, match="asked not to be asked"):
        wait_turn("example.org", 0.0, 1.0)
    hold_back("example.org", 1)  # never shortens what was asked for
    with pytest.raises(Exception, match="asked not to be asked"):
        wait_turn("example.org", 0.0, 5.0)


def test_a_temporary_folder_of_somebody_else_is_refused(place):
    (place / "tmpdir" / f"dyconv-{os.getuid()}").mkdir(mode=0o777)
    os.chmod(place / "tmpdir" / f"dyconv-{os.getuid()}", 0o777)
    with pytest.raises(DyconvError, match="open to others"):
        wait_turn("example.org", 0.0, 0.0)


def test_backoff_doubles_is_bounded_and_repeats():
    waits = [backoff_s(attempt, 2.0, "u") for attempt in range(1, 9)]
    assert waits == [backoff_s(attempt, 2.0, "u") for attempt in range(1, 9)]
    for attempt, wait in enumerate(waits, 1):
        plain = min(60.0, 2.0 * 2 ** (attempt - 1))
        assert plain <= wait <= 1.5 * plain
    assert len({backoff_s(1, 2.0, f"u{number}") for number in range(20)}) > 10, "workers spread out"
