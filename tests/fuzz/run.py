"""`make fuzz`: every reader against inputs that atheris finds by their coverage, each in a process of its own.

    python -m tests.fuzz.run [--seconds 60] [--only NAME] [--out out/fuzz.json] [--corpus FOLDER] [--replay FILE]

Findings are written beside the report as `crashes/NAME-...`; `--replay FILE` runs one again and shows the whole traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_MEMORY_MB = 2048
_RESTARTS = 5
_COVERAGE = re.compile(r"cov: (\d+)")
_STARTING_S = 120  # until readers are loaded, on a slow machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", action="append", metavar="NAME", help="a target; several by giving it again")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz.json"))
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was found to be interesting (beside --out)")
    parser.add_argument("--memory", type=int, default=_MEMORY_MB, help="MB above what is in use once the readers are loaded")
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one finding again; its name begins with the target's")
    parser.add_argument("--list", action="store_true", help="names of all targets")
    given = parser.parse_args()
    if given.replay:
        return replay(given.replay, given.only[0] if given.only else None)
    from tests.fuzz.targets import TARGETS

    if given.list:
        print("\n".join(TARGETS))
        return 0
    if unknown := sorted(set(given.only or ()) - set(TARGETS)):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    crashes = given.out.parent / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    corpus = given.corpus or given.out.parent / "corpus"
    names = given.only or list(TARGETS)
    with ThreadPoolExecutor(given.jobs) as threads:
        jobs = [threads.submit(fuzz, name, given.seconds, corpus / name, crashes, given.memory) for name in names]
        found = {}
        for name, job in zip(names, jobs, strict=True):
            found[name] = job.result()
            print(told(name, found[name]), flush=True)
            given.out.write_text(json.dumps(report(found), indent=1))
    return 0 if report(found)["ok"] else 1


def fuzz(name: str, seconds: int, corpus: Path, crashes: Path, memory: int) -> dict[str, Any]:
    """One target for so long; begun again where a crash ended its process."""
    total: dict[str, Any] = {"seconds": 0.0, "runs": 0, "taken": 0, "slowest_s": 0.0, "peak_mb": 0, "found": [], "deaths": []}
    covered: list[int] = []
    while total["seconds"] < seconds and len(total["deaths"]) < _RESTARTS:
        left = max(1, round(seconds - total["seconds"]))
        begun = time.monotonic()
        code, errors, seen = _process(name, left, corpus, crashes, memory)
        total["seconds"] = round(total["seconds"] + min(left, time.monotonic() - begun), 1)
        covered += [int(count) for count in _COVERAGE.findall(errors)]
        for count in ("runs", "taken"):
            total[count] += seen.get(count, 0)
        for most in ("slowest_s", "peak_mb"):
            total[most] = max(total[most], seen.get(most, 0))
        total["found"] += [
            one for one in seen.get("found", ()) if one["file"] not in {other["file"] for other in total["found"]}
        ]
        if code == 0:
            break
        total["deaths"].append({"code": code, "told": errors.strip().splitlines()[-12:]})
    total["coverage"] = [covered[0], covered[-1]] if covered else None
    total["corpus"] = len(list(corpus.iterdir())) if corpus.is_dir() else 0
    return total


def _process(name: str, seconds: int, corpus: Path, crashes: Path, memory: int) -> tuple[int, str, dict[str, Any]]:
    place = Path(tempfile.mkdtemp(prefix="dyconv-fuzz-run-"))
    notes, log = place / "notes.json", place / "log"
    command = [sys.executable, "-m", "tests.fuzz.guided", name, "--seconds", str(seconds), "--memory", str(memory)]
    command += ["--corpus", str(corpus), "--crashes", str(crashes), "--out", str(notes)]
    environment = {**os.environ, "TMPDIR": str(place), "OMP_NUM_THREADS": "1"}
    try:
        with log.open("wb") as file:
            limit = 3 * seconds + _STARTING_S
            code = subprocess.run(command, stdout=file, stderr=file, env=environment, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        code = -1
    try:
        errors = log.read_text(errors="replace")
        return code, errors, json.loads(notes.read_text()) if notes.is_file() else {}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def report(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    bad = sorted(name for name, one in found.items() if one["found"] or one["deaths"])
    return {"ok": not bad, "runs": sum(one["runs"] for one in found.values()), "bad": bad, "targets": found}


def told(name: str, one: dict[str, Any]) -> str:
    covered = f"{one['coverage'][0]} to {one['coverage'][1]}" if one["coverage"] else "?"
    line = f"{name:20} {one['runs']:8} inputs, {one['taken']:7} taken, coverage {covered}, slowest {one['slowest_s']:.2f} s"
    line += f", at most {one['peak_mb']} MB: " + ("ok" if not one["found"] and not one["deaths"] else "FOUND")
    return "\n".join([line, *(f"    {finding['file']}: {finding['told']}" for finding in one["found"]),
                      *(f"    process ended with {death['code']}" for death in one["deaths"])])  # fmt: skip


def replay(file: Path, name: str | None) -> int:
    """Run one input, with its traceback."""
    from tests.fuzz.guard import guarded
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name or file.name.partition("-")[0]]
    with tempfile.TemporaryDirectory(prefix="dyconv-fuzz-") as place:
        folder = Path(place) / "target"
        folder.mkdir()
        target.check(folder, target.make(folder))
        with guarded(folder, Path(place)):
            print("taken" if target.check(folder, file.read_bytes()) else "refused, as is right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
