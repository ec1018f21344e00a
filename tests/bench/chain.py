"""Part `chain`: the whole default chain over a composed 720p two-shot, in times of real time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dyconv import recipes
from dyconv.runner import RunOptions, run
from tests.bench.cost import Cost, spent

WANTED = 2.0
WORKERS = 2


def measure(folder: Path, *, sources: int = 2) -> dict[str, Any]:
    """Run the `demo` recipe over `sources` copies of the conversation with two processes, models loaded from scratch."""
    media = folder / "media"
    seconds = compose(media)
    manifest = folder / "manifest.csv"
    url = (media / "conversation.mp4").absolute().as_uri()
    copies = []
    for number in range(sources):  # two rows must not name one URL
        copy = media / f"conversation{number}.mp4"
        copy.unlink(missing_ok=True)
        copy.hardlink_to(media / "conversation.mp4")
        copies.append(f"talk{number},{url.removesuffix('.mp4')}{number}.mp4,own")
    manifest.write_text("\n".join(["id,url,licence", *copies]) + "\n")
    recipe = recipes.load("demo")
    stages = tuple(replace(stage, allow_local=True) if hasattr(stage, "allow_local") else stage for stage in recipe.stages)
    costs: list[Cost] = []
    with spent(costs):
        summary = run(replace(recipe, stages=stages), manifest, str(folder / "out"), RunOptions("local", workers=WORKERS))
    wall = costs[0].wall
    return {
        "media_s": round(sources * seconds, 2),
        "wall_s": round(wall, 2),
        "cpu_s": round(costs[0].cpu, 2),
        "x_real_time": round(sources * seconds / wall, 2),
        "wanted_x_real_time": WANTED,
        "clips_kept": summary.kept,
        "failed": summary.failed,
        "stage_s": {row.stage: round(row.seconds, 2) for row in summary.funnel.stages},
    }


def compose(media: Path) -> float:
    """The demo's conversation without its cuts: both people side by side all the time. Gives its length in seconds."""
    from dyconv.media.source import probe
    from dyconv.synth.render import Shot, render
    from pipelines import make_demo

    path = media / "conversation.mp4"
    if not path.is_file():
        conversation = make_demo.conversation()
        last = max(shot.stop for shot in conversation.shots)
        render(replace(conversation, shots=[Shot(0, last, "two-shot")]), media)
    return float(probe(path).duration)
