"""One contract over every stage: those in `dyconv/stages`, and those of every recipe that comes with the project."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import dyconv.stages
from dyconv import recipes
from dyconv.models.catalogue import MODELS
from dyconv.records import Key
from dyconv.stages.base import Resources, Stage
from tests.fakes import Fetch


def stage_classes() -> list[type[Stage]]:
    found = set()
    for module in pkgutil.iter_modules(dyconv.stages.__path__, "dyconv.stages."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, Stage) and kind is not Stage:
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__name__)


CLASSES = stage_classes()
RECIPES = {name: recipes.load(name) for name in recipes.names()}
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
each_recipe = pytest.mark.parametrize("name", sorted(RECIPES))


def other(value: Any) -> Any:
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        return value[:-1] if value else ("x",)
    if value is None:
        return "x"
    raise AssertionError(f"a field of type {type(value).__name__} has no plain JSON form")


def test_there_are_stages_and_each_is_in_a_recipe() -> None:
    used = {type(stage) for recipe in RECIPES.values() for stage in recipe.stages}
    assert CLASSES and set(CLASSES) <= used
    assert len({kind.name for kind in CLASSES}) == len(CLASSES)


@each_class
def test_a_stage_is_a_documented_frozen_dataclass(kind: type[Stage]) -> None:
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert len(inspect.getdoc(kind) or "") > 30 and not (inspect.getdoc(kind) or "").startswith(f"{kind.__name__}(")
    documented = (inspect.getdoc(kind) or "") + (inspect.getmodule(kind).__doc__ or "")  # type: ignore[union-attr]
    missing = [field.name for field in dataclasses.fields(kind) if field.name not in documented]
    assert not missing, f"fields that no docstring explains: {missing}"


@each_class
def test_a_stage_declares_what_it_takes_and_gives(kind: type[Stage]) -> None:
    assert kind.name == kind.__module__.rsplit(".", 1)[-1], "a stage's file is called after it"
    assert isinstance(kind.version, int) and kind.version >= 1
    for declared in (kind.needs, kind.gives, kind.optional):
        assert isinstance(declared, frozenset) and all(isinstance(key, Key) for key in declared)
    assert kind.optional <= kind.gives and kind.gives
    assert isinstance(kind.resources, Resources)


@each_class
def test_its_configuration_is_plain_json_and_it_survives_the_way_to_a_worker(kind: type[Stage]) -> None:
    stage = kind()
    assert json.loads(json.dumps(stage.config())) == stage.config()
    left_out = {field.name for field in dataclasses.fields(stage)} - set(stage.config())  # type: ignore[arg-type]
    assert not left_out or (kind.config is not Stage.config and kind.config.__doc__), "why these do not count must be said"
    assert pickle.loads(pickle.dumps(stage)) == stage and hash(stage) == hash(kind())  # noqa: S301
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.__setattr__(next(iter(stage.config()), "any"), 1)


@each_class
def test_its_configuration_and_nothing_else_changes_the_fingerprint(kind: type[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    stage = kind()
    base = stage.fingerprint("up", ("w",))
    assert base == kind().fingerprint("up", ("w",)) and len(base) == 64
    assert stage.fingerprint("down", ("w",)) != base and stage.fingerprint("up", ("v",)) != base
    for field in dataclasses.fields(stage):  # type: ignore[arg-type]
        changed = kind()
        object.__setattr__(changed, field.name, other(getattr(stage, field.name)))
        counts = field.name in stage.config()
        assert (changed.fingerprint("up", ("w",)) != base) == counts, field.name
    monkeypatch.setattr(kind, "resources", Resources(cpus=7, gpus=1, memory=5))
    assert kind().fingerprint("up", ("w",)) == base
    monkeypatch.setattr(kind, "version", kind.version + 1)
    assert kind().fingerprint("up", ("w",)) != base


@each_class
def test_its_models_are_in_the_registry(kind: type[Stage]) -> None:
    known = {spec.name for spec in MODELS}
    assert set(kind().models()) <= known


@each_recipe
def test_a_recipe_says_what_it_makes(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name and len(recipe.about) > 60
    given = {key for stage in recipe.stages for key in stage.gives}
    assert recipe.pack and set(recipe.pack) <= given
    known = {spec.name for spec in MODELS}
    assert {model for stage in recipe.stages for model in stage.models()} <= known


def test_recipes_load_without_heavy_packages() -> None:
    """`dyconv run` with nothing to do must answer at once: what stages need is imported when they start."""
    code = (
        "import sys; from dyconv import recipes; [recipes.load(name) for name in recipes.names()];"
        "print(sorted({'torch','ray','mediapipe','scenedetect','pyannote','matplotlib','cv2','yt_dlp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_contract_notices_what_is_wrong() -> None:
    """The checks above fail on a stage that breaks them."""
    assert other(Fetch().seconds) != Fetch().seconds
    with pytest.raises(AssertionError):
        other(object())
