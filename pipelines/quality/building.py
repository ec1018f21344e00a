"""Runs the real recipe over the composed conversations, as `dyconv run` would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dyconv import recipes
from dyconv.recipe import Recipe
from dyconv.runner import RunOptions, RunSummary, run
from dyconv.stages.people import People
from dyconv.truth import read_truth

if TYPE_CHECKING:
    from rich.console import Console

LAST = "separate"  # nothing that is scored comes after it


def quality_recipe(active_speaker: str | None = None) -> Recipe:
    """The `demo` recipe as far as the voices.

    Args:
        active_speaker: name in the model registry, in place of the recipe's own.
    """
    demo = recipes.load("demo")
    names = [stage.name for stage in demo.stages]
    stages = list(demo.stages[: names.index(LAST) + 1])
    if active_speaker:
        index, people = names.index(People.name), demo.stage(People.name)
        assert isinstance(people, People)
        stages[index] = replace(people, active_speaker=active_speaker)
    return replace(demo, name="quality", stages=tuple(stages), pack=())


def build(media: Mapping[str, Path], out: Path, recipe: Recipe, workers: int, console: Console) -> RunSummary:
    """Run the recipe over files by source id; what an earlier run finished is not done again."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.jsonl"
    rows = [{"id": name, "url": str(path.absolute()), "licence": "demo-local"} for name, path in media.items()]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if not manifest.is_file() or manifest.read_text() != text:
        manifest.write_text(text)
    return run(recipe, manifest, str(out), RunOptions(backend="local", workers=workers, pack=False), console=console)


def media_of(truths: Sequence[Path]) -> dict[str, Path]:
    """Media by source id, which is the name of the truth's folder."""
    return {path.parent.name: path.parent / read_truth(path).media for path in truths}
