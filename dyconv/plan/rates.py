"""Rates of a finished run, as a file: what each stage took, passed on and wrote, source by source, without any names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dyconv.bounds import parse_object
from dyconv.errors import UsageError
from dyconv.records import dump
from dyconv.stages.base import Stage

SCHEMA = 1


@dataclass(frozen=True)
class StageRate:
    """One stage.

    Attributes:
        settings: of the stage, see `settings_of`.
        fixed_s, per_media_s: seconds of work an item, and for each second of its media.
        setup_s: seconds a worker needs before its first item (models, imports).
        items: how many were measured.
    """

    name: str
    level: int
    settings: str
    fixed_s: float
    per_media_s: float
    setup_s: float
    items: int


@dataclass(frozen=True)
class Sample:
    """One source of the measured run.

    Attributes:
        media_s: its length, 0 if it never came.
        work: by stage: items that went in, their seconds of media, seconds of work.
        written: bytes in the work folder, by `stage/asset`.
        kept_s, kept: seconds and number of clips that were kept.
    """

    media_s: float
    work: dict[str, tuple[int, float, float]]
    written: dict[str, int]
    kept_s: float
    kept: int


@dataclass(frozen=True)
class Rates:
    """Everything a prediction is made from.

    Attributes:
        about: where and how it was measured, for a person.
        shard_bytes_per_s: of each second that is kept.
        startup_s: from the start of the run to the first stage's.
    """

    recipe: str
    about: dict[str, Any]
    stages: tuple[StageRate, ...]
    samples: tuple[Sample, ...]
    shard_bytes_per_s: float
    startup_s: float
    notes: tuple[str, ...] = field(default=())

    def stage(self, name: str) -> StageRate | None:
        return next((stage for stage in self.stages if stage.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    def text(self) -> str:
        """One sample a line: the file is for people too."""
        data = self.to_json()
        samples = ",\n  ".join(json.dumps(sample, ensure_ascii=False) for sample in data.pop("samples"))
        head = json.dumps(data, indent=1, ensure_ascii=False)
        return f'{head[:-2]},\n "samples": [\n  {samples}\n ]\n}}\n'

    @classmethod
    def from_json(cls, data: Any, where: str) -> Rates:
        """
        Raises:
            UsageError: if it is no rates file.
        """
        try:
            if data["schema"] != SCHEMA:
                raise UsageError(
                    f"{where} has schema {data['schema']!r}, expected {SCHEMA}", hint="measure it anew: dyconv plan measure"
                )
            return cls(
                recipe=str(data["recipe"]),
                about=dict(data["about"]),
                stages=tuple(StageRate(**_numbers(stage, "fixed_s", "per_media_s", "setup_s")) for stage in data["stages"]),
                samples=tuple(_sample(item) for item in data["samples"]),
                shard_bytes_per_s=_number(data["shard_bytes_per_s"]),
                startup_s=_number(data["startup_s"]),
                notes=tuple(str(note) for note in data.get("notes", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"{where} is no rates file: {type(error).__name__}: {error}", hint="`dyconv plan measure OUT` writes one"
            ) from error


def _number(value: Any) -> float:
    number = float(value)
    if not 0 <= number < 1e15:
        raise ValueError(f"expected a number of at least 0, found {value!r}")
    return number


def _numbers(data: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**data, **{name: _number(data[name]) for name in names}}


def _sample(data: dict[str, Any]) -> Sample:
    work = {name: (int(_number(count)), _number(media), _number(spent)) for name, (count, media, spent) in data["work"].items()}
    written = {str(name): int(_number(size)) for name, size in data["written"].items()}
    return Sample(_number(data["media_s"]), work, written, _number(data["kept_s"]), int(_number(data["kept"])))


def settings_of(stage: Stage) -> str:
    """Twelve hex digits that change when the stage's version or one of its fields does."""
    return settings_hash(stage.name, stage.version, stage.config())


def settings_hash(name: str, version: int, config: dict[str, Any]) -> str:
    return hashlib.sha256(dump([name, version, config])).hexdigest()[:12]


def load_rates(path: Path | None) -> Rates:
    """Rates of a file, or of a finished run's folder; without a path those that come with the project.

    Raises:
        UsageError: if there are none.
    """
    if path is None:
        text = resources.files("dyconv.plan").joinpath("default_rates.json").read_text()
        return Rates.from_json(json.loads(text), "the packaged rates")
    if path.is_dir():
        from dyconv.plan.measure import measure
        from dyconv.store import Store

        return measure(Store(path))
    hint = "`dyconv plan measure OUT` writes one"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no rates file {path}", hint=hint) from error
    except OSError as error:
        raise UsageError(f"cannot read rates file {path}: {error.strerror}", hint=hint) from error
    return Rates.from_json(parse_object(data, str(path), hint=hint), str(path))
