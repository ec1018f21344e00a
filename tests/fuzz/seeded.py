"""Seeded mutations of some targets in a process of their own: `python -m tests.fuzz.seeded OUT.json NAME...`.

The process may take so much more memory than it has once its readers are loaded, and an input so many seconds; a native crash
ends this process and not the tests. What went wrong is told with the seed that does it again.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.guard import Forbidden, guarded
from tests.fuzz.mutate import mutated
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

MEMORY_MB = 1500
SECONDS = 20.0


class TooSlow(BaseException):
    """An input took longer than any honest file of its size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--seeds", type=int, help="how many of each (each target's own number if not given)")
    parser.add_argument("--memory", type=int, default=MEMORY_MB, help="MB above what is in use once the readers are loaded")
    given = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _too_slow)
    found: dict[str, Any] = {}
    for name in given.names or TARGETS:
        target = TARGETS[name]
        with tempfile.TemporaryDirectory(prefix="dyconv-fuzz-") as place:
            seeds = range(given.first, given.first + (given.seeds or target.seeds))
            found[name] = run(target, Path(place), seeds, given.memory, given.out)
        given.out.write_text(json.dumps(found, indent=1))


def run(target: Target, place: Path, seeds: range, memory_mb: int, out: Path) -> dict[str, Any]:
    """Try mutations of one target; returns counts and what went wrong."""
    folder = place / "a" / "b" / "target"
    folder.mkdir(parents=True)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    valid = target.make(folder)
    assert target.check(folder, valid), f"{target.name}: valid bytes are refused"
    set_limit(memory_mb)
    around = {path for path in place.rglob("*") if not path.is_relative_to(folder)}
    taken, slowest, problems = 0, (0.0, -1), []
    for seed in seeds:
        out.with_suffix(".now").write_text(f"{target.name} {seed}")  # what it was about, if the process dies
        data = mutated(valid, target.kind, seed)
        begun = time.monotonic()
        problem = tried(target, folder, data)
        took = time.monotonic() - begun
        slowest = max(slowest, (round(took, 3), seed))
        if isinstance(problem, bool):
            taken += problem
        else:
            problems.append({"seed": seed, "bytes": len(data), "told": problem})
    out.with_suffix(".now").unlink(missing_ok=True)
    if escaped := {path for path in place.rglob("*") if not path.is_relative_to(folder)} - around:
        problems.append({"seed": None, "bytes": 0, "told": f"files outside: {sorted(map(str, escaped))}"})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"runs": len(seeds), "taken": taken, "slowest_s": slowest[0], "slowest_seed": slowest[1], "peak_mb": peak,
            "problems": problems}  # fmt: skip


def tried(target: Target, folder: Path, data: bytes, seconds: float = SECONDS) -> bool | str:
    """Whether the bytes were taken, or what went wrong."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with guarded(folder, Path(tempfile.gettempdir())):
            return target.check(folder, data)
    except (Exception, TooSlow, Forbidden) as error:  # noqa: BLE001 - each is a finding
        steps = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in steps[-7:]]
        return f"{type(error).__name__}: {str(error)[:300]} | {' < '.join(reversed(where))}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def set_limit(memory_mb: int) -> None:
    """Let this process map so much more memory than it has mapped already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _too_slow(_: int, frame: FrameType | None) -> None:
    raise TooSlow(f"at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else "")


if __name__ == "__main__":
    sys.exit(main())
