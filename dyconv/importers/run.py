"""An import from end to end: find, prepare, and run the recipe that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dyconv.errors import UsageError
from dyconv.importers import realtalk, seamless, speakervid, vico
from dyconv.importers.layout import Found
from dyconv.importers.prepare import Prepared, fingerprint, prepare
from dyconv.recipe import Recipe
from dyconv.stages.download import Download
from dyconv.stages.sides import Sides


@dataclass(frozen=True)
class Importer:
    """How one set is read, and which recipe makes a build of it; None where it has no media."""

    find: Callable[[Path], Found]
    recipe: str | None


IMPORTERS: Mapping[str, Importer] = {
    "vico": Importer(vico.find, "apart"),
    "realtalk": Importer(realtalk.find, "dyconv"),
    "seamless": Importer(seamless.find, "apart"),
    "speakervid": Importer(speakervid.find, None),
}


def bring_in(
    name: str,
    root: Path,
    out: Path,
    licence: str,
    *,
    language: str | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
) -> tuple[Prepared, Found]:
    """Write the import folder of a set.

    Raises:
        UsageError: for an unknown set, or one that is not in its published layout (`LayoutError`).
    """
    found = importer(name).find(root).checked(root, skip_bad)
    found.talks = found.talks[:limit]
    return prepare(name, found, out, licence, language, skip_bad=skip_bad), found


def importer(name: str) -> Importer:
    """Raises UsageError for a set there is no importer of."""
    if name not in IMPORTERS:
        raise UsageError(f"no importer for {name[:40]!r}", hint=f"there are: {', '.join(IMPORTERS)}")
    return IMPORTERS[name]


def adapted(recipe: Recipe, prepared: Prepared, licence: str) -> Recipe:
    """A recipe that takes the import: its licence, which was stated on purpose, local files, and the published turns."""
    stages = []
    for stage in recipe.stages:
        if isinstance(stage, Download):
            stage = replace(stage, licences=(*stage.licences, licence.strip()), allow_local=True)
        elif isinstance(stage, Sides) and prepared.published:
            told = prepared.published.absolute()
            stage = replace(stage, published=str(told), published_sha256=fingerprint(told))
        stages.append(stage)
    return replace(recipe, stages=tuple(stages))
