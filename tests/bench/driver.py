"""Parts `memory`, `rerun` and `help`: what the driver itself costs. Also the child process that is measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPE = Path(__file__).resolve().with_name("fake_recipe.py")
WANTED_RERUN_S, WANTED_HELP_S = 5.0, 0.5


def memory(folder: Path, *, full: bool = False) -> dict[str, Any]:
    """Peak memory of the driver for growing numbers of clips; its workers are other processes."""
    peaks = {}
    for count in (100, 1000, 10_000) if full else (100, 1000):
        peaks[count] = round(_child(folder, count)["peak_mb"], 1)
    counts = list(peaks)
    grown = (peaks[counts[-1]] - peaks[counts[0]]) * 1024 / (counts[-1] - counts[0])
    return {"peak_mb": peaks, "kb_per_clip": round(grown, 2), "ratio": round(peaks[counts[-1]] / peaks[counts[0]], 3)}


def rerun(folder: Path, *, sources: int = 1000, repeats: int = 3) -> dict[str, Any]:
    """Seconds of `dyconv run` from start to end over sources that are all finished."""
    if not (folder / f"out-{sources}" / "funnel.json").exists():
        _child(folder, sources)
    command = [sys.executable, "-m", "dyconv.cli", "run", str(RECIPE), "--no-pack"]
    command += ["--manifest", str(folder / f"manifest-{sources}.csv"), "--out", str(folder / f"out-{sources}")]
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
        if "0 to do" not in answer.stderr:
            raise RuntimeError(f"the run had something to do:\n{answer.stderr[-2000:]}")
    return {"sources": sources, "seconds": round(median(times), 2), "wanted_s": WANTED_RERUN_S}


def command_help(repeats: int = 5) -> dict[str, Any]:
    """Seconds of `dyconv --help`, as installed."""
    program = Path(sys.executable).with_name("dyconv")
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([str(program), "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    return {"seconds": round(median(times), 3), "wanted_s": WANTED_HELP_S}


def _child(folder: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.driver", str(folder), str(count)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def _run(folder: Path, count: int) -> None:
    from dyconv import recipes
    from dyconv.runner import RunOptions, run
    from tests.fakes import write_manifest

    folder.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(folder / f"manifest-{count}.csv", [f"ok-{number}" for number in range(count)])
    options = RunOptions("local", workers=2, pack=False)
    started = time.perf_counter()
    summary = run(recipes.load(str(RECIPE)), manifest, str(folder / f"out-{count}"), options, recipe_file=str(RECIPE))
    seconds = time.perf_counter() - started
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None and summary.kept == count
    print(json.dumps({"peak_mb": int(peak.group(1)) / 1024, "seconds": seconds}))


if __name__ == "__main__":
    _run(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()), int(sys.argv[2]))
