"""Recipes by name (`demo`: `pipelines/demo.py`) or by the path of a Python file. Either holds one `RECIPE`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType

from dyconv.errors import DyconvError, UsageError
from dyconv.recipe import Recipe

_PREFIX = "dyconv_recipe_"  # a recipe file may be called like a package: its module never is


def load(ref: str) -> Recipe:
    """The recipe `ref` names.

    Raises:
        UsageError: if there is none, saying which there are.
    """
    module = load_file(ref) if is_file(ref) else _load_name(ref)
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UsageError(f"{module.__file__} holds no recipe", hint="it must define RECIPE = Recipe(...)")
    return recipe


def is_file(ref: str) -> bool:
    """Whether `ref` is meant as a path and not as a name."""
    return ref.endswith(".py") or "/" in ref


def names() -> list[str]:
    """The recipes that come with the project, in alphabetical order."""
    package = importlib.import_module("pipelines")
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        path = Path(package.__path__[0]) / f"{module.name}.py"
        if path.is_file() and any(line.startswith(("RECIPE =", "RECIPE:")) for line in path.read_text().splitlines()):
            found.append(module.name)
    return sorted(found)


def load_file(path: str) -> ModuleType:
    """Import a recipe file once under a name of its own, the same in every process.

    Raises:
        UsageError: if there is no such file.
    """
    found = Path(path).absolute()
    name = _PREFIX + found.stem
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(found):
        return loaded
    if not found.is_file():
        raise UsageError(f"no recipe file {found}", hint=f"recipes known by name: {', '.join(names())}")
    spec = importlib.util.spec_from_file_location(name, found)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception) and not isinstance(error, DyconvError):
            where = traceback.extract_tb(error.__traceback__)[-1]
            line = error.lineno if isinstance(error, SyntaxError) else where.lineno
            raise UsageError(
                f"recipe {found} cannot be read: line {line}: {type(error).__name__}: {error}",
                hint=f"python {found} shows the whole traceback",
            ) from error
        raise
    return module


def _load_name(name: str) -> ModuleType:
    known = names()
    if name not in known:
        raise UsageError(f"no recipe called {name!r}", hint=f"there are: {', '.join(known)}; or give the path of a .py file")
    return importlib.import_module(f"pipelines.{name}")
