"""A recipe: the ordered stages of a dataset, readable as its method section."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyconv.errors import UsageError
from dyconv.records import Key
from dyconv.stages.base import Limit, Resources, Stage


@dataclass(frozen=True)
class Recipe:
    """Named stages in order.

    Attributes:
        name: what the command line calls it.
        about: one paragraph for a person.
        stages: in order; the first one starts from a source's row.
        pack: which assets go into the shards, in which of the two aligned tar families: `clips` or `motion`.
        samples_per_shard: clips in one tar.
        resources: what a worker of a stage asks for, where it is not the stage's own default; by stage name.
        limits: how long a stage may work on one clip, where it is not the stage's own default; by stage name.
        max_failure_rate: the run stops above this share of failed clips (after at least 20).
    """

    name: str
    about: str
    stages: tuple[Stage, ...]
    pack: tuple[Key, ...] = ()
    samples_per_shard: int = 64
    resources: dict[str, Resources] = field(default_factory=dict)
    limits: dict[str, Limit] = field(default_factory=dict)
    max_failure_rate: float = 0.5

    def __post_init__(self) -> None:
        have: set[Key] = set()
        for stage in self.stages:
            lacking = stage.needs - have
            if lacking:
                raise UsageError(
                    f"recipe {self.name}: stage {stage.name} needs {', '.join(sorted(lacking))}, which no stage before it gives"
                )
            have = (set() if stage.splits else have) | stage.gives
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise UsageError(f"recipe {self.name}: a stage stands in it twice: {', '.join(names)}")
        for what, given in (("resources", self.resources), ("limits", self.limits)):
            if unknown := given.keys() - set(names):
                raise UsageError(f"recipe {self.name}: {what} for stages it does not have: {', '.join(sorted(unknown))}")

    def asks(self, stage: Stage) -> Resources:
        """What one worker of the stage asks for in this recipe."""
        return self.resources.get(stage.name, stage.resources)

    def limit(self, stage: Stage) -> Limit:
        """How long a worker may take for one clip of the stage in this recipe."""
        return self.limits.get(stage.name, stage.limit)

    def stage(self, name: str) -> Stage:
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise UsageError(f"recipe {self.name} has no stage {name!r}", hint=f"it has: {known}")
