"""The audit app in a browser: clips reviewed by keyboard, turns fixed by mouse, everything found again after a reload."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dyconv.audit.decisions import Kind, decide
from dyconv.audit.overlay import Overlay
from dyconv.records import Key
from dyconv.store import Store
from tests.audit_builds import packed
from tests.test_listen import CHROMIUM, Tab, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
CODES = {"Delete": 46, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36}


def clip(number: int) -> str:
    return f"clip{number:04d}_00000000_00002000"


@contextmanager
def served(store: Store, overlay: Path, *options: str) -> Iterator[str]:
    """`dyconv audit OUT` in a process of its own; yields the address it shows."""
    command = [sys.executable, "-m", "dyconv.cli", "audit", store.root, "--overlay", str(overlay), "--port", "0", *options]
    env = {**os.environ, "DYCONV_CACHE": str(overlay.parent / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout
        told = ""
        while "open http" not in told:
            line = process.stdout.readline()
            assert line, f"the server ended: {told}"
            told += line
        found = re.search(r"http://\S+", told)
        assert found
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


class Page(Tab):
    """The app in one tab."""

    async def press(self, key: str) -> None:
        shift = 8 if len(key) == 1 and key.isupper() else 0
        named = {"windowsVirtualKeyCode": CODES[key]} if key in CODES else {"text": key}
        for kind in ("keyDown", "keyUp"):
            told = {name: value for name, value in named.items() if name != "text" or kind == "keyDown"}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, modifiers=shift, **told)

    async def mouse(self, kind: str, x: float, y: float) -> None:
        held = kind != "Moved" or self.held
        button = {"button": "left", "buttons": 1, "clickCount": 1} if held else {}
        await self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)

    held = False

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        await self.mouse("Moved", *start)
        await self.mouse("Pressed", *start)
        self.held = True
        for step in range(1, 11):
            await self.mouse("Moved", *(a + (b - a) * step / 10 for a, b in zip(start, end, strict=True)))
        self.held = False
        await self.mouse("Released", *end)

    async def row(self, name: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of a track's waveform."""
        box = f"document.querySelector('[data-row={name}] .wave').getBoundingClientRect()"
        return tuple(await self.ask(f"(b => [b.left, b.top, b.width, b.height])({box})"))

    async def at(self, name: str, time: float) -> tuple[float, float]:
        """Where a time (of 2 s) lies on a track."""
        left, top, width, height = await self.row(name)
        return left + width * time / 2, top + height * 0.6

    async def shown(self, wanted: str) -> None:
        await self.until(f"document.documentElement.dataset.heard === '{wanted}'")

    async def written(self, overlay: Path, count: int) -> None:
        for _ in range(100):
            if len(Overlay(overlay).all()) == count:
                return
            await asyncio.sleep(0.05)
        kinds = [(d.kind, dict(d.data)) for d in Overlay(overlay).all()]
        raise AssertionError(f"expected {count} decisions, found {len(kinds)}: {kinds}")


def driven(url: str, folder: Path, act: Callable[[Page], Awaitable[None]]) -> None:
    """Open the app in a fresh browser and do something in it; nothing may be said on its console."""
    aiohttp = pytest.importorskip("aiohttp")

    async def run(port_file: Path) -> None:
        while not (port_file.is_file() and "\n" in port_file.read_text()):
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                address = next(tab["webSocketDebuggerUrl"] for tab in await answer.json() if tab["type"] == "page")
            page = Page(await session.ws_connect(address, max_msg_size=0))
            for domain in ("Runtime", "Log", "Page"):
                await page.send(f"{domain}.enable")
            size = {"width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": False}
            await page.send("Emulation.setDeviceMetricsOverride", **size)
            await page.send("Page.navigate", url=url)
            await page.until("document.documentElement.dataset.heard")
            await act(page)
            assert page.said == []

    with browser(folder / "profile") as port_file:
        asyncio.run(asyncio.wait_for(run(port_file), 200))


@pytest.mark.slow
def test_ten_clips_by_keyboard_a_turn_by_mouse_undo_and_reload(tmp_path: Path) -> None:
    store, overlay = packed(tmp_path, 10), tmp_path / "one.sqlite"

    async def by_keyboard(page: Page) -> None:
        plans = ["a", "rb", "ba", "xa", ".ppa", "cirs", "D1", "Xa", "mya", "a"]
        done = 0
        for number, plan in enumerate(plans):
            await page.shown(clip(number))
            for key in plan:
                await page.press(key)
                if key in "rDm":
                    await page.until("document.querySelector('dialog[open]') !== null")
                elif key not in ".p":
                    done += 1 if key != "a" or "p" not in plan else 2  # keys that move an edge are written as one
                    await page.written(overlay, done)
        verdicts = Overlay(overlay).verdicts()
        states = [str(verdicts[clip(number)].state) for number in range(10)]
        assert states == ["accepted", "rejected", *["accepted"] * 3, "rejected", "taken_down", *["accepted"] * 3]
        assert (verdicts[clip(1)].reason, verdicts[clip(5)].reason) == ("bleed", "speaker")
        assert (verdicts[clip(3)].swapped, verdicts[clip(7)].swapped) == ("people", "voices")
        assert [str(mark.what) for mark in verdicts[clip(5)].marks] == ["cut", "identity"]
        turns = verdicts[clip(4)].turns
        assert turns and float(turns[0].span.end) == 0.88, "two presses are 80 ms"

    async def by_mouse(page: Page) -> None:
        count = len(Overlay(overlay).all())
        await page.press("f")
        await page.press("f")  # all of them
        await page.click(f'[data-id="{clip(0)}"]', 0.5)
        await page.shown(clip(0))
        await page.drag(await page.at("p0", 0.798), await page.at("p0", 0.6))  # the edge of p0's turn
        await page.written(overlay, count + 1)
        assert spans(overlay, clip(0))[0] == ("p0", 0.0, pytest.approx(0.6, abs=0.011))
        await page.drag(await page.at("p0", 1.2), await page.at("p0", 1.7))  # a new turn
        await page.written(overlay, count + 2)
        assert ("p0", pytest.approx(1.2, abs=0.02), pytest.approx(1.7, abs=0.02)) in spans(overlay, clip(0))
        await page.drag(await page.at("p1", 1.4), await page.at("mix", 1.4))  # p1's turn is nobody's
        await page.written(overlay, count + 3)
        assert [person for person, _, _ in spans(overlay, clip(0))] == ["p0", None, "p0", None]
        await page.press("u")
        await page.written(overlay, count + 4)
        assert [person for person, _, _ in spans(overlay, clip(0))] == ["p0", "p1", "p0", None]
        await page.until("dyconvAudit.state.turns.map((turn) => turn.person).join() === 'p0,p1,p0,'")

    async def found_again(page: Page) -> None:
        before = await page.ask(SHOWN)
        await page.send("Page.reload")
        await page.until("document.documentElement.dataset.heard")
        await page.until("document.documentElement.dataset.ready === 'yes'")
        assert await page.ask(SHOWN) == before, "the clip, its turns and its decisions"
        assert await page.ask("document.getElementById('progress').firstChild.style.width") == "100%"
        assert await page.ask("document.title") == "out · dyconv audit", "no markup of a title ran"

    async def with_others(page: Page) -> None:
        library_clip = next(d for d in Overlay(overlay).all() if d.clip == clip(0))
        other = decide(_record(store, clip(0)), "bob", Kind.REJECT, {"reason": "noise"})
        assert other.base == library_clip.base
        Overlay(overlay).add(other)
        await page.until("document.querySelector('#standing .state').textContent === 'rejected'")
        assert "bob" in await page.ask("document.getElementById('standing').textContent")

    async def all_of_it(page: Page) -> None:
        for part in (by_keyboard, by_mouse, found_again, with_others):
            await part(page)

    with served(store, overlay, "--reviewer", "ada") as url:
        driven(url, tmp_path, all_of_it)


SHOWN = """JSON.stringify([
  dyconvAudit.state.detail.id, dyconvAudit.state.detail.decisions.length,
  dyconvAudit.state.turns.map((turn) => [turn.person, turn.start_s, turn.end_s]),
  [...dyconvAudit.queue.rows.values()].map((row) => [row.id, row.state, row.reason, row.swapped, row.fixed, row.marks]),
])"""


def _record(store: Store, wanted: str) -> Any:
    from dyconv.audit.library import Library

    return Library(store, Path(store.root).parent / "cache").clips[wanted]


def spans(overlay: Path, wanted: str) -> list[tuple[str | None, float, float]]:
    turns = Overlay(overlay).verdict(wanted).turns
    assert turns is not None
    return [(turn.person, float(turn.span.start), float(turn.span.end)) for turn in turns]


def test_everything_plays_together_and_turns_are_cut_and_joined_by_keys(tmp_path: Path) -> None:
    store, overlay = packed(tmp_path, 2), tmp_path / "one.sqlite"
    gains = "[...dyconvAudit.player.tracks.values()].map(t => Math.round(t.gain.gain.value)).join()"

    async def act(page: Page) -> None:
        await page.press(" ")
        await page.until("dyconvAudit.player.now() > 0.3")
        videos = "[...document.querySelectorAll('video')]"
        assert await page.ask(f"{videos}.every((video) => !video.paused)") is True
        assert await page.ask(f"Math.max(...{videos}.map((v) => Math.abs(v.currentTime - dyconvAudit.player.now())))") < 0.35
        assert await page.ask(gains) == "1,0,0"
        await page.press("2")
        await page.until(f"{gains} === '0,0,1'")
        await page.press("4")
        await page.until(f"{gains} === '1,0,0'")
        await page.until("!dyconvAudit.player.playing")  # it has come to its end
        for key in ("Home", "."):  # p0's turn, 0 to 0.8
            await page.press(key)
        for _ in range(10):  # ten frames
            await page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", modifiers=8, windowsVirtualKeyCode=39)
        await page.until("Math.abs(dyconvAudit.player.now() - 0.4) < 1e-6")
        await page.press("s")
        await page.written(overlay, 1)
        assert spans(overlay, clip(0))[:2] == [("p0", 0.0, 0.4), ("p0", 0.4, 0.8)]
        await page.press(",")
        await page.press("g")
        await page.written(overlay, 2)
        assert spans(overlay, clip(0))[0] == ("p0", 0.0, 0.8)
        await page.press("v")
        await page.written(overlay, 3)
        assert spans(overlay, clip(0))[0] == ("p1", 0.0, 0.8)
        await page.press("Delete")
        await page.written(overlay, 4)
        assert len(spans(overlay, clip(0))) == 2
        await page.press("?")
        await page.until("document.querySelector('dialog[open]').textContent.includes('previous clip')")
        await page.press("a")  # closes the help, and nothing else
        await page.until("!document.querySelector('dialog[open]')")
        assert len(Overlay(overlay).all()) == 4
        await page.press("y")  # the next clip plays by itself
        await page.press("j")
        await page.shown(clip(1))
        await page.until("dyconvAudit.player.playing && dyconvAudit.player.now() > 0.1")

    with served(store, overlay, "--reviewer", "ada") as url:
        driven(url, tmp_path, act)


def test_without_the_token_a_page_is_read_only_and_a_name_is_asked_for(tmp_path: Path) -> None:
    store, overlay = packed(tmp_path, 2), tmp_path / "one.sqlite"

    async def read_only(page: Page) -> None:
        assert "Read only" in await page.ask("document.getElementById('banner').textContent")
        await page.press("a")
        await page.until("document.getElementById('toast').textContent.includes('read only')")

    async def asked(page: Page) -> None:
        await page.send("Page.navigate", url=full)
        await page.until("document.querySelector('dialog[open] input') !== null")
        for letter in "Zoë":
            await page.press(letter)
        await page.press("Enter")
        await page.shown(clip(0))
        assert await page.ask("location.href.includes('token')") is False, "it does not lie about in the address bar"
        await page.press("a")
        await page.written(overlay, 1)

    async def both(page: Page) -> None:
        await read_only(page)
        await page.send("Page.navigate", url="about:blank")  # or only what is behind # would change
        await asked(page)

    with served(store, overlay) as full:
        driven(full.split("#")[0], tmp_path, both)
    assert [d.reviewer for d in Overlay(overlay).all()] == ["Zoë"]


@pytest.mark.slow
def test_a_queue_of_two_thousand_clips_stays_quick(tmp_path: Path) -> None:
    store, overlay = packed(tmp_path, 2000, (Key.SPEECH,)), tmp_path / "one.sqlite"

    async def act(page: Page) -> None:
        told = json.loads(await page.ask(MEASURED))
        sys.stdout.write(f"2,000 clips: {told}\n")
        assert told["rows"] == 2000 and told["drawn"] < 60, "only what is in view is drawn"
        assert told["scroll"] < 33 and told["filter"] < 100 and told["find"] < 100
        for _ in range(3):  # faster than a clip comes: each press is about the next one
            await page.press("a")
        await page.shown(clip(3))
        assert [str(verdict.state) for verdict in Overlay(overlay).verdicts().values()] == ["accepted"] * 3
        assert int(await page.ask("document.documentElement.dataset.drawnMs")) < 1000

    with served(store, overlay, "--reviewer", "ada") as url:
        driven(url, tmp_path, act)


MEASURED = """(async () => {
  const queue = dyconvAudit.queue, list = document.getElementById("list"), search = document.getElementById("search");
  const told = { rows: queue.rows.size, drawn: document.querySelectorAll("#spacer > *").length };
  const mean = (times) => times.reduce((sum, time) => sum + time, 0) / times.length;
  const timed = (act) => {
    const start = performance.now();
    act();
    list.getBoundingClientRect();
    return performance.now() - start;
  };
  const steps = [];
  for (let step = 0; step < 60; step++) {
    steps.push(timed(() => { list.scrollTop = step * 500; queue.draw(); }));
    await new Promise(requestAnimationFrame);
  }
  told.scroll = mean(steps);
  told.filter = timed(() => queue.use("all"));
  told.find = timed(() => { search.value = "clip1234"; queue.list(); });
  search.value = "";
  queue.use("open");
  return JSON.stringify(told);
})()"""
