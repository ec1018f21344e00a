"""Logs: every record knows its clip and stage, no secret gets into one, and they are read back as they were written."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.errors import UsageError
from dyconv.logs import LogOptions, bind, bound
from dyconv.logs.native import last_words, level_of, lines_of
from dyconv.logs.read import Wanted, follow_logs, read_logs
from dyconv.logs.redact import redact
from dyconv.logs.setup import Logging, as_text
from dyconv.store import Store

LOG = logging.getLogger("dyconv.test")


def records(out: Path) -> list[dict[str, object]]:
    return list(read_logs(Store(out)))


def test_a_record_says_where_it_is_of(tmp_path: Path) -> None:
    with Logging(Store(tmp_path), "r1", "w1"), bind(source="s", stage="people"):
        with bind(clip="s_0"):
            LOG.info("found %d", 2)
        LOG.warning("of the source")
    first, second = records(tmp_path)
    assert {name: first[name] for name in ("run", "worker", "source", "clip", "stage", "level", "message", "logger")} == {
        "run": "r1",
        "worker": "w1",
        "source": "s",
        "clip": "s_0",
        "stage": "people",
        "level": "info",
        "message": "found 2",
        "logger": "dyconv.test",
    }
    assert first["pid"] == os.getpid() and first["host"]
    assert time.strptime(str(first["time"]), "%Y-%m-%dT%H:%M:%S.%fZ") and str(first["time"])[-5] == "."
    assert second["stage"] == "people" and "clip" not in second
    assert bound() == {}


def test_exceptions_are_fields(tmp_path: Path) -> None:
    with Logging(Store(tmp_path), "r", "w"):
        try:
            raise ValueError("http://me:pw123456@host/x")
        except ValueError:
            LOG.exception("went wrong")
    (record,) = records(tmp_path)
    exception = record["exception"]
    assert isinstance(exception, dict) and exception["type"] == "ValueError"
    assert exception["message"] == "http://***@host/x" and "test_logs.py" in exception["traceback"]
    assert "pw123456" not in (tmp_path / "logs" / "r" / "w.jsonl").read_text()


def test_threads_that_a_stage_starts_and_python_warnings_carry_it_too(tmp_path: Path) -> None:
    with Logging(Store(tmp_path), "r", "w"), bind(clip="c", stage="crop"):
        thread = threading.Thread(target=LOG.info, args=("from a thread",))
        thread.start()
        thread.join()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old way", UserWarning, stacklevel=1)
    found = records(tmp_path)
    assert [(item["clip"], item["stage"]) for item in found] == [("c", "crop")] * 2
    assert "old way" in str(found[1]["message"]) and found[1]["logger"] == "py.warnings"


NATIVE = """
import ctypes, os, sys
from dyconv.logs import LogOptions, bind
from dyconv.logs.setup import Logging
from dyconv.store import Store
libc = ctypes.CDLL(None)
log = Logging(Store(sys.argv[1]), "r", "w", LogOptions("json", "warning"), native=True)
with bind(clip="c1", stage="tracks"):
    libc.dprintf(2, b"W0000 00:00:1700000000.123456 7 face.cc:31] odd tensor\\n[h264 @ 0x55] error while decoding MB 3\\n")
with bind(clip="c2", stage="crop"):
    libc.dprintf(2, b"10%\\r50%\\r100%\\n")
    os.write(2, b"x" * 3_000_000 + b"\\n")  # far more than a pipe holds
    if sys.argv[2] == "die":
        libc.dprintf(2, b"terminate called: last words\\n")
        os.kill(os.getpid(), 9)
print("out", flush=True)
"""


def native(out: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", NATIVE, str(out), how], capture_output=True, text=True, timeout=60)


def test_native_code_is_heard_with_its_clip_and_stage(tmp_path: Path) -> None:
    done = native(tmp_path, "live")
    assert done.returncode == 0 and done.stdout == "out\n"
    found = [(item["clip"], item["stage"], item["level"], str(item["message"])[-20:]) for item in records(tmp_path)]
    assert found[:3] == [
        ("c1", "tracks", "warning", "face.cc:31] odd tensor"[-20:]),
        ("c1", "tracks", "warning", "[h264 @ 0x55] error while decoding MB 3"[-20:]),
        ("c2", "crop", "info", "x" * 20),
    ]
    assert any("bytes before" in item[3] or "before them" in item[3] for item in found[3:]), found
    shown = [json.loads(line) for line in done.stderr.splitlines()]
    assert [item["level"] for item in shown] == ["warning"] * 2, "stderr has what is bad, as JSON and nothing else"
    assert not (tmp_path / "logs" / "r" / "w.stderr").exists()


def test_the_last_words_of_a_dead_worker_are_kept(tmp_path: Path) -> None:
    assert native(tmp_path, "die").returncode == -9
    words = tmp_path / "logs" / "r" / "w.stderr"
    assert last_words(words)[-1] == "terminate called: last words"
    assert not words.exists() and last_words(words) == []


def test_lines_of_native_output() -> None:
    assert lines_of(b"a\r\n\n 10%\r 20%\r\nb\xff") == ["a", "20%", "b\ufffd"]
    assert level_of("I0000 00:00:17.1 x.cc:1] failed to find, fine") == logging.INFO
    assert level_of("E20261121 10:11:12.13 x.cc:1] no") == logging.ERROR
    assert level_of("Segmentation fault: core") == logging.INFO
    assert level_of("Invalid data found") == logging.WARNING


SECRETS = [
    "https://me:hunter22@host/a",
    "https://hunter22@host/a",
    "s3://AKIAIOSFODNN7EXAMPLE:hunter22@bucket/a",
    "https://h/v.mp4?itag=18&sig=hunter22&x=1",
    "https://h/v.mp4?X-Amz-Credential=hunter22&X-Amz-Date=2026&X-Amz-Signature=hunter22",
    "https://h/v.mp4?Expires=1&Signature=hunter22&Key-Pair-Id=hunter22",
    "https://acc.blob.core.windows.net/c/v?sv=2022&se=2026&sig=hunter22%3D",
    "https://h/v?access_token=hunter22",
    "https://h/v?api_key=hunter22#t=1",
    "Authorization: Bearer hunter22hunter22",
    "{'Authorization': 'Basic hunter22hunter22=='}",
    "Cookie: session=hunter22; other=hunter22",
    "headers {'Set-Cookie': 'SID=hunter22; Path=/'}",
    "password=hunter22 next",
    'config {"client_secret": "hunter22", "a": 1}',
    "aws_secret_access_key = hunter22",
    "HF_TOKEN=hunter22",
    "token hf_hunter22hunter22 was refused",
    "ghp_hunter22hunter22hunter22",
    "eyJhbunter22AAAA.eyJhunter22AAAA.hunter22",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_secret_is_written(tmp_path: Path, text: str) -> None:
    assert "unter22" not in redact(text), redact(text)
    with Logging(Store(tmp_path), "r", "w"), bind(source=text):
        LOG.error("%s", text)
        LOG.error("with fields", extra={"fields": {"detail": text}})
    assert "unter22" not in (tmp_path / "logs" / "r" / "w.jsonl").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "https://h/watch?v=dQw4w9WgXcQ&t=10 is gone",
        "expected 3 tokens: found 2",
        "mail me@example.org about https://h/a",
        "key frame at 3.2 s; stage people: sync_confidence=0.7",
        "12:30:45 keyboard=qwerty",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=300))
def test_taking_secrets_out_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_secrets_of_the_environment_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "plain-looking-value")
    monkeypatch.setenv("COOKIE_TOKEN_FILE", "/home/me/cookies.txt")
    with Logging(Store(tmp_path), "r", "w"):
        LOG.info("started with plain-looking-value and /home/me/cookies.txt")
    assert records(tmp_path)[0]["message"] == "started with *** and /home/me/cookies.txt"


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyconv.logs.setup._FILE_BYTES", 4000)
    with Logging(Store(tmp_path), "r", "w"):
        for number in range(200):
            LOG.info("number %03d", number)
    files = list((tmp_path / "logs" / "r").iterdir())
    assert len(files) == 3 and all(file.stat().st_size <= 4000 for file in files)
    told = [str(item["message"]) for item in records(tmp_path)]
    assert told[-1] == "number 199" and told == sorted(told) and len(told) > 20


def test_workers_are_read_as_one_and_asked_for_by_clip_stage_and_level(tmp_path: Path) -> None:
    for worker in ("w1", "w2"):
        with Logging(Store(tmp_path), "r", worker), bind(source="s"):
            with bind(clip=f"c-{worker}", stage="crop"):
                LOG.info("a")
                LOG.error("b")
            with bind(clip="c", stage="clips"):
                LOG.info("c")
    with (tmp_path / "logs" / "r" / "w2.jsonl").open("a") as file:
        file.write('[1]\n{"time": 3}\n{"time": "2026-')  # torn by a kill

    def said(**wanted: str) -> list[str]:
        return [f"{item['worker']}{item['message']}" for item in read_logs(Store(tmp_path), Wanted(**wanted))]

    assert said() == ["w1a", "w1b", "w1c", "w2a", "w2b", "w2c"]
    assert said(clip="c") == ["w1c", "w2c"] and said(clip="s") == said()
    assert said(stage="crop", level="error") == ["w1b", "w2b"]
    assert said(run="other") == []
    with pytest.raises(UsageError, match="loud"):
        Wanted(level="loud")
    with pytest.raises(UsageError, match="no logs/"):
        list(read_logs(Store(tmp_path / "none")))
    with pytest.raises(UsageError, match="xml"):
        LogOptions(format="xml")


def test_following_shows_what_comes_and_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyconv.logs.setup._FILE_BYTES", 3000)
    monkeypatch.setattr("dyconv.logs.read._POLL_S", 0.02)
    with Logging(Store(tmp_path), "r", "w") as before:
        LOG.info("before")
        ended = threading.Event()
        found: list[str] = []
        started = threading.Event()

        def over() -> bool:
            started.set()
            return ended.is_set()

        def watch() -> None:
            found.extend(str(item["message"]) for item in follow_logs(Store(tmp_path), ended=over))

        thread = threading.Thread(target=watch)
        thread.start()
        assert started.wait(10)
        for number in range(30):  # rotates on the way
            LOG.info("%02d", number)
            time.sleep(0.01)
        before.close()
        ended.set()
        thread.join(10)
    assert found == [f"{number:02d}" for number in range(30)]


def test_text_for_a_person_cannot_steer_the_terminal() -> None:
    record = {
        "time": "2026-11-21T10:11:12.345Z",
        "level": "error",
        "stage": "crop",
        "clip": "c",
        "message": "\x1b[2Jx\nERROR y",
    }
    assert as_text(record) == "10:11:12.345 ERROR crop c: ?[2Jx\n  ERROR y"


def test_a_folder_that_cannot_be_written_costs_the_file_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("in the way")
    with Logging(Store(tmp_path), "r", "w"):
        LOG.error("still told")
    assert "still told" in capfd.readouterr().err


LOUD = """
import ctypes, logging, os, warnings
from dataclasses import dataclass
from tests.fakes import Clip, Drop, Fetch, Files, Iterator, Mark, recipe

@dataclass(frozen=True)
class Loud(Mark):
    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        ctypes.CDLL(None).dprintf(2, b"[aac @ 0x1] Error decoding " + clip.id.encode() + b"\\n")
        logging.getLogger("some.library").info("token=hunter22 for %s", clip.id)
        warnings.warn("odd " + clip.id, UserWarning, stacklevel=1)
        if "ok-2_00004" in clip.id:
            ctypes.CDLL(None).dprintf(2, b"double free or corruption\\n")
        yield from super().process(clip, files)

RECIPE = recipe(mark=Loud(lethal="ok-2_00004", raises="ok-1_00008"))
"""


def test_a_run_in_json_says_everything_with_clip_and_stage(tmp_path: Path) -> None:
    from tests.fakes import write_manifest

    (tmp_path / "loud.py").write_text(LOUD)
    manifest, out = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2"]), tmp_path / "out"
    argv = ["run", str(tmp_path / "loud.py"), "--manifest", str(manifest), "--out", str(out)]
    argv += ["--backend", "local", "--log-format", "json", "--log-level", "info"]
    done = subprocess.run([sys.executable, "-m", "dyconv.cli", *argv], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3
    shown = [json.loads(line) for line in done.stderr.splitlines()]  # nothing but records
    assert all(len({"time", "level", "message", "run", "worker"} & item.keys()) == 5 for item in shown)
    found = records(out)
    assert {(item["time"], item["message"]) for item in shown} <= {(item["time"], item["message"]) for item in found}
    assert "hunter22" not in done.stderr and not any("hunter22" in file.read_text() for file in out.glob("logs/*/*"))

    pieces = {str(item["clip"]) for item in found if item.get("stage") == "mark" and item["worker"] != "driver"}
    assert len(pieces) == 6, "every clip's worker was heard"
    for clip in pieces - {"ok-2_00004000_00008000"}:
        told = [item for item in found if item.get("clip") == clip and item["worker"] != "driver"]
        assert {str(item["logger"]) for item in told} >= {"native", "some.library", "py.warnings"}
        assert all(item["stage"] == "mark" and item["source"] == clip[:4] for item in told), told
        (native_line,) = (item for item in told if item["logger"] == "native")
        assert native_line["message"] == f"[aac @ 0x1] Error decoding {clip}" and native_line["level"] == "warning"

    driver = [item for item in found if item["worker"] == "driver"]
    first, last = driver[0], driver[-1]
    assert first["message"] == "run started" and first["recipe"] == "fake" and first["nodes"] and first["manifest_sha256"]
    assert (last["message"], last["failed"], last["kept"]) == ("run finished", 2, 4)
    deaths = [item for item in driver if item.get("kind") == "died"]
    assert len(deaths) == 3
    assert all(item["stage"] == "mark" and item["clip"] == "ok-2_00004000_00008000" for item in deaths)
    assert all("double free or corruption" in item["stderr"] and "fakes.py" in str(item["stack"]) for item in deaths)
    assert {str(item["reason"]) for item in driver if "reason" in item} == {"ValueError", "WorkerDied"}
    assert not list(out.glob("logs/*/*.stderr"))


def test_how_a_run_ended_and_why(tmp_path: Path) -> None:
    from dyconv.errors import TooManyFailures
    from dyconv.runner import RunOptions, run
    from tests.fakes import recipe, write_manifest

    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    manifest = write_manifest(tmp_path / "m.csv", [f"broken-{number}" for number in range(25)])
    with pytest.raises(TooManyFailures):
        run(recipe(), manifest, str(tmp_path / "out"), RunOptions(workers=0))
    last = records(tmp_path / "out")[-1]
    assert last["level"] == "error" and str(last["message"]).startswith("run failed: TooManyFailures: 20 of 20 clips failed")
    assert (logging.getLogger().level, logging.getLogger().handlers) == before, "what was there is put back"


def test_old_runs_logs_go(tmp_path: Path) -> None:
    from dyconv.logs.setup import sweep_logs

    for number in range(5):
        folder = tmp_path / "logs" / f"r{number}"
        folder.mkdir(parents=True)
        (folder / "w.stderr").touch()
        os.utime(folder, (number, number))
    sweep_logs(Store(tmp_path), keep=2)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["r3", "r4"]
    assert not list(tmp_path.glob("logs/*/*.stderr"))
