"""Part `scale`: up to a hundred thousand clips through stages that do next to nothing. Also the child processes measured.

The runner, the ledger and the work folders are the real ones; only the stages are fakes. What is left is what the
driver and the reading of its ledger cost, and how they grow. `--full` adds 100,000 clips, in two shapes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.cost import Cost, middle, spent

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PIECES = 100
WORKERS = 2
WANTED_DRIVER_MB, WANTED_PLAN_S, WANTED_READ_S, WANTED_SCALING = 1000.0, 60.0, 5.0, 0.9
_ONE_EACH, _MANY, _BUSY = (HERE / f"{name}_recipe.py" for name in ("fake", "many", "busy"))
_BUSY_SOURCES = 20  # of ten clips


def measure(folder: Path, full: bool) -> dict[str, Any]:
    """Grow the number of clips, then the number of workers. `folder` is emptied case by case: 100,000 clips take 5 GB."""
    shapes = [(1000, 1), (10_000, 1), (10, PIECES), (100, PIECES)]
    shapes += [(100_000, 1), (1000, PIECES)] if full else []
    cases = [_case(folder / f"{sources}x{pieces}", sources, pieces) for sources, pieces in shapes]
    return {"cases": cases, "growth": _growth(cases), "scaling": _scaling(folder / "busy")}


def rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, wanted) for the table."""
    table = []
    for pieces in (1, PIECES):
        cases = [case for case in result["cases"] if case["pieces"] == pieces]
        if not cases:
            continue
        shape = f"{cases[-1]['sources']:,} sources of {pieces} clip{'s' if pieces > 1 else ''}"
        largest = max(cases, key=lambda case: case["clips"])
        for name, what, wanted in (
            ("driver memory", "driver_mb", f"< {WANTED_DRIVER_MB:.0f} MB"),
            ("planning, nothing done before", "plan_s", f"< {WANTED_PLAN_S:.0f} s"),
            ("planning, all done before (a whole re-run)", "rerun_s", f"< {WANTED_PLAN_S:.0f} s"),
            ("reading the ledger", "ledger_s", f"< {WANTED_READ_S:.0f} s"),
            ("dyconv status", "status_s", f"< {WANTED_READ_S:.0f} s"),
            ("dyconv status --json", "status_json_s", ""),
        ):
            unit = "MB" if what.endswith("mb") else "s"
            table.append(
                (f"{name}, {shape}", f"{largest[what]:.2f} {unit}" if unit == "s" else f"{largest[what]:.0f} MB", wanted)
            )
        costs = ", ".join(f"{case['clips']:,}: {case['ms_per_clip']:.1f}" for case in cases)
        table.append((f"ms of processor a clip, {pieces} a source, by clips", costs, "flat"))
    scaling = result["scaling"]
    found = f"{scaling['efficiency']:.2f} (pairs: {', '.join(f'{one:.2f}' for one in scaling['pairs'])})"
    table.append(("scaling from 1 to 2 workers, 40 ms of processor a clip", found, f">= {WANTED_SCALING}"))
    table.append(("the same against what two bare processes reach", f"{scaling['against_bare']:.2f}", ""))
    return table


def _case(folder: Path, sources: int, pieces: int) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        first = _child("run", folder, sources, pieces)
        again = _child("run", folder, sources, pieces)
        if (first["kept"], again["kept"], again["executed"]) != (sources * pieces, sources * pieces, 0):
            raise RuntimeError(f"expected {sources * pieces} clips and nothing to do again, found {first} and {again}")
        ledger = _child("ledger", folder, sources, pieces)
        status = [sys.executable, "-m", "dyconv.cli", "status", str(folder / "out")]
        clips = sources * pieces
        return {
            **{"sources": sources, "pieces": pieces, "clips": clips},
            **{"wall_s": round(first["wall_s"], 2), "ms_per_clip": round(1000 * first["cpu_s"] / clips, 3)},
            **{"driver_mb": round(max(first["peak_mb"], again["peak_mb"]), 1)},
            **{"plan_s": round(first["plan_s"], 3), "rerun_s": round(again["wall_s"], 2)},
            **{"ledger_mb": round(ledger["size_mb"], 1), "ledger_s": round(ledger["seconds"], 2)},
            **{"ledger_cpu_s": round(ledger["cpu_s"], 2), "rerun_cpu_s": round(again["cpu_s"], 2)},
            **_timed("status", status),
            **_timed("status_json", [*status, "--json"]),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _timed(name: str, command: list[str], repeats: int = 3) -> dict[str, float]:
    """Seconds of a whole process on the clock and of the processor, each the median of some: other work slows the first."""
    costs: list[Cost] = []
    for _ in range(repeats):
        with spent(costs):
            subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    cost = middle(costs)
    return {f"{name}_s": round(cost.wall, 2), f"{name}_cpu_s": round(cost.cpu, 2)}


def _growth(cases: list[dict[str, Any]]) -> dict[str, float]:
    """Processor time a clip of the largest case over that of the smallest, of each shape: 1 is linear."""
    growth = {}
    for pieces in (1, PIECES):
        costs = [case["ms_per_clip"] for case in cases if case["pieces"] == pieces]
        growth[str(pieces)] = round(costs[-1] / costs[0], 3)
    return growth


def _scaling(folder: Path, repeats: int = 3) -> dict[str, Any]:
    """Time of one worker over twice that of two, in pairs one after the other, and the same of two bare busy processes.

    Cores that others use too lower both; the bare pair says by how much.
    """
    pairs, bare = [], []
    for number in range(repeats):
        one, two = (_child("busy", folder / f"{number}-{workers}", workers, 0)["wall_s"] for workers in (1, 2))
        pairs.append(one / (2 * two))
        bare.append(_bare(1) / _bare(2))
    shutil.rmtree(folder, ignore_errors=True)
    against = median(pair / alone for pair, alone in zip(pairs, bare, strict=True))
    return {
        "pairs": [round(pair, 3) for pair in pairs],
        "bare": [round(alone, 3) for alone in bare],
        "efficiency": round(median(pairs), 3),
        "against_bare": round(against, 3),
    }


def _bare(count: int) -> float:
    """Seconds until `count` processes have each spent two seconds of the processor."""
    code = "import time\nwhile time.process_time() < 2: pass"
    started = time.perf_counter()
    for process in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]:
        process.wait()
    return time.perf_counter() - started


def _child(what: str, folder: Path, first: int, second: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.scale", what, str(folder), str(first), str(second)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"{what} {first} {second} ended with {answer.returncode}: {answer.stderr[-2000:]}")
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def _run(folder: Path, sources: int, pieces: int) -> dict[str, Any]:
    """One run; of a second one on the same folder all is re-used. Processor time is that of driver and workers together."""
    return _measured_run(folder, _ONE_EACH if pieces == 1 else _MANY, sources, WORKERS)


def _busy(folder: Path, workers: int) -> dict[str, Any]:
    """A run whose workers are busy; the time counts from the first clip begun to the end of the last."""
    return _measured_run(folder, _BUSY, _BUSY_SOURCES, workers)


def _measured_run(folder: Path, recipe_file: Path, sources: int, workers: int) -> dict[str, Any]:
    from dyconv import recipes
    from dyconv.live import read_live
    from dyconv.runner import RunOptions, run
    from dyconv.store import Store
    from tests.fakes import write_manifest

    folder.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(folder / "manifest.csv", [f"ok-{number}" for number in range(sources)])
    options = RunOptions("local", workers=workers, pack=False)
    costs: list[Cost] = []
    began = time.time()
    with spent(costs):
        summary = run(recipes.load(str(recipe_file)), manifest, str(folder / "out"), options, recipe_file=str(recipe_file))
    live = read_live(Store(folder / "out"))
    assert live is not None
    return {
        **{"kept": summary.kept, "executed": summary.executed, "peak_mb": _peak_mb()},
        **{"wall_s": costs[0].wall, "cpu_s": costs[0].cpu, "plan_s": live["started"] - began, "work_s": live["seconds"]},
    }


def _ledger(folder: Path) -> dict[str, Any]:
    from dyconv.standings import read_standings
    from dyconv.store import Store

    out = folder / "out"
    started, used = time.perf_counter(), time.process_time()
    found = read_standings(Store(out))
    seconds, used = time.perf_counter() - started, time.process_time() - used
    size = sum(path.stat().st_size for path in (out / "ledger").iterdir())
    return {"seconds": seconds, "cpu_s": used, "size_mb": size / 1e6, "peak_mb": _peak_mb(), "clips": found.clips.num_rows}


def _peak_mb() -> float:
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak.group(1)) / 1024


def _main(what: str, folder: Path, first: int, second: int) -> None:
    if what == "busy":
        found = _busy(folder, first)
        found["wall_s"] = found["work_s"]
    else:
        found = _run(folder, first, second) if what == "run" else _ledger(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
