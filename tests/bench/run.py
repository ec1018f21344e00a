"""`make bench`: speed ratios and their accuracy, measured in one run. Not a test: nothing fails on a slow machine.

python -m tests.bench.run --out out/bench.json [--only cuts,chain,speech,memory,rerun,help,scale,plan,evaluator] [--full]
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

SCHEMA = 1  # of the JSON: numbers of another one are not mixed in
PARTS = ("cuts", "chain", "speech", "memory", "rerun", "help", "scale", "plan", "evaluator")


def main(
    out: Annotated[Path, typer.Option(help="JSON file with every number")] = Path("out/bench.json"),
    only: Annotated[str, typer.Option(help=f"comma separated parts: {', '.join(PARTS)}")] = "",
    full: Annotated[
        bool, typer.Option("--full", help="memory also with 10,000 clips (minutes), scale with 100,000 (an hour, 5 GB)")
    ] = False,
    repeats: Annotated[int, typer.Option(help="repeats of part cuts; the median counts")] = 1,
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
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n")
    console.print(_table(results))
    console.print(f"every number: {out}")


def _measure(part: str, folder: Path, *, full: bool, repeats: int) -> dict[str, Any]:
    from tests.bench import chain, cutting, driver, evaluator, plan, scale, speech

    for name in ("ours-0", "out") if part in ("cuts", "chain", "speech") else ():
        shutil.rmtree(folder / part / name, ignore_errors=True)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "cuts": lambda: cutting.measure(folder / "cuts", repeats=repeats),
        "chain": lambda: chain.measure(folder / "chain"),
        "speech": lambda: speech.measure(folder / "speech"),
        "memory": lambda: driver.memory(folder / "driver", full=full),
        "rerun": lambda: driver.rerun(folder / "driver"),
        "help": driver.command_help,
        "scale": lambda: scale.measure(folder / "scale", full),
        "plan": lambda: plan.measure(folder / "plan"),
        "evaluator": evaluator.measure,
    }
    return measures[part]()


def _table(results: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("measured", "found", "wanted", title=f"bench, {results['machine']['cores']} cores", title_justify="left")
    for name, found, wanted in rows(results):
        table.add_row(name, found, wanted)
    return table


def rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, wanted) for the table."""
    out = []
    if cuts := results.get("cuts"):
        found = (
            f"{cuts['ratio']:.2f} ({cuts['ffmpeg_s']:.1f} s / {cuts['ours_s']:.1f} s, {cuts['x_real_time']:.0f} x real time)"
        )
        out.append(("one-pass ffmpeg / scenes + normalize + clips + pack", found, f">= {cuts['wanted_ratio']}"))
        found = f"{cuts['cpu_ratio']:.2f} ({cuts['ffmpeg_cpu_s']:.1f} s / {cuts['ours_cpu_s']:.1f} s)"
        out.append(("the same in processor time", found, ""))
        out.append(("clips found", f"{cuts['clips']}", f"{cuts['clips_wanted']}"))
        out.append(("cut error, frames (largest)", f"{cuts['cut_error_frames_max']:g}", "<= 1"))
        out.append(("frames of another shot in a clip", f"{cuts['foreign_frames']}", "0"))
        out.append(("sound against picture, frames (largest)", f"{cuts['av_offset_frames_max']:.2f}", "<= 1"))
    if chain := results.get("chain"):
        spent = f"{chain['media_s']:.0f} s in {chain['wall_s']:.1f} s, {chain['cpu_s']:.0f} s of processor"
        found = f"{chain['x_real_time']:.2f} x real time ({spent})"
        out.append(("whole default chain, 720p two-shot, 2 processes", found, f">= {chain['wanted_x_real_time']} x"))
    if speech := results.get("speech"):
        spent = f"{speech['media_s']:.0f} s in {speech['wall_s']:.1f} s, {speech['cpu_s']:.0f} s of processor"
        found = f"{speech['x_real_time']:.2f} x real time ({spent})"
        out.append(("people + separate, 720p two-shot, 2 processes", found, f">= {speech['wanted_x_real_time']} x"))
        peaks = ", ".join(f"{length} {peak:.0f} MB" for length, peak in speech["peak_mb"].items())
        out.append(("memory of people + separate, peak", peaks, "flat"))
    if memory := results.get("memory"):
        peaks = ", ".join(f"{int(count):,} clips {peak:.0f} MB" for count, peak in memory["peak_mb"].items())
        out.append(("driver memory, peak", f"{peaks} ({memory['kb_per_clip']:.1f} KB a clip)", "flat"))
    if rerun := results.get("rerun"):
        found = f"{rerun['seconds']:.2f} s"
        out.append((f"re-run with nothing to do, {rerun['sources']:,} sources", found, f"< {rerun['wanted_s']:.0f} s"))
    if shown := results.get("help"):
        out.append(("dyconv --help", f"{shown['seconds']:.2f} s", f"< {shown['wanted_s']} s"))
    if grown := results.get("scale"):
        from tests.bench import scale

        out += scale.rows(grown)
    if planned := results.get("plan"):
        parts = ("stages", "bytes", "clock")
        found = ", ".join(f"{what} {planned[f'{what}_error']:+.0%}" for what in parts)
        out.append(
            ("plan: predicted / found, half of the sources from the other", found, f"within {planned['wanted_error']:.0%}")
        )
    if pictures := results.get("evaluator"):
        every = pictures["metrics"]["all"]
        found = f"{every['ratio']:.1f} ({every['batched']:.1f} / {every['plain']:.1f} frames/s on {pictures['device']})"
        out.append(("evaluator's picture metrics / a plain loop", found, f">= {pictures['wanted_ratio']} on a GPU"))
    return out


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    typer.run(main)
