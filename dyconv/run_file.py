"""`run.json` of an output folder: which recipe with which stages made it."""

from __future__ import annotations

from typing import Any

from dyconv.bounds import parse_object
from dyconv.errors import StoreError
from dyconv.ledger import RUN_FILE
from dyconv.store import Store

_HINT = "delete it and run again: nothing that is finished is made anew"


def read_run(store: Store) -> dict[str, Any] | None:
    """What the last run noted of itself, or None where there is no such file.

    Raises:
        StoreError: if it is damaged.
    """
    if not store.exists(RUN_FILE):
        return None
    where = f"{store}/{RUN_FILE}"
    run = parse_object(store.read_bytes(RUN_FILE), where, kind=StoreError, hint=_HINT)
    stages, levels = run.get("stages"), run.get("levels")
    sound = (
        *(isinstance(run.get(name), str) for name in ("recipe", "recipe_fingerprint", "manifest_sha256")),
        "recipe_file" in run and isinstance(run["recipe_file"], str | None),
        isinstance(levels, dict) and all(type(level) is int and 0 <= level < 100 for level in levels.values()),
        isinstance(stages, list) and all(_is_stage(stage, levels) for stage in stages),
        isinstance(run.get("versions"), dict),
    )
    if not all(sound):
        raise StoreError(f"{where} is not what a run writes: expected recipe, stages, levels and versions", hint=_HINT)
    return run


def _is_stage(stage: Any, levels: Any) -> bool:
    named = isinstance(stage, dict) and isinstance(stage.get("name"), str) and isinstance(stage.get("config"), dict)
    return named and isinstance(levels, dict) and stage["name"] in levels
