"""`make bench`: speed ratios and their accuracy, measured in one run. Not a test: nothing fails on a slow machine.

python -m tests.bench.run --out out/bench.json [--only PART,PART] [--work FOLDER] [--full]
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dyconv import __version__
from tests.bench import table

SCHEMA = 1  # of the JSON: numbers of another one are not mixed in
PARTS = ("cuts", "peers", "chain", "overhead", "speech", "shards", "memory", "rerun", "help", "scale", "plan", "evaluator")


def main(
    out: Annotated[Path, typer.Option(help="JSON file with every number")] = Path("out/bench.json"),
    only: Annotated[str, typer.Option(help=f"comma separated parts: {', '.join(PARTS)}")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="memory also with 10,000 clips (minutes), scale with 100,000 (an hour, 5 GB)")
    ] = False,
    repeats: Annotated[int, typer.Option(help="repeats of parts cuts, peers and overhead; the median counts")] = 1,
    work: Annotated[Path | None, typer.Option(help="folder to work in, kept; a temporary one if not given")] = None,
) -> None:
    """Measure, print a table, write the numbers."""
    from rich.console import Console

    wanted = [part.strip() for part in only.split(",") if part.strip()] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(f"no part called {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    folder = work or Path(tempfile.mkdtemp(prefix="dyconv-bench-"))
    console = Console(highlight=False)
    before: dict[str, Any] = json.loads(out.read_text()) if only and out.is_file() else {}
    results = before if before.get("schema") == SCHEMA else {"schema": SCHEMA}
    results["machine"] = {"cores": len(os.sched_getaffinity(0)), "cpu": _cpu(), "dyconv": __version__}
    try:
        for part in wanted:
            console.print(f"[bold]{part}[/] ...")
            started = time.perf_counter()
            results[part] = _measure(part, folder, full=full, repeats=repeats)
            console.print(f"  took {time.perf_counter() - started:.0f} s")
            _write(out, results)  # after each part: a bench that is broken off keeps what it has
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    for found in table.tables(results):
        console.print(found)
    console.print(f"every number: {out}; the tables: {out.with_suffix('.md')}")


def _write(out: Path, results: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    out.with_suffix(".md").write_text(table.markdown(results))


def _measure(part: str, folder: Path, *, full: bool, repeats: int) -> dict[str, Any]:
    from tests.bench import chain, cutting, driver, evaluator, overhead, peers, plan, scale, shards, speech

    for name in ("ours-0", "out") if part in ("cuts", "chain", "speech") else ():
        shutil.rmtree(folder / part / name, ignore_errors=True)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "cuts": lambda: cutting.measure(folder / "cuts", repeats=repeats),
        "peers": lambda: peers.measure(folder / "cuts", repeats=repeats),
        "chain": lambda: chain.measure(folder / "chain"),
        "overhead": lambda: overhead.measure(folder / "chain", repeats=repeats),
        "speech": lambda: speech.measure(folder / "speech"),
        "shards": lambda: shards.measure(folder / "shards"),
        "memory": lambda: driver.memory(folder / "driver", full=full),
        "rerun": lambda: driver.rerun(folder / "driver"),
        "help": driver.command_help,
        "scale": lambda: scale.measure(folder / "scale", full),
        "plan": lambda: plan.measure(folder / "plan"),
        "evaluator": evaluator.measure,
    }
    return measures[part]()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    typer.run(main)
