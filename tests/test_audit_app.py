"""The audit app without a browser: who may ask for what, and what is written."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from dyconv.audit.app import create_app
from dyconv.audit.board import Board
from dyconv.audit.decisions import base_of
from dyconv.audit.guard import Access, is_loopback
from dyconv.audit.library import Library
from dyconv.audit.overlay import Overlay
from dyconv.audit.proxies import Proxies, prune
from dyconv.audit.sampling import Sample, draw
from dyconv.errors import ShardError, UsageError
from dyconv.records import Key
from dyconv.store import Store
from tests.audit_builds import TITLE, packed
from tests.small_build import small_build

HERE = "http://127.0.0.1:8756"
FIRST, SECOND = (f"clip{number:04d}_00000000_00002000" for number in range(2))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return packed(tmp_path_factory.mktemp("release"), 4)


@pytest.fixture(scope="module")
def library(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(store, tmp_path_factory.mktemp("cache"))


class Desk:
    """A server in this process, and somebody at it."""

    def __init__(
        self,
        library: Library,
        overlay: Path,
        *,
        host: str = "127.0.0.1",
        round: int = 1,
        sample: Sample | None = None,
        reviewer: str = "ada",
        fixed: str | None = None,
        base_url: str = HERE,
    ) -> None:
        self.access = Access(host, 8756)
        self.board = Board(Overlay(overlay), library.clips, library.bases, sample, round)
        self.library, self.reviewer = library, reviewer
        app = create_app(library, self.board, Proxies(library), self.access, fixed)
        self.client = TestClient(app, base_url=base_url, raise_server_exceptions=False)

    def headers(self, **more: str) -> dict[str, str]:
        return {"x-dyconv-token": self.access.token, "x-reviewer": self.reviewer, **more}

    def get(self, path: str, **more: str) -> Any:
        return self.client.get(path, headers=self.headers(**more))

    def decide(self, kind: str, data: dict[str, Any] | None = None, clip: str = FIRST, **body: Any) -> Any:
        sent = {"kind": kind, "data": data or {}, "base": self.library.bases[clip], **body}
        return self.client.post(f"/api/clips/{clip}/decisions", json=sent, headers=self.headers())

    def row(self, clip: str = FIRST) -> dict[str, Any]:
        return next(row for row in self.get("/api/queue").json()["rows"] if row["id"] == clip)


@pytest.fixture
def desk(library: Library, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(library, tmp_path / "overlay.sqlite")
    with made.client:
        yield made


# --- safety


def test_nothing_is_written_without_the_token(desk: Desk) -> None:
    body = {"kind": "accept", "base": desk.library.bases[FIRST]}
    for path in (f"/api/clips/{FIRST}/decisions", "/api/undo", "/api/redo", "/api/session"):
        for headers in ({}, {"x-dyconv-token": ""}, {"x-dyconv-token": desk.access.token[:-1]}, {"x-dyconv-token": "é"}):
            raw = {name: value.encode() for name, value in headers.items()}
            assert desk.client.post(path, json=body, headers=raw).status_code == 401
    assert desk.board.overlay.all() == []
    assert desk.client.get("/api/queue").status_code == 200, "this machine may read"
    assert desk.client.get("/api/session").json()["writes"] is False
    assert desk.access.token not in desk.client.get("/").text + desk.client.get("/api/session").text


def test_other_names_and_other_pages_are_refused(desk: Desk) -> None:
    for host in (
        "evil.example:8756",
        "127.0.0.1.evil.example:8756",
        "user@127.0.0.1:8756",
        "",
        "[::1",
    ):
        assert desk.get("/api/queue", host=host).status_code == 421, host
    for host in ("localhost:8756", "[::1]:8756", "127.0.0.1:8756", "localhost:9000"):
        assert desk.get("/api/queue", host=host).status_code == 200, host
    body = {"kind": "accept", "base": desk.library.bases[FIRST]}
    for foreign in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = desk.client.post(f"/api/clips/{FIRST}/decisions", json=body, headers=desk.headers(**foreign))
        assert answer.status_code == 403, foreign
        assert desk.get(f"/media/{FIRST}/full/mix.flac", **foreign).status_code == 403
    assert desk.get("/api/queue", origin=HERE).status_code == 200
    assert desk.board.overlay.all() == []


def test_a_page_of_another_kind_cannot_write(desk: Desk) -> None:
    body = json.dumps({"kind": "accept", "base": desk.library.bases[FIRST]})
    path = f"/api/clips/{FIRST}/decisions"
    assert desk.client.post(path, content=body, headers=desk.headers(**{"content-type": "text/plain"})).status_code == 415
    assert desk.client.post(path, content=b"x" * (5 << 20), headers=desk.headers()).status_code == 413
    assert desk.client.post(path, content=iter([b"{}"]), headers=desk.headers()).status_code == 413
    for wrong in (b"\xff", b"[]", b"{}", b'{"kind":"accept","kind":"reject","base":""}', b'{"kind":"accept","base":NaN}'):
        answer = desk.client.post(path, content=wrong, headers=desk.headers(**{"content-type": "application/json"}))
        assert answer.status_code == 400 and answer.json()["error"], wrong
    assert desk.board.overlay.all() == []


def test_paths_stay_among_what_is_known(desk: Desk) -> None:
    ways = ("..%2f..%2fetc%2fpasswd", "%2e%2e", "....//", FIRST + "%00", "/etc/passwd", "%c0%af")
    for way in ways:
        for path in (
            f"/api/clips/{way}",
            f"/media/{way}/full/mix.flac",
            f"/media/{FIRST}/full/{way}",
            f"/media/{FIRST}/{way}/mix.flac",
            f"/web/{way}",
        ):
            assert desk.get(path).status_code in (404, 405), path
    for key in ("media", "info.json", "json", "speech.npz", "p0.crop.npz", "video.mp4"):
        assert desk.get(f"/media/{FIRST}/full/{key}").status_code == 404, key
    for path in ("/docs", "/openapi.json", "/redoc", "/web/index.html", "/web/vendor.json"):
        assert desk.get(path).status_code == 404, path


def test_every_answer_is_locked_down(desk: Desk) -> None:
    page = desk.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    assert policy != desk.get("/").headers["content-security-policy"], "a nonce is used once"
    assert "http" not in page.text.replace("http-equiv", ""), "nothing is fetched from elsewhere"
    for answer in (
        page,
        desk.get("/api/queue"),
        desk.get(f"/media/{FIRST}/full/mix.flac"),
        desk.get("/nothing"),
        desk.client.post("/api/undo"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for name in ("main.js", "style.css", "wavesurfer.min.js"):
        assert desk.get(f"/web/{name}").status_code == 200


def test_bound_to_other_addresses_reading_wants_the_token_too(library: Library, tmp_path: Path) -> None:
    out = Desk(library, tmp_path / "o.sqlite", host="192.168.7.7", base_url="http://192.168.7.7:8756")
    with out.client as client:
        assert client.get("/").status_code == 200 and client.get("/web/main.js").status_code == 200
        media = f"/media/{FIRST}/full/mix.flac"
        for path in ("/api/queue", "/api/session", f"/api/clips/{FIRST}", f"/api/clips/{FIRST}/drawn", media):
            assert client.get(path).status_code == 401, path
        assert out.get("/api/queue").status_code == 200
        given = client.post("/api/session", headers=out.headers())
        cookie = given.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and out.access.token not in cookie
        assert client.get(media).status_code == 200, "the cookie fetches media"
        assert client.get("/api/queue").status_code == 401 and client.post("/api/undo").status_code == 401, "and nothing else"
        client.cookies.clear()
        assert client.get(media, headers={"cookie": "dyconv_audit_8756=wrong"}).status_code == 401
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "example.org")] == [True] * 3 + [
        False
    ] * 3


def test_titles_with_markup_are_text(desk: Desk) -> None:
    row = desk.row()
    assert (
        "<script>alert" in row["title"]
        and "\n" not in row["title"]
        and desk.get("/api/queue").headers["content-type"] == "application/json"
    )
    assert TITLE not in desk.get("/").text
    scripts = "".join(
        desk.get(f"/web/{name}").text
        for name in ("main.js", "dom.js", "panels.js", "queue.js", "dialogs.js", "waves.js", "review.js")
    )
    assert not any(way in scripts for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("))


# --- what is seen and heard


def test_media_comes_in_ranges(desk: Desk, library: Library) -> None:
    whole = desk.get(f"/media/{FIRST}/full/mix.flac")
    assert (
        whole.status_code == 200 and whole.headers["accept-ranges"] == "bytes" and whole.headers["content-type"] == "audio/flac"
    )
    assert whole.content == library.path(FIRST, Key.MIX).read_bytes()
    part = desk.get(f"/media/{FIRST}/full/mix.flac", range="bytes=100-199")
    assert part.status_code == 206 and part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert desk.get(f"/media/{FIRST}/full/mix.flac", range="bytes=-5").content == whole.content[-5:]
    assert desk.get(f"/media/{FIRST}/full/mix.flac", range=f"bytes={len(whole.content)}-").status_code == 416


def test_a_clip_of_a_release_has_all_that_is_drawn(desk: Desk) -> None:
    drawn = desk.get(f"/api/clips/{FIRST}/drawn").json()
    assert [track["id"] for track in drawn["tracks"]] == ["mix", "p0", "p1"] and drawn["seconds"] == 2.0
    assert all(len(track["peaks"]) == 200 and 30 < max(track["peaks"]) <= 127 for track in drawn["tracks"])
    assert [picture["key"] for picture in drawn["pictures"]] == ["p0.face.mp4", "p1.face.mp4"]
    face = drawn["pictures"][0]["faces"][0]
    assert face["person"] == "p0" and face["frames"][0] == 5 and len(face["boxes"][0]) == 4
    mouth, yaw = drawn["curves"]["p0"]
    assert (
        mouth["values"][:5] == [None] * 5 and mouth["values"][5] > 0 and yaw["unit"] == "degrees" and len(yaw["values"]) == 50
    )
    assert max(drawn["chances"]["p1"]) == 100 and drawn["notes"] == []
    detail = desk.get(f"/api/clips/{FIRST}").json()
    assert [(turn["person"], turn["confidence"], turn["agreement"]) for turn in detail["turns"]] == [
        ("p0", 0.9, 0.875),
        ("p1", 0.5, None),
        (None, 0.2, None),
    ]
    assert desk.get(f"/api/clips/{FIRST}/evidence").json() == {"stages": [], "others": []}


def test_a_build_shows_its_whole_picture_and_why(tmp_path: Path) -> None:
    build = small_build(tmp_path / "build")
    library = Library(build, tmp_path / "cache")
    kept = "talk_00000000_00002000"
    desk = Desk(library, tmp_path / "o.sqlite")
    with desk.client:
        drawn = desk.get(f"/api/clips/{kept}/drawn").json()
        assert [(picture["key"], picture["size"]) for picture in drawn["pictures"]] == [("video.mp4", [192, 108])]
        assert [face["person"] for face in drawn["pictures"][0]["faces"]] == ["p0", "p1"]
        why = desk.get(f"/api/clips/{kept}/evidence").json()
        assert [stage["stage"] for stage in why["stages"]][-1] == "people"
        assert why["others"][0]["state"] == "dropped" and "NOT_DYADIC" in why["others"][0]["reason"]
    assert not (tmp_path / "build" / "annotations").exists(), "nothing is written into the build"


def test_small_copies_are_made_ahead_outside_the_build(tmp_path: Path) -> None:
    store = packed(tmp_path, 1)
    library = Library(store, tmp_path / "cache")
    before = set(Path(store.root).rglob("*"))
    proxies = Proxies(library)
    proxies.start([FIRST])
    try:
        for _ in range(200):
            if proxies.small(FIRST, Key.P1_FACE):
                break
            time.sleep(0.05)
        small = proxies.small(FIRST, Key.P0_FACE)
        assert small is not None and small.is_relative_to(tmp_path / "cache")
    finally:
        proxies.close()
    assert set(Path(store.root).rglob("*")) == before
    proxies.forget(FIRST)
    assert proxies.small(FIRST, Key.P0_FACE) is None, "nothing is kept of somebody who did not consent"
    prune(tmp_path / "cache", 0)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_what_is_damaged_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    store = packed(tmp_path, 1)
    shard = next((Path(store.root) / "shards").glob("clips-*.tar"))
    data = bytearray(shard.read_bytes())
    place = data.find(b"fLaC")
    data[place + 500] ^= 1
    shard.write_bytes(data)
    desk = Desk(Library(store, tmp_path / "cache"), tmp_path / "o.sqlite")
    with desk.client:
        drawn = desk.get(f"/api/clips/{FIRST}/drawn").json()
        assert len(drawn["tracks"]) == 2 and "is not what its record says" in drawn["notes"][0]
        assert desk.get(f"/media/{FIRST}/full/mix.flac").status_code == 500
    shard.write_bytes(data[:-1024])
    with pytest.raises(ShardError, match="its index says"):
        Library(store, tmp_path / "cache")
    with pytest.raises(UsageError, match="no build and no release"):
        Library(Store(tmp_path / "nothing"), tmp_path / "cache")


def test_a_build_whose_work_was_deleted_is_read_from_its_shards(tmp_path: Path) -> None:
    whole = small_build(tmp_path / "build", pack=True)
    ids = set(Library(whole, tmp_path / "cache").clips)
    shutil.rmtree(tmp_path / "build" / "work")
    library = Library(Store(tmp_path / "build"), tmp_path / "cache")
    assert set(library.clips) == ids and library.path("talk_00000000_00002000", Key.MIX)


# --- decisions


def test_every_decision_is_in_the_overlay_at_once(desk: Desk) -> None:
    assert desk.decide("accept").json()["row"]["state"] == "accepted"
    found = desk.board.overlay.all()
    assert [(d.kind, d.reviewer, d.clip, d.base) for d in found] == [
        ("accept", "ada", FIRST, base_of(desk.library.clips[FIRST]))
    ]
    told = desk.decide("reject", {"reason": "bleed", "note": "<b>loud</b>"}).json()
    assert told["verdict"]["state"] == "rejected" and told["row"]["reason"] == "bleed"
    turns = [{"person": "p0", "start_s": 0.1, "end_s": 0.9, "unsure": False}]
    told = desk.decide("turns", {"turns": turns}, seen=None).json()
    assert told["verdict"]["turns"] == turns and told["row"]["fixed"]
    desk.decide("mark", {"what": "cut", "person": None, "at_s": 1.25})
    desk.decide("swap", {"what": "voices"})
    row = desk.row()
    assert (row["state"], row["marks"], row["swapped"], row["reviewers"]) == ("rejected", 1, "voices", ["ada"])
    assert desk.get(f"/api/clips/{FIRST}").json()["verdict"]["marks"][0]["at_s"] == 1.25, "a reload finds all again"


def test_wrong_decisions_are_refused_and_say_why(desk: Desk) -> None:
    for kind, data, told in (
        ("reject", {"reason": "boring"}, "one of speaker"),
        ("turns", {"turns": [{"person": "p2", "start_s": 0, "end_s": 1}]}, "p0, p1 or null"),
        ("turns", {"turns": [{"person": "p0", "start_s": 0, "end_s": 9}]}, "clip's end"),
        ("mark", {"what": "cut", "at_s": -1}, "seconds from 0"),
        ("takedown", {"why": " "}, "characters of text"),
        ("undo", {"decision": "0" * 32}, "has no decision"),
        ("publish", {}, "one of accept"),
    ):
        answer = desk.decide(kind, data)
        assert answer.status_code == 400 and told in answer.json()["error"], (kind, answer.text)
    assert desk.decide("accept", base="0" * 64).status_code == 409
    desk.reviewer = ""
    assert "name" in desk.decide("accept").json()["error"]
    desk.reviewer = "x" * 81
    assert desk.decide("accept").status_code == 400
    desk.reviewer = "%F0%9F%91%A9 Zo%C3%AB"
    assert desk.decide("accept").status_code == 200
    assert desk.board.overlay.all()[0].reviewer == "👩 Zoë"


def test_undo_and_redo_find_the_last_thing_wherever_it_was(desk: Desk) -> None:
    desk.decide("accept")
    desk.decide("reject", {"reason": "noise"}, SECOND)
    undo = lambda way="undo": desk.client.post(f"/api/{way}", headers=desk.headers()).json()  # noqa: E731
    assert (undo()["clip"], desk.row(SECOND)["state"]) == (SECOND, "open")
    assert (undo()["clip"], desk.row(FIRST)["state"]) == (FIRST, "open")
    assert undo() == {"clip": None}
    assert (undo("redo")["clip"], desk.row(FIRST)["state"]) == (FIRST, "accepted")
    assert (undo("redo")["clip"], desk.row(SECOND)["state"]) == (SECOND, "rejected")
    assert undo("redo") == {"clip": None}
    assert undo()["clip"] == SECOND
    desk.decide("accept", clip=SECOND)
    assert undo("redo") == {"clip": None}, "something new was said since"
    assert len(desk.board.overlay.all()) == 8, "nothing is ever taken out"


def test_two_reviewers_on_one_clip_lose_nothing(library: Library, tmp_path: Path) -> None:
    ada, bob = (Desk(library, tmp_path / "one.sqlite", reviewer=name) for name in ("ada", "bob"))
    turns = lambda end: {"turns": [{"person": "p0", "start_s": 0, "end_s": end}]}  # noqa: E731
    with ada.client, bob.client:
        seq = bob.get("/api/queue").json()["seq"]
        first = ada.decide("turns", turns(1.0), seen=None).json()
        late = bob.decide("turns", turns(0.5), seen=None)
        assert late.status_code == 409 and "meanwhile" in late.json()["error"]
        changes = bob.get(f"/api/changes?after={seq}").json()
        assert [(row["id"], row["reviewers"]) for row in changes["rows"]] == [(FIRST, ["ada"])]
        assert bob.get(f"/api/clips/{FIRST}").json()["verdict"]["turns"][0]["end_s"] == 1.0
        assert bob.decide("turns", turns(0.5), seen=first["verdict"]["turns_by"]).status_code == 200
        ada.decide("accept")
        bob.decide("reject", {"reason": "speaker"})
        assert ada.row()["disagree"] and ada.row()["reviewers"] == ["ada", "bob"]
        assert len(ada.get(f"/api/clips/{FIRST}").json()["decisions"]) == 4
        assert bob.client.post("/api/undo", headers=bob.headers()).json()["verdict"]["state"] == "accepted", "only bob's own"


def test_a_blind_round_shows_nothing_of_the_first(library: Library, tmp_path: Path) -> None:
    sample = draw(library.clips.values(), size=3, second_share=0.67)
    clip = next(item.id for item in sample.clips if item.second)
    open_round = Desk(library, tmp_path / "one.sqlite", sample=sample)
    blind = Desk(library, tmp_path / "one.sqlite", sample=sample, round=2, reviewer="bob")
    with open_round.client, blind.client:
        assert [row["place"] for row in open_round.get("/api/queue").json()["rows"]] == [0, 1, 2, None]
        open_round.decide("reject", {"reason": "bleed"}, clip)
        rows = blind.get("/api/queue").json()["rows"]
        assert {row["id"] for row in rows} == {item.id for item in sample.clips if item.second}
        assert {row["state"] for row in rows} == {"open"}
        seen = blind.get(f"/api/clips/{clip}").text + blind.get("/api/changes?after=0").text
        assert "bleed" not in seen and "ada" not in seen
        assert blind.client.post("/api/undo", headers=blind.headers()).json() == {"clip": None}
        assert blind.decide("accept", clip=clip).json()["verdict"]["state"] == "accepted"
        assert [d.round for d in blind.board.overlay.of(clip)] == [1, 2]
        blind.reviewer = "ada"
        assert clip not in {row["id"] for row in blind.get("/api/queue").json()["rows"]}, "she knows it"
        assert "blind" in blind.decide("accept", clip=clip).json()["error"]
        assert open_round.row(clip)["disagree"]
        other = next(item.id for item in sample.clips if item.second and item.id != clip)
        blind.reviewer = "bob"
        blind.decide("reject", {"reason": "noise"}, other)
        assert open_round.row(other)["state"] == "open", "nor does the second lead the first"


def test_a_fixed_name_holds_whatever_the_page_says(library: Library, tmp_path: Path) -> None:
    desk = Desk(library, tmp_path / "o.sqlite", reviewer="mallory", fixed="ada")
    with desk.client:
        desk.decide("accept")
    assert [d.reviewer for d in desk.board.overlay.all()] == ["ada"]


def test_an_overlay_that_cannot_be_written_says_so(library: Library, tmp_path: Path) -> None:
    desk = Desk(library, tmp_path / "o.sqlite")
    with desk.client:
        (tmp_path / "o.sqlite").write_bytes(b"no database at all, " * 100)
        answer = desk.decide("accept")
        assert answer.status_code == 507 and "is kept" in answer.json()["hint"]


def test_decisions_on_an_earlier_record_are_told_as_such(library: Library, tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "o.sqlite")
    desk = Desk(library, tmp_path / "o.sqlite")
    with desk.client:
        desk.decide("accept")
        old = overlay.all()[0]
        overlay.add(type(old).from_json({**old.to_json(), "id": "1" * 32, "base": "2" * 64, "clip": SECOND}))
        row = desk.row(SECOND)
        assert (row["state"], row["stale"]) == ("open", 1)
        assert desk.get(f"/api/clips/{SECOND}").json()["decisions"][0]["stale"] is True
