"""`dyconv listen`: a page that plays, says what is known, and carries everything inside."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyconv.cli.listen import listen
from dyconv.errors import DyconvError, UsageError
from dyconv.listen import page
from dyconv.listen.page import VENDOR, render, write_page, write_pages
from dyconv.media.audio import write_audio
from dyconv.records import PERSONS, Key, Ref
from dyconv.report.find import find
from dyconv.report.view import ClipView
from dyconv.store import Store, sha256_of
from dyconv.time import SAMPLES_PER_FRAME
from pipelines import vendor
from tests.small_build import FRAMES, NASTY, small_build

KEPT = "talk_00000000_00002000"
DROPPED = "talk_00002000_00004000"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return small_build(tmp_path_factory.mktemp("build"))


def with_voices(store: Store, folder: Path) -> ClipView:
    """The kept clip with a voice for each, and what the later stages measure."""
    view = find(store, KEPT)
    assets = dict(view.clip.assets)
    for number, person in enumerate(PERSONS):
        path = folder / f"{person}.flac"
        time = np.arange(FRAMES * SAMPLES_PER_FRAME)
        write_audio(path, (0.3 * np.sin(time / (20 + 9 * number))).astype(np.float32))
        key = Key.of(person, "voice")
        assets[key] = Ref(f"voices/{KEPT}.{key}", sha256_of(path), path.stat().st_size)
        store.put(path, assets[key].path)
    measured = view.clip.measured(p0__bleed_db=-31.2, p1__bleed_db=None, p0__voice_method="<i>as it is</i>", av_offset_s=-0.0)
    turns = (replace(view.clip.turns[0], agreement=0.875), *view.clip.turns[1:])
    return replace(view, clip=replace(measured, assets=assets, turns=turns))


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_tracks_turns_and_measures(store: Store, tmp_path: Path) -> None:
    view = with_voices(store, tmp_path)
    text = render(view)
    data = data_of(text)
    assert [(track["id"], track["heard"]) for track in data["tracks"]] == [("mix", True), ("p0", False), ("p1", False)]
    assert data["duration"] == FRAMES / 25
    assert [(turn["person"], turn["unsure"]) for turn in data["turns"]] == [("p0", False), ("p1", False), (None, True)]
    assert data["turns"][0]["agreement"] == 0.88 and data["turns"][1]["agreement"] is None
    assert [face["person"] for face in data["faces"]] == ["p0", "p1"] and len(data["faces"][0]["boxes"]) == FRAMES
    assert len(data["chances"]["p1"]) == FRAMES and max(data["chances"]["p1"]) == 100
    embedded = re.search(r'id="sound-p1">([^<]+)<', text)
    assert embedded and base64.b64decode(embedded[1]) == view.path(Key.P1_VOICE).read_bytes(), "the very file is heard"
    assert "<td>bleed_db</td><td>-31.2</td><td>not known</td>" in text
    assert render(view) == text


def test_nothing_leaves_the_page_and_nothing_foreign_runs_in_it(store: Store, tmp_path: Path) -> None:
    text = render(with_voices(store, tmp_path))
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "<i>as it is" not in text
    assert NASTY not in text


def test_what_was_dropped_early_still_gets_a_page(store: Store) -> None:
    text = render(find(store, DROPPED))
    assert "NOT_DYADIC: expected two people" in text and NASTY not in text
    assert [track["id"] for track in data_of(text)["tracks"]] == ["mix"]
    gone = render(find(store, "gone"))
    assert "No sound can be played" in gone and "No picture" in gone and "404" in gone


def test_damaged_assets_are_said_and_the_rest_is_there(tmp_path: Path) -> None:
    store = small_build(tmp_path / "build")
    view = find(store, KEPT)
    (Path(store.root) / view.clip.assets[Key.VIDEO].path).write_bytes(b"no video")
    text = render(find(store, KEPT))
    assert "Cannot be read: video.mp4" in text and 'id="sound-mix"' in text


def test_the_index_leads_to_pages_of_kept_clips_first(store: Store, tmp_path: Path) -> None:
    index = write_pages(store, tmp_path / "pages", limit=3)
    links = re.findall(r'href="([^"]+)"', index.read_text())
    assert len(links) == 3 and links[0] == "other_00000000_00002000.html" and links[1] == f"{KEPT}.html"
    assert all((tmp_path / "pages" / link).is_file() for link in links)
    assert "more clips have no page" in index.read_text()


def test_the_command_says_where_the_page_is_or_what_is_wrong(store: Store, tmp_path: Path, capsys) -> None:
    listen(str(store.root), KEPT, None, False, 60)
    assert capsys.readouterr().out.splitlines() == [f"{KEPT}: kept", str(Path(store.root) / "listen" / f"{KEPT}.html")]
    with pytest.raises(UsageError, match="expected the id of a clip, or --all"):
        listen(str(store.root), None, None, False, 60)
    with pytest.raises(UsageError, match="no clip, segment or source"):
        listen(str(store.root), "../../etc/passwd", None, False, 60)
    (tmp_path / "file").write_text("")
    with pytest.raises(DyconvError, match="cannot write"):
        write_page(find(store, KEPT), tmp_path / "file" / "page.html")


def test_the_player_is_the_file_that_was_vendored(store: Store, tmp_path: Path, monkeypatch) -> None:
    known = json.loads((VENDOR / "vendor.json").read_text())
    assert known["licence"] == "BSD-3-Clause" and set(known["files"]) == set(vendor.MEMBERS)
    for name, digest in known["files"].items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    copy = tmp_path / "vendor"
    shutil.copytree(VENDOR, copy)
    monkeypatch.setattr(page, "VENDOR", copy)
    (copy / "wavesurfer.min.js").write_text("fetch('//evil.example')")
    with pytest.raises(DyconvError, match=r"pipelines\.vendor"):
        render(find(store, KEPT))
    (copy / "wavesurfer.min.js").unlink()
    with pytest.raises(DyconvError, match="lacks files"):
        render(find(store, KEPT))


def test_only_the_pinned_tarball_is_unpacked() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for member in list(vendor.MEMBERS.values()):
            info = tarfile.TarInfo(member)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    tarball = packed.getvalue()
    right = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    assert vendor.unpacked(tarball, right) == dict.fromkeys(vendor.MEMBERS, b"x")
    with pytest.raises(DyconvError, match="expected sha512-other"):
        vendor.unpacked(tarball, "sha512-other")


# --- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync "
    "--autoplay-policy=no-user-gesture-required --remote-debugging-port=0 --window-size=1240,1200"
)


@contextmanager
def browser(folder: Path) -> Iterator[Path]:
    """A headless Chromium; yields the file in which it says its port."""
    assert CHROMIUM
    process = subprocess.Popen(
        [CHROMIUM, *_QUIET.split(), f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        yield folder / "DevToolsActivePort"
    finally:
        process.terminate()
        process.wait(30)


class Tab:
    """One page of the browser, driven through its debugging protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.number, self.said = socket, 0, list[str]()

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": params})
        while True:
            answer = json.loads((await self.socket.receive()).data)
            if answer.get("id") == self.number:
                return answer.get("result", {})
            if answer.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.said.append(json.dumps(answer["params"]))

    async def ask(self, expression: str) -> Any:
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        return answer.get("result", {}).get("value")

    async def until(self, expression: str) -> None:
        for _ in range(600):
            if await self.ask(expression):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"never came true: {expression}")

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    async def click(self, selector: str, share: float) -> None:
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        x, y = await self.ask(f"(box => [box.left + box.width * {share}, box.top + 9])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


async def played(url: str, port_file: Path) -> None:
    import aiohttp

    while not (port_file.is_file() and "\n" in port_file.read_text()):
        await asyncio.sleep(0.1)
    port = port_file.read_text().split()[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json") as answer:
            address = next(tab["webSocketDebuggerUrl"] for tab in await answer.json() if tab["type"] == "page")
        tab = Tab(await session.ws_connect(address, max_msg_size=0))
        for domain in ("Runtime", "Log", "Page"):
            await tab.send(f"{domain}.enable")
        await tab.send("Page.navigate", url=url)
        await tab.until("document.documentElement.dataset.ready === 'yes'")
        gains = "[...dyconvListen.tracks.values()].map(t => Math.round(t.gain.gain.value))"
        assert await tab.ask("document.querySelectorAll('[data-row]').length") == 3
        await tab.press(" ")
        await tab.until("dyconvListen.now() > 0.2")
        assert await tab.ask("document.getElementById('video').paused") is False
        assert await tab.ask(gains) == [1, 0, 0]
        await tab.press("2")
        await tab.until(f"{gains}.join() === '0,0,1'")
        await tab.press("m")
        await tab.until(f"{gains}.join() === '1,0,0'")
        await tab.click("[data-do=mute][data-track=mix]", 0.5)
        await tab.until(f"{gains}.join() === '0,0,0'")
        await tab.until("document.getElementById('play').textContent === 'Play'")  # it has come to its end
        await tab.click("#wave-p0", 0.25)
        await tab.until("Math.abs(dyconvListen.now() - 0.5) < 0.05")
        await tab.until("Math.abs(document.getElementById('video').currentTime - 0.5) < 0.1")
        assert await tab.ask("document.querySelectorAll('tr.now').length") == 1
        assert await tab.ask("document.getElementById('error').hidden") is True
        assert tab.said == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_page_plays_solos_and_seeks_in_a_browser(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    target = write_page(with_voices(store, tmp_path), tmp_path / "page.html")
    with browser(tmp_path / "profile") as port_file:
        asyncio.run(asyncio.wait_for(played(target.as_uri(), port_file), 150))
