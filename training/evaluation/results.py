"""What an evaluation found, as plain data: `report.json` and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from training.evaluation.reading import Unfit, build, read_json

SCHEMA = 1
GROUND_TRUTH = "ground truth"  # the name of the system whose videos are the true ones
_AGAIN = "write it again with this version of `python -m training.evaluate`"

INFINITE = "infinite"
TOO_LITTLE = "too little to tell"
NOTHING = "nothing to measure"


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        value: None where there is none; `word` then says why.
        low, high: 95 % interval, None where there is none; `interval` says how it was made, or why there is none.
        cases, units, frames: that went into it.
    """

    system: str
    view: str
    slice: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    word: str = ""
    interval: str = ""
    cases: int = 0
    units: int = 0
    frames: int = 0


@dataclass(frozen=True)
class Difference:
    """A system's number less another's, on the same cases (paired) or on two sets (not paired). Fields as in `Result`."""

    system: str
    against: str
    view: str
    slice: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    word: str = ""
    interval: str = ""
    paired: bool = True
    units: int = 0

    @property
    def shown(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Described:
    """A metric, for a reader. `group` is the table it stands in."""

    name: str
    better: str
    unit: str
    about: str
    group: str = ""


@dataclass(frozen=True)
class DataSet:
    """What was measured: `hash` tells two states of a set apart; `about` holds clips, hours, sources, ..."""

    name: str
    hash: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemInfo:
    """What made the videos. `version` changes whenever they would."""

    name: str
    version: str
    about: str = ""


@dataclass(frozen=True)
class About:
    """How the numbers came to be: all that has to agree before they are put beside others.

    Attributes:
        features: how expression and pose are told.
        clusters: (expression, pose) numbers K of SID.
        weights: sha256 of networks by name.
        more: anything else worth telling.
    """

    command: str
    dyconv: str
    torch: str
    device: str
    seed: int
    data: tuple[DataSet, ...]
    systems: tuple[SystemInfo, ...]
    views: tuple[str, ...]
    features: tuple[str, ...]
    clusters: tuple[tuple[int, int], ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unavailable:
    """A metric that could not be measured at all: why, and the command that changes that."""

    name: str
    why: str
    fix: str


@dataclass(frozen=True)
class Problem:
    """A case that was not measured, or not by everything. Empty fields are not about one case, system or view."""

    message: str
    hint: str = ""
    case: str = ""
    system: str = ""
    view: str = ""


@dataclass(frozen=True)
class SampleVideo:
    """A side-by-side video beside the report."""

    path: str
    case: str
    view: str
    columns: tuple[str, ...]
    sound: str = ""


@dataclass(frozen=True)
class Distribution:
    """A histogram over frames for each system: shares of equally wide bins from `low` to `high`, summing to 1."""

    title: str
    unit: str
    view: str
    low: float
    high: float
    shares: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Report:
    """Everything that `report.json` holds. `profile` is seconds by kind of work, and may be nested by system."""

    about: About
    metrics: tuple[Described, ...]
    results: tuple[Result, ...]
    differences: tuple[Difference, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
    problems: tuple[Problem, ...] = ()
    profile: Mapping[str, float] = field(default_factory=dict)
    samples: tuple[SampleVideo, ...] = ()
    distributions: tuple[Distribution, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: no NaN, no infinity."""
        return {"schema": SCHEMA, **_plain(asdict(self))}

    @classmethod
    def from_json(cls, data: Any, where: str = "report.json") -> Report:
        """
        Args:
            data: as of `to_json`.
            where: the file it is from, for errors.

        Raises:
            UsageError: where it is of another schema, or something is missing or of another type.
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if schema != SCHEMA:
            found = "none" if schema is None else repr(schema)[:40]
            raise UsageError(f"{where}: expected a report of schema {SCHEMA}, found {found}", hint=_AGAIN)
        try:
            return build(cls, {name: value for name, value in data.items() if name != "schema"})
        except Unfit as error:
            raise UsageError(f"{where}: {error}", hint=_AGAIN) from error

    @classmethod
    def read(cls, path: Path) -> Report:
        """The report in a file, or in a folder's `report.json`.

        Raises:
            UsageError: as of `from_json`, or where there is no such file.
        """
        file = path / "report.json" if path.is_dir() else path
        return cls.from_json(read_json(file, "report", "give a report.json of `python -m training.evaluate`"), str(file))

    def dumps(self) -> str:
        """The text of `report.json`; equal reports give equal text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def number(value: float) -> tuple[float | None, str]:
    """A float for JSON: the value and "", or None and the word for what it is instead."""
    if math.isnan(value):
        return None, TOO_LITTLE
    if math.isinf(value):
        return None, INFINITE if value > 0 else f"minus {INFINITE}"
    return float(value), ""


def _plain(value: Any) -> Any:
    """JSON of nested data: mappings in the order of their names, numbers that JSON lacks as None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(value[name]) for name in value}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return number(value)[0]
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # NumPy's numbers
        return _plain(value.item())
    return str(value)
