"""The data card (README.md) and LICENCES.md: what the dataset is, for somebody who has to decide whether to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from dyconv.download.licences import normal_licence
from dyconv.errors import DyconvError
from dyconv.records import PERSONS
from dyconv.release.model import CARD, LICENCES, RELEASE, ReleaseError
from dyconv.store import write_atomic

_SIZES = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_HUB_LICENCES = {"CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "CC-BY-2.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-NC-4.0", "PDDL"}

Rows = Sequence[Mapping[str, Any]]


def write_card(staging: Path, about: Mapping[str, Any], tables: Mapping[str, Rows]) -> None:
    """Write README.md and LICENCES.md into a staging folder.

    Args:
        about: what `release.json` will say.
        tables: rows by the table's name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"cell": cell, "hours": lambda seconds: f"{seconds / 3600:.3f}"}
    shown = card_numbers(about, tables)
    try:
        card = environment.get_template("card.md.j2").render(about=about, **shown)
    except (UndefinedError, TypeError, ValueError) as error:  # of the release before, which a takedown starts from
        raise ReleaseError(f"{RELEASE} lacks what its card tells: {error}", hint="run `dyconv check` on the release") from error
    write_atomic(staging / CARD, card.encode())
    text = environment.get_template("licences.md.j2").render(about=about, sources=tables["sources"], by=shown["licences"])
    write_atomic(staging / LICENCES, text.encode())


def cell(text: Any) -> str:
    """Text for a cell of a Markdown table: no markup of others comes through, and it stays on one line."""
    if text is None or text == "":
        return "-"
    plain = " ".join(str(text).split())
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        plain = plain.replace(sign, instead)
    return "".join("\\" + sign if sign in "\\`*_[]#!~" else sign for sign in plain)


def card_numbers(about: Mapping[str, Any], tables: Mapping[str, Rows]) -> dict[str, Any]:
    """What the card's template is filled with, beside `about`."""
    clips = tables["clips"]
    return {
        "licences": _shares(tables["sources"], lambda row: row["licence"]),
        "languages": _shares(tables["sources"], lambda row: row["language"]),
        "layouts": _shares(clips, lambda row: row["layout"], "duration_s"),
        "what": "two-person conversations" if any(map(_of_two, clips)) else "one person, talking or listening",
        "seen": [sum(_seen(row) == count for row in clips) for count in (0, 1, 2)],
        "speaking_s": sum(row["speaking_s"] for row in tables["people"]),
        "overlap_s": sum(row["overlap_share"] * row["duration_s"] for row in clips),
        "unsure": sum(bool(row["unsure"]) or row["person"] is None for row in tables["turns"]),
        "turns": len(tables["turns"]),
        "about_recipe": _about_recipe(about["recipe"]),
        "stages": [{**stage, "doc": _doc(about["recipe"], stage["name"])} for stage in about["recipe"].get("stages", ())],
        "hub_languages": sorted({str(row["language"]).split("-")[0] for row in tables["sources"] if row["language"]}),
        "hub_licence": _hub_licence(tables["sources"]),
        "hub_size": next((name for limit, name in _SIZES if len(clips) < limit), "n>1M"),
        "links": _links(about),
    }


def _shares(rows: Rows, of: Any, length: str = "seconds") -> list[dict[str, Any]]:
    """Count and length of rows by a value, the longest first; `not stated` for none."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = found.setdefault(of(row) or "not stated", {"count": 0, "clips": 0, "seconds": 0.0})
        one["count"] += 1
        one["clips"] += row.get("clips", 1)
        one["seconds"] += row[length]
    return [{"name": name, **found[name]} for name in sorted(found, key=lambda name: (-found[name]["seconds"], name))]


def _of_two(row: Mapping[str, Any]) -> bool:
    return all(row[f"{person}_seen"] or row[f"{person}_heard"] for person in PERSONS)


def _seen(row: Mapping[str, Any]) -> int:
    return sum(bool(row[f"{person}_seen"]) for person in PERSONS)


def _hub_licence(sources: Rows) -> str:
    stated = {normal_licence(row["licence"]) for row in sources}
    only = stated.pop() if len(stated) == 1 else ""
    return only.lower() if only in _HUB_LICENCES else "other"


def _links(about: Mapping[str, Any]) -> dict[str, int]:
    out: dict[str, int] = {}
    for link in about["leaks"].get("found", ()):
        out[link["kind"]] = out.get(link["kind"], 0) + 1
    return dict(sorted(out.items()))


def _about_recipe(recipe: Mapping[str, Any]) -> str | None:
    loaded = _loaded(recipe)
    return " ".join(str(loaded.about).split()) if loaded else None


def _doc(recipe: Mapping[str, Any], name: str) -> str | None:
    """The first sentence of a stage's docstring: what the step does."""
    loaded = _loaded(recipe)
    stage = next((one for one in loaded.stages if one.name == name), None) if loaded else None
    if stage is None:
        return None
    text = type(stage).__doc__ or ""
    if not text or text.startswith("Attributes:"):
        text = import_module(type(stage).__module__).__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split()) or None


def _loaded(recipe: Mapping[str, Any]) -> Any:
    """The recipe where it is one that comes with the project; a file of somebody's is not run for a card."""
    from dyconv import recipes

    if recipe.get("own_file"):
        return None
    try:
        return recipes.load(str(recipe["name"])) if not recipes.is_file(str(recipe["name"])) else None
    except DyconvError:
        return None
