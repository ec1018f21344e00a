"""`release.json`: what a release says of itself, checked before anything is taken from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dyconv.bounds import parse_object
from dyconv.release.model import RELEASE, Kind, ReleaseError, is_version
from dyconv.store import Store

_HINT = "run `dyconv check` on the release"
_COUNTS = ("clips", "hours", "sources", "people", "shards", "turns")


def read_about(store: Store) -> dict[str, Any]:
    """What the `release.json` of a release says.

    Raises:
        ReleaseError: if it is damaged.
        StoreError: if it is not there.
    """
    return parse_about(store.read_bytes(RELEASE), f"{store}/{RELEASE}")


def parse_about(data: bytes, where: str) -> dict[str, Any]:
    """As `read_about`, from its bytes.

    Raises:
        ReleaseError: naming the first field that is not what a release writes.
    """
    about = parse_object(data, where, kind=ReleaseError, hint=_HINT)
    for name, check in _CHECKS.items():
        if name not in about or not check(about[name]):
            raise ReleaseError(f"{where}: its {name} is {str(about.get(name))[:80]!r}", hint=_HINT)
    return about


def _recipe(value: Any) -> bool:
    stages = value.get("stages") if isinstance(value, dict) else None
    known = isinstance(stages, list) and all(
        isinstance(stage, dict) and isinstance(stage.get("name"), str) and isinstance(stage.get("config", {}), dict)
        for stage in stages
    )
    return (
        known
        and type(value.get("own_file")) is bool
        and isinstance(value.get("name"), str)
        and isinstance(value.get("versions", {}), dict)
    )


def _leaks(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("limits", {}), dict):
        return False
    models = all(isinstance(value.get(name, 0), str | None) for name in ("voice_model", "face_model"))
    return models and _numbers(value.get("limits", {})) and _list_of(_link)(value.get("found", []))


def _link(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("kind"), str) and _list_of(_text)(value.get("sources"))


def _totals(value: Any) -> bool:
    return isinstance(value, dict) and _numbers(value) and all(name in value for name in _COUNTS)


def _splits(value: Any) -> bool:
    made = value.get("made") if isinstance(value, dict) else None
    return isinstance(made, dict) and all(isinstance(one, dict) and _numbers(one) for one in made.values())


def _numbers(value: Mapping[str, Any]) -> bool:
    return all(type(one) in (int, float) and abs(one) < 1e15 for one in value.values())


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "name": _text,
    "version": lambda value: isinstance(value, str) and is_version(value),
    "kind": lambda value: isinstance(value, str) and value in set(Kind),
    "date": lambda value: isinstance(value, str | None),
    "recipe": _recipe,
    "splits": _splits,
    "leaks": _leaks,
    "totals": _totals,
    "audit": lambda value: isinstance(value, dict | None),
}
