"""The command in a process of its own, and all that it starts, told from everything else by a mark in the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dyconv

ROOT = Path(dyconv.__file__).resolve().parent.parent
MARK = "DYCONV_TRIAL"


@dataclass(frozen=True)
class Job:
    """A recipe over a manifest.

    Attributes:
        name: of what comes out: jobs of one name give the same bytes.
        recipe: a recipe's name or file.
        sources: ids in the manifest.
        options: further arguments of the command.
        code: exit code of an undisturbed run.
    """

    name: str
    recipe: str
    manifest: Path
    sources: tuple[str, ...]
    options: tuple[str, ...] = ("--backend", "local", "--workers", "1")
    code: int = 0

    def argv(self, out: str, more: Sequence[str] = ()) -> list[str]:
        told = ["run", self.recipe, "--manifest", str(self.manifest), "--out", out, *self.options, *more]
        return [sys.executable, "-m", "dyconv.cli", *told]


def environment(mark: str, scratch: Path, env: dict[str, str] | None = None) -> dict[str, str]:
    """What a started command sees: the mark, a temporary folder of its own, one thread a library."""
    scratch.mkdir(parents=True, exist_ok=True)
    own = {MARK: mark, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_TMPDIR": "/tmp"}
    own["RAY_AUTH_TOKEN"] = "faults"  # Ray would leave one in the user's home
    inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "COLUMNS")}
    return {**inherited, **own, **(env or {})}


@dataclass
class Driver:
    """A started command; what it says goes into a file."""

    process: subprocess.Popen[bytes]
    out: str
    log: Path

    @classmethod
    def start(
        cls,
        job: Job,
        out: str,
        log: Path,
        mark: str,
        more: Sequence[str] = (),
        *,
        env: dict[str, str] | None = None,
        argv: list[str] | None = None,
        **popen: Any,
    ) -> Driver:
        with log.open("wb") as said:
            process = subprocess.Popen(
                argv or job.argv(out, more),
                cwd=ROOT,
                env=environment(mark, log.parent / "tmp", env),
                start_new_session=True,
                preexec_fn=_heed_interrupts,
                **{"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, **popen},
            )
        return cls(process, out, log)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None where it has not ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def done(self) -> int:
        """How many executions are finished in its output folder."""
        return len(list(Path(self.out).glob("work/*/*/*/done.json")))

    def until(self, condition: Callable[[], object], seconds: float = 120.0) -> bool:
        """Wait until it holds; False if the driver ended before or the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            if not self.alive:
                return bool(condition())
            time.sleep(0.01)
        return False

    def workers(self) -> list[int]:
        """Its worker processes."""
        found = descendants(self.process.pid)
        return [pid for pid in found if b"dyconv.child" in _read(pid, "cmdline")]


def _heed_interrupts() -> None:
    """A test run that a shell put into the background hands an ignored SIGINT on to its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def parents() -> dict[int, int]:
    """Each process's parent; zombies left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        fields = _read(int(folder.name), "stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z":
            found[int(folder.name)] = int(fields[1])
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, parents first."""
    up = parents()
    found = [pid]
    for known in found:
        found += [child for child, parent in up.items() if parent == known]
    return found[1:]


def marked(mark: str) -> dict[int, str]:
    """Every living process that carries the mark in its environment, with its command line."""
    wanted = f"{MARK}={mark}\0".encode()
    return {
        pid: _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")[:120]
        for pid in parents()
        if wanted in _read(pid, "environ") + b"\0"
    }


def end_all(mark: str) -> None:
    """Kill whatever a trial left."""
    for _ in range(50):
        left = marked(mark)
        if not left:
            return
        for pid in left:
            kill(pid)
        time.sleep(0.1)


def kill(pid: int, with_signal: int = signal.SIGKILL) -> bool:
    """Whether it was there to be killed."""
    try:
        os.kill(pid, with_signal)
    except ProcessLookupError:
        return False
    return True
