"""Predictions against what really happened: a run's own sources, predicted from others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dyconv import recipes
from dyconv.errors import UsageError
from dyconv.ledger import SourceLog, stream_ledger
from dyconv.plan.cluster import Cluster, Nodes
from dyconv.plan.measure import measure, read_samples
from dyconv.plan.predict import Planner, Question
from dyconv.plan.rates import Rates, load_rates
from dyconv.recipe import Recipe
from dyconv.run_file import read_run
from dyconv.store import Store


@dataclass(frozen=True)
class Row:
    """One number, predicted and found. `low` and `high` bound it nine times of ten, where that can be said.

    `given` is of a stage what its rates alone say: for the items and media that really reached it.
    """

    what: str
    predicted: float
    found: float
    low: float | None = None
    high: float | None = None
    given: float | None = None

    @property
    def error(self) -> float:
        """Predicted against found, as a share: 0.1 is ten percent too much."""
        return self.predicted / self.found - 1 if self.found else 0.0


def compare(store: Store, rates: Path | None = None, recipe: Recipe | None = None) -> list[Row]:
    """Predict the sources of a finished run and compare.

    Args:
        store: the run.
        rates: where to predict from; without it every second source of the run predicts the others.
        recipe: of the run, if it is no installed one and no file.

    Raises:
        UsageError: if there is no such run, or too little in it.
    """
    odd = _every_second(store)
    found = measure(store, (lambda log: log.id in odd) if rates is None else lambda log: True)
    known = measure(store, lambda log: log.id not in odd) if rates is None else load_rates(rates)
    return compare_rates(known, found, recipe or _recipe(store), wall_of(store) if rates is not None else None)


def compare_rates(known: Rates, found: Rates, recipe: Recipe, wall: tuple[float, int] | None = None) -> list[Row]:
    """Predict the sources `found` was measured on from what is `known`.

    Args:
        wall: seconds that the run took on the clock, and its workers.
    """
    lengths = [sample.media_s for sample in found.samples]
    mean = sum(lengths) / max(1, sum(length > 0 for length in lengths))
    lengths = [length or mean for length in lengths]  # nobody knows the length of what never came
    workers = wall[1] if wall else 1
    planner = Planner(known, recipe, Cluster((Nodes(1, 1e6, gpus=1e6),), local=True))
    answer = planner.predict(Question(lengths, workers=workers))
    rows = []
    for stage in answer.stages:
        met = [sample.work.get(stage.name, (0, 0.0, 0.0)) for sample in found.samples]
        items, media, seconds = (sum(each[part] for each in met) for part in range(3))
        rate = known.stage(stage.name)
        given = rate.fixed_s * items + rate.per_media_s * media if rate else None
        rows.append(Row(f"{stage.name}, seconds", stage.work.value, seconds, stage.work.low, stage.work.high, given))
    total, given = sum(row.found for row in rows), sum(row.given or 0.0 for row in rows)
    rows.append(Row("all stages, seconds", answer.worker_s, total, given=given))
    written = float(sum(sum(sample.written.values()) for sample in found.samples))
    rows.append(Row("work folder, bytes", answer.work_bytes.value, written, answer.work_bytes.low, answer.work_bytes.high))
    kept = sum(sample.kept_s for sample in found.samples)
    rows.append(Row("kept, seconds", answer.kept_s.value, kept, answer.kept_s.low, answer.kept_s.high))
    if wall:
        rows.append(Row("on the clock, seconds", answer.wall_s.value - answer.pack_s, wall[0]))
    return rows


def _every_second(store: Store) -> set[str]:
    names = [log.id for log in _complete(store)]
    if len(names) < 2:
        raise UsageError(
            f"{store} has {len(names)} finished sources, at least 2 are needed", hint="or give --rates of another run"
        )
    return set(names[1::2])


def _complete(store: Store) -> list[SourceLog]:
    return [log for log in stream_ledger(store) if log.complete and log.events]


def _recipe(store: Store) -> Recipe:
    run = read_run(store)
    if run is None:
        raise UsageError(f"{store} is no output folder of a run", hint="give the --out of a `dyconv run` that is finished")
    return recipes.load(run.get("recipe_file") or run["recipe"])


def wall_of(store: Store) -> tuple[float, int] | None:
    """Seconds and workers of the run, if its metrics say so and it found nothing done."""
    samples = read_samples(store)
    if samples is None or samples.total("dyconv_reused_total"):
        return None
    seconds, spent = samples.total("dyconv_run_seconds"), samples.total("dyconv_worker_seconds_total")
    return (seconds, max(1, round(spent / seconds))) if seconds and spent else None


def show(rows: list[Row]) -> str:
    """Lines for a person."""
    lines = [f"{'':<26}{'predicted':>14}{'found':>14}{'error':>8}{'rates alone':>14}   nine times of ten"]
    for row in rows:
        bounds = "" if row.low is None or row.high is None else f"   {row.low:,.1f} to {row.high:,.1f}"
        alone = f"{row.given / row.found - 1:+.0%}" if row.given is not None and row.found else ""
        lines.append(f"{row.what:<26}{row.predicted:>14,.1f}{row.found:>14,.1f}{row.error:>+8.0%}{alone:>14}{bounds}")
    return "\n".join(lines)
