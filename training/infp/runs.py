"""What a training is: the sizes of the network and how it learns, by presets or from a JSON file.

A run is stored in every checkpoint. What does not change what is learnt (folders, workers, how often something is written)
is not part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dyconv.errors import UsageError
from dyconv.infp.config import STAGE1, STAGE2, Stage1Config, Stage2Config
from training.infp.data import Curriculum
from training.infp.stage1_objective import Weights

STAGES = ("stage1", "stage2")
PRECISIONS = ("float32", "bf16")
_MODELS: dict[str, dict[str, Any]] = {"stage1": {**STAGE1}, "stage2": {**STAGE2}}


@dataclass(frozen=True)
class TrainConfig:
    """How a stage learns.

    Attributes:
        batch: rows of a global batch, over all processes together; a step takes one.
        steps: of the whole training.
        rate: of learning, reached after `warmup` steps and falling to 0 over the last `cooldown` steps.
        betas, decay: of AdamW (with a decay of 0: Adam).
        clip: largest norm of the gradient.
        ema: decay of the running mean of the weights, which is what is kept in the end.
        accumulate: pieces that a process computes its part of a batch in, for less memory.
        precision: "float32", or "bf16" (autocast; weights and optimiser stay float32).
        seed: of weights, data and noise.
        augment, lanes, only, without: see `data.DataPlan`.
    """

    batch: int = 8
    steps: int = 100
    rate: float = 2e-4
    warmup: int = 10
    cooldown: int = 0
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    accumulate: int = 1
    precision: str = "float32"
    seed: int = 0
    augment: bool = True
    lanes: int = 8
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """
        Raises:
            UsageError: for values that no training can have.
        """
        for name in ("batch", "steps", "accumulate"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of 1 or more, found {getattr(self, name)}", hint="correct the config")
        if self.precision not in PRECISIONS:
            raise UsageError(f"expected the precision {' or '.join(PRECISIONS)}, found {self.precision!r}")


@dataclass(frozen=True)
class Stage1Train(TrainConfig):
    """
    Attributes:
        weights: of the terms of the loss.
        footing: steps at the start in which the encoder alone learns, from its auxiliary heads: they cost a sixth of a whole
            step, and a latent that tells something is what the renderer begins to learn from.
        judge_from: step from which on the adversary takes part; 0: never.
        judge_rate: its rate of learning.
        r1, r1_every: weight of its gradient penalty, and steps from one to the next.
        perceptual: use VGG19, whose weights must be on this machine.
        opened, per_visit, frames: see `data.DataPlan`.
    """

    weights: Weights = field(default_factory=Weights)
    footing: int = 0
    judge_from: int = 0
    judge_rate: float = 2e-4
    r1: float = 1.0
    r1_every: int = 16
    perceptual: bool = False
    opened: int = 6
    per_visit: int = 16
    frames: int = 64


@dataclass(frozen=True)
class Stage2Train(TrainConfig):
    """
    Attributes:
        curriculum, invent: see `data.DataPlan`.
    """

    rate: float = 1e-4
    decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    curriculum: Curriculum = field(default_factory=Curriculum)
    invent: float = 0.5


_TRAINS: dict[str, dict[str, TrainConfig]] = {
    "stage1": {
        "debug": Stage1Train(batch=8, steps=60, rate=1e-3, warmup=5, ema=0.99, judge_from=45, footing=2),
        "tiny128": Stage1Train(
            batch=12,
            steps=8_000,
            rate=3e-4,
            warmup=100,
            cooldown=3_000,
            precision="bf16",
            clip=5.0,
            footing=800,
            weights=Weights(region=2.0, heads=1.0),
        ),
        "tiny": Stage1Train(
            batch=16, steps=60_000, warmup=200, cooldown=6_000, precision="bf16", judge_from=30_000, clip=5.0, footing=2_000
        ),
        "base": Stage1Train(
            batch=64,
            steps=200_000,
            warmup=1_000,
            cooldown=20_000,
            precision="bf16",
            judge_from=50_000,
            clip=5.0,
            ema=0.9995,
            footing=5_000,
        ),
    },
    "stage2": {
        "debug": Stage2Train(batch=8, steps=120, rate=2e-3, warmup=10, ema=0.99),
        "tiny128": Stage2Train(
            batch=16, steps=6_000, rate=4e-4, warmup=150, cooldown=2_000, ema=0.998, curriculum=Curriculum(1_000, 1_000)
        ),
        "tiny": Stage2Train(
            batch=32, steps=40_000, rate=3e-4, warmup=200, cooldown=4_000, precision="bf16", curriculum=Curriculum(8_000, 8_000)
        ),
        "base": Stage2Train(
            batch=32,
            steps=200_000,
            warmup=1_000,
            cooldown=20_000,
            precision="bf16",
            ema=0.9995,
            curriculum=Curriculum(50_000, 50_000),
        ),
    },
}


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        stage: "stage1" or "stage2".
        preset: that it was made of.
    """

    stage: str
    preset: str
    model: Stage1Config | Stage2Config
    train: TrainConfig

    def to_json(self) -> dict[str, Any]:
        """As a file that `read_run` takes: JSON values only."""
        whole = {"stage": self.stage, "preset": self.preset, "model": asdict(self.model), "train": asdict(self.train)}
        return json.loads(json.dumps(whole))

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Fields in which a stored run differs, as "train.batch 8, not 16". The number of steps may be changed."""
        return [
            f"{name} {ours}, not {theirs}"
            for (name, ours), theirs in _paired(self.to_json(), other)
            if ours != theirs and name not in ("preset", "train.steps")
        ]


def _paired(ours: Mapping[str, Any], theirs: Mapping[str, Any], under: str = "") -> list[tuple[tuple[str, Any], Any]]:
    out: list[tuple[tuple[str, Any], Any]] = []
    for name in sorted({*ours, *theirs}):
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            out += _paired(one, other, f"{under}{name}.")
        else:
            out.append(((f"{under}{name}", one), other))
    return out


def read_run(stage: str, config: str, **changes: Any) -> Run:
    """The run of a preset's name or of a JSON file.

    Args:
        config: "debug", "tiny128", "tiny", "base", or the path of a file {"preset": ..., "model": {...}, "train": {...}}, which
            says what is different from the preset it names.
        changes: fields of the training to replace; None leaves one as it is.

    Raises:
        UsageError: for another stage or preset, a file that is none, or unknown fields.
    """
    if stage not in STAGES:
        raise UsageError(f"expected {' or '.join(STAGES)}, found {stage!r}")
    told: Mapping[str, Any] = {"preset": config}
    if config not in _TRAINS[stage]:
        told = _read(Path(config), stage)
    preset = told.get("preset")
    if preset not in _TRAINS[stage]:
        raise UsageError(f"{config}: expected preset {', '.join(_TRAINS[stage])}, found {preset!r}", hint="name one of them")
    train = changed(_TRAINS[stage][preset], told.get("train", {}), f"{config}: train")
    train = changed(train, {name: value for name, value in changes.items() if value is not None}, "the command")
    return Run(stage, preset, changed(_MODELS[stage][preset], told.get("model", {}), f"{config}: model"), train)


def changed(made: Any, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass with some fields replaced by JSON's values, nested ones too.

    Raises:
        UsageError: for fields that it does not have, or values of another kind.
    """
    known = {one.name: getattr(made, one.name) for one in fields(made)}
    if not isinstance(values, Mapping) or (unknown := sorted(set(values) - set(known))):
        found = ", ".join(unknown) if isinstance(values, Mapping) else repr(values)
        raise UsageError(f"{where}: expected fields of {type(made).__name__}, found {found}", hint=f"it has {', '.join(known)}")
    new: dict[str, Any] = {}
    for name, value in values.items():
        before = known[name]
        if hasattr(before, "__dataclass_fields__"):
            new[name] = changed(before, value, f"{where}.{name}")
            continue
        value = tuple(value) if isinstance(value, list) else value
        if isinstance(before, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(before):
            raise UsageError(f"{where}.{name}: expected a value like {before!r}, found {value!r}", hint="correct the config")
        new[name] = value
    return replace(made, **new)


def _read(path: Path, stage: str) -> Mapping[str, Any]:
    """
    Raises:
        UsageError: where it is no readable config of this stage.
    """
    if not path.is_file():
        raise UsageError(
            f"expected --config {', '.join(_TRAINS[stage])} or a JSON file, found {str(path)!r}", hint="check the path"
        )
    try:
        told = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}", hint="correct the file") from error
    if not isinstance(told, dict) or (unknown := set(told) - {"stage", "preset", "model", "train"}):
        found = f"also {', '.join(sorted(unknown))}" if isinstance(told, dict) else type(told).__name__
        raise UsageError(f"{path}: expected an object of preset, model and train, found {found}", hint="see docs/training.md")
    if told.get("stage", stage) != stage:
        raise UsageError(f"{path} is a config of {told['stage']}, not of {stage}", hint="name the stage it is for")
    return told
