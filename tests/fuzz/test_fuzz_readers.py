"""Every reader against seeded mutations of valid files, in processes of their own with bounded memory.

`python -m tests.fuzz.run` looks further, by coverage; what it finds gets a test in `test_fuzz_bombs.py` or more seeds here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.guard import Forbidden
from tests.fuzz.mutate import STRUCTURAL, mutated
from tests.fuzz.seeded import tried
from tests.fuzz.target import Target
from tests.fuzz.targets import GROUPS, TARGETS

ROOT = Path(__file__).resolve().parents[2]
_NOTES = ("done", "failed")  # of work folders
_LIMIT_S = 280  # for a machine that is busy; alone it takes some seconds


@pytest.mark.parametrize("group", GROUPS)
def test_no_damaged_file_brings_a_reader_down(group: str, tmp_path: Path) -> None:
    found = seeded([target.name for target in GROUPS[group] if target.name not in _NOTES], tmp_path)
    problems = [f"{name}, seed {one['seed']}: {one['told']}" for name, told in found.items() for one in told["problems"]]
    assert not problems, "\n".join(problems[:20])


def test_damaged_notes_of_work_folders_are_as_good_as_none(tmp_path: Path) -> None:
    found = seeded(_NOTES, tmp_path)
    assert not [one for told in found.values() for one in told["problems"]]


def seeded(names: Sequence[str], folder: Path) -> dict[str, Any]:
    """What `tests.fuzz.seeded` found in each target, in a process of its own; fails where that dies."""
    out = folder / "out.json"
    command = [sys.executable, "-m", "tests.fuzz.seeded", str(out), *names]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    at_work = out.with_suffix(".now")
    assert done.returncode == 0, f"died at {at_work.read_text() if at_work.is_file() else 'its end'}:\n{done.stderr[-3000:]}"
    found = json.loads(out.read_text())
    assert set(found) == set(names)
    assert all(told["runs"] == TARGETS[name].seeds for name, told in found.items())
    return dict(found)


def test_mutations_are_the_same_each_time_and_change_something() -> None:
    data = b'{"id": "a", "span": ["0", "1"], "number": 12}'
    for kind in STRUCTURAL:
        made = [mutated(data, kind, seed) for seed in range(40)]
        assert made == [mutated(data, kind, seed) for seed in range(40)]
        assert sum(one != data for one in made) > 30


def _reads(what: object) -> Target:
    def read(folder: Path, data: bytes) -> object:
        if callable(what):
            return what(folder)
        raise what  # type: ignore[misc]

    return Target("made", "json", lambda _: b"", read)


def test_the_harness_sees_what_it_looks_for(tmp_path: Path) -> None:
    import pickle
    import time

    from dyconv.errors import StoreError

    def spin(_: Path) -> None:
        while True:
            time.sleep(0.01)

    import signal

    from tests.fuzz.seeded import _too_slow

    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        assert tried(_reads(StoreError("a clear error")), tmp_path, b"") is False
        assert tried(_reads(lambda _: 1), tmp_path, b"") is True
        for wrong, told in (
            (ValueError("x"), "ValueError"),
            (StoreError(""), "without a word"),
            (lambda _: pickle.loads(b"cos\nsystem\n."), "pickle.find_class"),  # noqa: S301 - that is what it has to see
            (lambda _: subprocess.run(["true"], check=False), "subprocess.Popen"),
            (lambda _: Path("/etc/passwd").read_text(), "/etc/passwd"),
            (lambda _: (ROOT / "escaped").write_text("x"), "escaped"),
        ):
            found = tried(_reads(wrong), tmp_path, b"")
            assert isinstance(found, str) and told in found, found
        assert "TooSlow" in str(tried(_reads(spin), tmp_path, b"", seconds=0.3))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not (ROOT / "escaped").exists() and not issubclass(Forbidden, Exception)
