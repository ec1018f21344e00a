"""Part `plan`: what `dyconv plan` predicts for half of the sources, from a run of the other half, against their own run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyconv import recipes
from dyconv.plan.check import compare_rates, wall_of
from dyconv.plan.measure import measure as measured
from dyconv.recipe import Recipe
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from tests.mediagen import make_media

WANTED = 0.5  # largest error of what all stages take, as a share
WORKERS = 2
LENGTHS = (3.0, 4.5, 6.0, 4.0, 7.5, 5.0, 9.0, 3.5, 6.0, 4.5, 8.0, 4.0)  # seconds; every second one is predicted


def measure(folder: Path) -> dict[str, Any]:
    """Run the `cuts` recipe over both halves, each into a folder of its own."""
    recipe = _recipe()
    stores = []
    for half in range(2):
        out = folder / f"half{half}"
        shutil.rmtree(out, ignore_errors=True)
        manifest = _manifest(folder / "media", half)
        run(recipe, manifest, str(out), RunOptions(workers=WORKERS))
        stores.append(Store(out))
    known, other = (measured(store) for store in stores)
    rows = {row.what: row for row in compare_rates(known, other, recipe, wall_of(stores[1]))}
    errors = {name: round(row.error, 3) for name, row in rows.items()}
    return {
        "sources": len(LENGTHS),
        "media_s": sum(LENGTHS),
        "errors": errors,
        "rates_error": round((rows["all stages, seconds"].given or 0.0) / rows["all stages, seconds"].found - 1, 3),
        "stages_error": errors["all stages, seconds"],
        "bytes_error": errors["work folder, bytes"],
        "clock_error": errors["on the clock, seconds"],
        "wanted_error": WANTED,
    }


def _recipe() -> Recipe:
    recipe = recipes.load("cuts")
    return replace(
        recipe,
        stages=tuple(replace(stage, allow_local=True) if hasattr(stage, "allow_local") else stage for stage in recipe.stages),
    )


def _manifest(media: Path, half: int) -> Path:
    """Every second file, made if it is not there: two shots each."""
    media.mkdir(parents=True, exist_ok=True)
    rows = ["id,url,licence"]
    for number, length in list(enumerate(LENGTHS))[half::2]:
        path = media / f"source{number}.mp4"
        if not path.is_file():
            make_media(path, duration=length, size=(320, 180), cuts=[length / 2])
        rows.append(f"source{number},{path.absolute().as_uri()},own")
    manifest = media / f"half{half}.csv"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest
