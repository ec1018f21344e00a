"""Part `speech`: `people` and `separate` alone, in times of real time, and their memory over length. Also the measured child.

What is timed are runs that have only `people`, and only `separate`, to do: two processes on two sources, models loaded from
scratch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from dyconv import recipes
from dyconv.recipe import Recipe
from dyconv.runner import RunOptions, run
from tests.bench.chain import compose
from tests.bench.cost import Cost, spent

WANTED = 4.0
WORKERS = 2
ROOT = Path(__file__).resolve().parent.parent.parent
_LOOPS = 4  # of the 30 s conversation, for the time
_GAP = Fraction(1, 5)  # seconds between loops: pictures are decoded before they are shown, and times must not go back
_SHORT, _LONG = 2, 10  # loops, for the memory


def measure(folder: Path) -> dict[str, Any]:
    """Times of real time of `people` + `separate`, and peak memory of one process for one and for five minutes."""
    media = folder / "media"
    seconds = compose(media) * _LOOPS
    paths = [looped(media / "conversation.mp4", media / f"talk{number}.mp4", _LOOPS) for number in range(WORKERS)]
    manifest = _manifest(folder / "talks.csv", paths)
    out = folder / "out"
    costs: list[Cost] = []
    for stage in ("clean", "people", "clips", "separate"):
        with spent(costs):
            summary = run(_until(stage), manifest, str(out), RunOptions("local", workers=WORKERS, pack=False))
    _, people, _, separate = costs
    wall, cpu = people.wall + separate.wall, people.cpu + separate.cpu
    peaks = {loops: round(_child(folder, loops), 1) for loops in (_SHORT, _LONG)}
    return {
        "media_s": round(WORKERS * seconds, 2),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "x_real_time": round(WORKERS * seconds / wall, 2),
        "wanted_x_real_time": WANTED,
        "clips_kept": summary.kept,
        "stage_s": {row.stage: round(row.seconds, 2) for row in summary.funnel.stages},
        "peak_mb": {f"{round(compose(media) * loops)} s": peak for loops, peak in peaks.items()},
    }


def looped(path: Path, target: Path, times: int) -> Path:
    """`path` `times` over, by copying its packets: nothing is encoded again."""
    if target.is_file():
        return target
    with av.open(str(target), "w") as out:
        begin = Fraction(0)
        streams: dict[int, Any] = {}
        for _ in range(times):
            with av.open(str(path)) as source:
                for stream in source.streams:
                    streams.setdefault(stream.index, None)
                    streams[stream.index] = streams[stream.index] or out.add_stream_from_template(stream)
                length = Fraction(source.duration or 0, av.time_base)
                for packet in source.demux():
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    shift = round(begin / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
                begin += length + _GAP
    return target


def _until(last: str) -> Recipe:
    """The `demo` recipe up to a stage, for local files."""
    recipe = recipes.load("demo")
    names = [stage.name for stage in recipe.stages]
    stages = [replace(stage, allow_local=True) if hasattr(stage, "allow_local") else stage for stage in recipe.stages]
    return replace(recipe, stages=tuple(stages[: names.index(last) + 1]), pack=())


def _manifest(path: Path, media: list[Path]) -> Path:
    rows = [f"{item.stem},{item.absolute().as_uri()},own" for item in media]
    path.write_text("\n".join(["id,url,licence", *rows]) + "\n")
    return path


def _child(folder: Path, loops: int) -> float:
    command = [sys.executable, "-m", "tests.bench.speech", str(folder), str(loops)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(json.loads(answer.stdout.splitlines()[-1])["peak_mb"])


def _in_this_process(folder: Path, loops: int) -> None:
    """`people`, `clips` and `separate` of one source in this process, and its peak memory on the standard output."""
    media = looped(folder / "media" / "conversation.mp4", folder / "media" / f"loops{loops}.mp4", loops)
    manifest, out = _manifest(folder / f"loops{loops}.csv", [media]), str(folder / f"out-{loops}")
    run(_until("tracks"), manifest, out, RunOptions("local", workers=1, pack=False))  # another process
    run(_until("separate"), manifest, out, RunOptions("local", workers=0, pack=False))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"peak_mb": int(peak.group(1)) / 1024}))


if __name__ == "__main__":
    _in_this_process(Path(sys.argv[1]), int(sys.argv[2]))
