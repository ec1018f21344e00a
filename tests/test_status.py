"""`dyconv status` and `--watch`: short for a person, whole as JSON, and true of a run that goes on, ends or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from dyconv.errors import UsageError
from dyconv.ledger import Event, LedgerWriter, State, clip_standings, read_ledger, source_standing
from dyconv.live import FILE, LiveFile, read_live
from dyconv.status_watch import Watched, follow, picture, state_of
from dyconv.store import Store
from dyconv.task import Kind, Notice
from tests.fakes import write_manifest
from tests.test_runner import command

ROOT = Path(__file__).resolve().parent.parent
HELD = """
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from dyconv.records import Clip, Drop
from dyconv.stages.base import Files
from tests.fakes import Mark, recipe

@dataclass(frozen=True)
class Held(Mark):
    go: str = ""

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        while not Path(self.go).exists():
            time.sleep(0.05)
        yield from super().process(clip, files)

RECIPE = recipe(mark=Held(go={go!r}, raises="ok-1_00008"))
"""
LEVELS = {"fetch": 0, "cut": 0, "mark": 1, "last": 1}


def large(store: Store, sources: int) -> None:
    """Every tenth source failed, the last few are pending."""
    with LedgerWriter(store) as ledger:
        ledger.add(Event(f"s{number}", f"s{number}", State.PENDING, fp="f") for number in range(sources))
        for number in range(sources - 3):
            name, clip = f"s{number}", f"s{number}_1"
            ledger.add([Event(name, name, State.PASSED, stage="cut", children=(clip,), seconds=0.1234)])
            end = (
                (State.FAILED, f"E{number % 30}", "because [/bold] of\nthis") if number % 10 == 0 else (State.KEPT, None, None)
            )
            ledger.add([Event(name, clip, end[0], 1, "mark", reason=end[1], detail=end[2], seconds=1.0)])


def test_a_large_build_is_told_in_a_few_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    large(Store(tmp_path), 3000)
    assert command("status", str(tmp_path)) == 0
    text = capfd.readouterr().out
    assert len(text.splitlines()) < 60
    assert "sources: 3 pending, 300 failed, 2,697 kept" in text and "clips: 300 failed, 2,697 kept" in text
    first = [line.split()[1] for line in text.splitlines() if line.startswith("│")][:4]
    assert first == ["s2997", "s2998", "s2999", "s0"], "what is not well comes first"
    assert "because [/bold] of this" in text and f"dyconv replay s0_1 mark --out {tmp_path}" in text


def test_more_of_one_state(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    large(Store(tmp_path), 300)
    assert command("status", str(tmp_path), "--state", "failed", "--limit", "25") == 0
    text = capfd.readouterr().out
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert rows == [f"s{10 * number}" for number in range(25)] + [f"s{10 * number}_1" for number in range(25)]
    assert "the first 25 of 30" in text
    assert command("status", str(tmp_path), "--state", "failed", "--limit", "2", "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["id"] for row in found["clips"]] == ["s0_1", "s10_1"] and len(found["sources"]) == 2


def test_json_is_all_of_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    large(Store(tmp_path), 5000)
    logs = read_ledger(Store(tmp_path)).values()
    wanted = {
        "sources": [source_standing(log).to_json() for log in logs],
        "clips": [item.to_json() for log in logs for item in clip_standings(log)],
    }
    assert command("status", str(tmp_path), "--json") == 0
    found = json.loads(capfd.readouterr().out)
    names = list(wanted["sources"][0])
    assert {kind: [{name: row[name] for name in names} for row in rows] for kind, rows in found.items()} == wanted
    assert found["clips"][0]["source"] == "s0" and found["clips"][0]["detail"] == "because [/bold] of\nthis"


@pytest.mark.parametrize(
    "options",
    [
        ("--state", "broken"),
        ("--limit", "0"),
        ("--watch", "--json"),
        ("--watch", "--interval", "0"),
        ("--watch", "--limit", "3"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: tuple[str, ...]) -> None:
    large(Store(tmp_path), 5)
    with pytest.raises(UsageError):
        command("status", str(tmp_path), *options)


def test_a_folder_that_is_no_build(tmp_path: Path) -> None:
    for options in ((), ("--watch",)):
        with pytest.raises(UsageError, match="no output folder"):
            command("status", str(tmp_path), *options)


def start(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A real run of five sources in a process of its own: at work when this returns, and held there until a file `go` is."""
    (tmp_path / "own.py").write_text(HELD.format(go=str(tmp_path / "go")))
    manifest = write_manifest(tmp_path / "m.csv", [f"ok-{number}" for number in range(5)])
    command = [sys.executable, "-m", "dyconv.cli", "run", str(tmp_path / "own.py"), "--manifest", str(manifest)]
    command += ["--out", str(tmp_path / "out"), "--backend", "local", "--no-pack"]
    with (tmp_path / "run.log").open("wb") as log:
        run = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        live = read_live(Store(tmp_path / "out"))
        if live and any(one["stage"] == "mark" for one in live["at_work"]):
            return run
        time.sleep(0.1)
    raise AssertionError((tmp_path / "run.log").read_text())


def end(run: subprocess.Popen[bytes]) -> None:
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def watch(tmp_path: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "dyconv.cli", "status", str(tmp_path / "out"), "--watch", "--interval", "0.3"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_run_is_watched_to_its_end(tmp_path: Path) -> None:
    run = start(tmp_path)
    try:
        watching = watch(tmp_path)
        assert watching.stdout is not None
        first, second = watching.stdout.readline(), watching.stdout.readline()
        assert first.startswith("running for ") and "0 of 5 sources" in first
        assert second.startswith("  sources: 5 (5 pending); at work: mark ok-0_00000000_00004000 for ")
        (tmp_path / "go").touch()
        text, _ = watching.communicate(timeout=120)
        assert watching.returncode == 0, text
        assert run.wait(60) == 3
    finally:
        end(run)
    lines = text.splitlines()
    assert sum(line.startswith("failed ok-1_00008000_00012000 at mark: ValueError") for line in lines) == 1, text
    assert lines[-2].startswith("the last run finished after") and lines[-1] == "  sources: 5 (5 kept)"


def test_a_killed_driver_is_found_gone_and_then_taken_on(tmp_path: Path) -> None:
    run = start(tmp_path)
    try:
        watching = watch(tmp_path)
        assert watching.stdout is not None and watching.stdout.readline()
        run.kill()
        run.wait()
        text, _ = watching.communicate(timeout=120)
    finally:
        end(run)
    assert watching.returncode == 1 and f"the driver (process {run.pid} on " in text and "is gone" in text
    assert "run the same command again" in text
    again = watch(tmp_path)  # also who looks only afterwards is told
    text, _ = again.communicate(timeout=60)
    assert again.returncode == 1 and "is gone" in text


def test_ctrl_c_leaves_the_watching_and_not_the_run(tmp_path: Path) -> None:
    run = start(tmp_path)
    try:
        watching = watch(tmp_path)
        assert watching.stdout is not None and watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        text, _ = watching.communicate(timeout=60)
        assert watching.returncode == 0 and "the run goes on" in text and run.poll() is None
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == 130
    finally:
        end(run)
    after = watch(tmp_path)
    text, _ = after.communicate(timeout=60)
    assert after.returncode == 1 and "the last run was interrupted" in text and "run the same command again" in text


def shown(watched: Watched) -> str:
    console = Console(width=120, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(picture(watched, "OUT"))
    return capture.get()


def test_the_picture_has_everything(tmp_path: Path) -> None:
    store = Store(tmp_path)
    large(store, 40)
    file = LiveFile(store, {"run": "r", "recipe": "fake", "backend": "local", "workers": 2}, LEVELS, 40, 40)
    file.note(Notice(Kind.BEGUN, "host:1", "fetch", "s37", "s37", seconds=600.0))
    file.note(Notice(Kind.HUNG, "host:2", "mark", "s3_1", "s3", detail="no end after 601 s"))
    file.note(Event("s5", "s5", State.FAILED, stage="fetch", reason="Odd", detail="[bold]oh[/]"))
    file.tick(time.monotonic() + 10)
    watched = Watched(store)
    watched.look()
    text = shown(watched)
    for part in (
        *(
            "running for",
            "1 of 40 sources, 2.5%",
            "left",
            "last result 10 s ago",
            "sources: 40 (3 pending, 4 failed, 33 kept)",
            "clips: 37",
        ),
        *(
            "fetch s37 for",
            "of at most 10 min",
            "host:1",
            "failed s5 at fetch: Odd: [bold]oh[/]",
            "hung host:2 at mark on s3_1",
        ),
        *("waiting", "clips/min", "media h/h", "│ mark "),
    ):
        assert part in text, f"{part!r} is not in\n{text}"
    file.close("failed")
    watched.look()
    assert "the last run failed" in shown(watched) and "dyconv logs OUT" in shown(watched)


def test_a_driver_elsewhere_is_judged_by_its_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    file = LiveFile(store, {"run": "r"}, LEVELS, 1, 1)
    file._driver["place"] = "another machine"
    file.tick(time.monotonic() + 10)
    watched = Watched(store)
    watched.look()
    assert watched.state == "running" and watched.silent < 5
    at = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: at + 100)
    watched.look()
    assert watched.state == "silent" and "has not been heard for 2 min" in shown(watched)
    file.tick(at + 101)
    watched.look()
    assert watched.state == "running" and watched.silent == 0


def test_a_driver_that_is_gone_with_nothing_left_to_do(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with LedgerWriter(store) as ledger:
        ledger.add([Event("s", "s", State.PENDING), Event("s", "s", State.DROPPED, stage="fetch", reason="X")])
    file = LiveFile(store, {"run": "r"}, LEVELS, 1, 1)
    file._driver["began"] -= 1
    file.tick(time.monotonic() + 10)
    watched = Watched(store)
    watched.look()
    text = " ".join(shown(watched).split())
    assert watched.state == "gone" and "nothing is pending" in text and "if it was to pack" in text


def test_ages_are_never_negative_whatever_the_clocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    LiveFile(store, {"run": "r"}, LEVELS, 1, 1)
    now = time.time()
    for shift in (-86_400, 86_400):
        monkeypatch.setattr(time, "time", lambda shift=shift: now + shift)
        watched = Watched(store)
        watched.look()
        assert watched.silent >= 0 and "-" not in shown(watched).splitlines()[0]
    live = read_live(store)
    assert live is not None and state_of(live, 1e9) == "silent"  # on this machine, and the process is there: it hangs


def test_a_remote_run_is_followed_by_what_is_new() -> None:
    store = Store("memory://status-test")
    try:
        large(store, 30)
        watched = Watched(store)
        watched.look()
        assert watched.counts["sources"] == {"pending": 3, "failed": 3, "kept": 24} and watched.state == "never"
        for name in store.list("ledger"):
            store.write_bytes(f"ledger/{name}", b"damaged, but read already\n")
        with LedgerWriter(store) as ledger:
            ledger.add([Event("s29", "s29", State.DROPPED, stage="fetch", reason="X")])
        LiveFile(store, {"run": "r"}, LEVELS, 1, 1).close("finished")
        watched.look(all_of_it=True)
        assert watched.counts["sources"]["dropped"] == 1 and watched.state == "finished"
        assert follow(Store("memory://status-test-2"), "OUT", Console(quiet=True), 0.1) == 1
    finally:
        store.remove("ledger")
        store.remove(FILE)
