"""Plain data into dataclasses, with every type checked, and errors that say where it did not fit."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dyconv.errors import UsageError

T = TypeVar("T")

_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
    tuple: "a list",
    list: "a list",
    Mapping: "an object",
    dict: "an object",
}


class Unfit(Exception):
    """Data that does not fit; the message says where, what was expected and what was found."""


def read_json(path: Path, what: str, hint: str) -> Any:
    """
    Raises:
        UsageError: where there is no such file, or it is not strict JSON.
    """

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise UsageError(f"{path}: no {what} can be read there ({error.strerror})", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no {what}: {error}", hint=hint) from error


def build(kind: type[T], data: Any, where: str = "") -> T:
    """A dataclass of plain data; fields with a default may be missing, unknown ones are refused.

    Raises:
        Unfit: where something is missing, unknown or of another type.
    """
    if not isinstance(data, Mapping):
        raise _unfit(where, "an object", data)
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise Unfit(f"{where or 'the object'} has an unknown field {unknown[0]!r}")
    values = {}
    for name, item in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}" if where else name)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise Unfit(f"{where or 'the object'} lacks the field {name!r}")
    return kind(**values)


def _value(hint: Any, data: Any, where: str) -> Any:
    if hint is Any:
        return data
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if data is None and type(None) in inner else _value(_only(inner), data, where)
    if origin is tuple:
        return _tuple(inner, data, where)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise _unfit(where, "an object", data)
        return {name: _value(inner[1], value, f"{where}.{name}") for name, value in data.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), data, where)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise _unfit(where, _WORDS.get(hint, str(hint)), data)
    return data


def _tuple(inner: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise _unfit(where, "a list", data)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_value(inner[0], value, f"{where}[{number}]") for number, value in enumerate(data))
    if len(inner) != len(data):
        raise Unfit(f"{where}: expected a list of {len(inner)}, found {len(data)}")
    pairs = zip(inner, data, strict=True)
    return tuple(_value(hint, value, f"{where}[{number}]") for number, (hint, value) in enumerate(pairs))


def _only(inner: tuple[Any, ...]) -> Any:
    return next(hint for hint in inner if hint is not type(None))


def _unfit(where: str, wanted: str, data: Any) -> Unfit:
    found = _WORDS.get(type(data), type(data).__name__) if not isinstance(data, str | int | float) else repr(data)[:60]
    return Unfit(f"{where or 'the file'}: expected {wanted}, found {found}")
