"""From rates, a recipe, lengths and a cluster to hours, bytes and money, with an interval.

For every stage: items and seconds of media that reach it, as in the measured run; work is `fixed * items + per second *
media`. The interval comes from measuring again on sources drawn with replacement (bootstrap): once for what was
measured, once for the sources to come, whose luck may be as different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dyconv.errors import UsageError
from dyconv.plan.answer import Interval, PoolPlan, Prediction, StagePlan
from dyconv.plan.cluster import Cluster
from dyconv.plan.pools import pools_of
from dyconv.plan.rates import Rates, settings_of
from dyconv.plan.schedule import makespan
from dyconv.plan.sums import Floats, Outcome, Sums
from dyconv.pools import Pool
from dyconv.recipe import Recipe

_DRAWS = 400
_FEWEST = 4  # sources below which a spread says nothing
_INTERVAL = (5, 95)  # percent
_SETTLED = 20_000  # sources to come above which their luck is even
_LONGEST = ("max_segment_s", "max_clip_s")  # fields of stages that cut
_PACK_BYTES_PER_S = 100e6  # of the driver: reading, hashing, writing
_SPOT_LOST_PER_HOUR = 0.05  # times an hour that a spot machine is taken away


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        lengths: seconds of each source, in order.
        workers: of each pool, if not as many as fit; on this machine of all together.
        factors: by stage or `all`: times as fast as where the rates were measured.
        months: for which storage is paid.
    """

    lengths: Sequence[float]
    workers: int | None = None
    factors: Mapping[str, float] = field(default_factory=dict)
    months: float = 1.0


class Planner:
    """Predicts for one recipe, one set of rates and one cluster.

    Raises:
        UsageError: if a stage of the recipe was not measured.
        ResourceError: if a stage fits on no machine of the cluster.
    """

    def __init__(self, rates: Rates, recipe: Recipe, cluster: Cluster) -> None:
        self.rates, self.recipe, self.cluster = rates, recipe, cluster
        missing = [stage.name for stage in recipe.stages if rates.stage(stage.name) is None]
        if missing:
            raise UsageError(
                f"recipe {recipe.name}: no rates of {', '.join(missing)}; measured are "
                f"{', '.join(stage.name for stage in rates.stages)}",
                hint="run the recipe on a few sources, then give that folder: dyconv plan --rates OUT",
            )
        self.changed = [
            stage.name for stage in recipe.stages if (rate := rates.stage(stage.name)) and rate.settings != settings_of(stage)
        ]
        self._names = [stage.name for stage in recipe.stages]
        self._sums = Sums(rates, self._names, _longest(recipe))
        pools_of(recipe, cluster)  # says so at once if something fits nowhere

    def predict(self, question: Question) -> Prediction:
        """Predict for these sources."""
        lengths = np.asarray(question.lengths, float)
        sums, count, media = self._sums, len(lengths), float(lengths.sum())
        speed = np.array([question.factors.get(name, 1.0) * question.factors.get("all", 1.0) for name in self._names])
        whole = sums.outcome(np.ones((1, sums.count)), count, media)
        draws = self._draws(count, media)
        work = whole.work[0] / speed
        pools = pools_of(self.recipe, self.cluster, question.workers)
        spread = draws.work / speed if draws is not None else None

        def interval(value: float, drawn: Floats | None, base: float | None = None) -> Interval:
            if drawn is None or not len(drawn):
                return Interval(value)
            low, high = np.percentile(drawn, _INTERVAL)
            return Interval(value, max(0.0, float(low)), float(high))

        stages = tuple(
            StagePlan(
                name,
                float(whole.items[0, index]),
                float(whole.media[0, index]),
                interval(float(work[index]), spread[:, index] if spread is not None else None),
                next(number for number, pool in enumerate(pools) if index in pool.steps),
            )
            for index, name in enumerate(self._names)
        )
        planned, wall, longest = self._wall(pools, lengths, dict(zip(self._names, work, strict=True)), whole)
        kept_s = interval(float(whole.kept_s[0]), draws.kept_s if draws is not None else None)
        shards = kept_s.times(self.rates.shard_bytes_per_s)
        pack_s = shards.value / _PACK_BYTES_PER_S if self.recipe.pack else 0.0
        wall += self.rates.startup_s + pack_s
        wall_s = interval(wall, spread.sum(axis=1) * wall / max(work.sum(), 1e-9) if spread is not None else None)
        written = interval(float(whole.written[0]), draws.written if draws is not None else None)
        price = self.cluster.price_per_hour
        stored = (written.value + shards.value) / 1e9
        storage, egress = self.cluster.storage_gb_month, self.cluster.egress_gb
        return Prediction(
            sources=count,
            media_s=media,
            kept=float(whole.kept[0]),
            kept_s=kept_s,
            stages=stages,
            pools=planned,
            wall_s=wall_s,
            bottleneck=_bottleneck(planned, longest, wall),
            longest_s=longest,
            pack_s=pack_s,
            work_bytes=written,
            shard_bytes=shards,
            download_bytes=float(whole.fetched[0]),
            moved_bytes=self._moved(whole),
            compute_cost=None if price is None else wall_s.times(price / 3600),
            storage_cost=None if storage is None else stored * storage * question.months,
            egress_cost=None if egress is None else shards.value / 1e9 * egress,
            assumptions=self._assumptions(question, lengths),
        )

    def _draws(self, count: int, media: float) -> Outcome | None:
        """What other luck would have given, [draws, ...]; None where too few sources were measured."""
        sums = self._sums
        if sums.count < _FEWEST:
            return None
        chance = np.random.default_rng(0)
        even = np.full(sums.count, 1 / sums.count)
        measured = sums.outcome(chance.multinomial(sums.count, even, _DRAWS).astype(float), count, media)
        whole = sums.outcome(np.ones((1, sums.count)), count, media)
        to_come = None
        if count <= _SETTLED:
            to_come = sums.outcome(chance.multinomial(count, even, _DRAWS).astype(float), count, media)
        return measured.spread(whole, _small_sample(sums.count), to_come)

    def _wall(
        self, pools: Sequence[Pool], lengths: Floats, work: Mapping[str, float], whole: Outcome
    ) -> tuple[tuple[PoolPlan, ...], float, float]:
        """Pools, seconds on the clock, and the longest source's own time."""
        planned, walls, longest_parts = [], [], []
        share = lengths / max(float(lengths.sum()), 1e-9)
        levels = {stage.name: stage for stage in self.rates.stages}
        before = [name for name in self._names if levels[name].level == 0]
        pieces = max(
            1.0, max((float(whole.items[0, i]) for i, name in enumerate(self._names) if levels[name].level), default=1.0)
        )
        redo = 1.0 + self.cluster.spot_share * _SPOT_LOST_PER_HOUR * sum(work.values()) / max(pieces, 1) / 3600
        for pool in pools:
            names, many = [self._names[index] for index in sorted(pool.steps)], pool.most
            setup = sum(levels[name].setup_s for name in names)
            first = sum(work[name] for name in names if name in before)
            later = sum(work[name] for name in names if name not in before)
            count = np.maximum(1, np.rint(pieces * share)).astype(np.int64) if later else np.zeros(len(share), np.int64)
            one, each = first * redo * share, later * redo * share / np.maximum(count, 1)
            spent = setup + makespan(one, count, each, many)
            longest_parts.append(float((one + each).max()))
            walls.append(spent)
            busy = (first + later) * redo + setup * many
            planned.append(PoolPlan(tuple(names), pool.needs, many, busy, spent / 3600))
        fill = sum(longest_parts) - longest_parts[int(np.argmax(walls))]  # the slowest pool waits for its first piece
        return tuple(planned), max(walls) + fill / max(1, len(lengths)), max(longest_parts)

    def _moved(self, whole: Outcome) -> float:
        """Bytes between workers and a remote store: all that is written, and what each stage asks for again."""
        last: dict[str, tuple[float, float]] = {}  # by asset: its bytes, and the media they are of
        moved = float(whole.written[0])
        for index, stage in enumerate(self.recipe.stages):
            media = float(whole.media[0, index])
            for key in stage.needs:
                size, of = last.get(str(key), (0.0, 1.0))
                moved += size * media / of if of else 0.0
            for key in stage.gives:
                if size := self._sums.written_by(f"{stage.name}/{key}", whole):
                    last[str(key)] = (size, media)
        return moved

    def _assumptions(self, question: Question, lengths: Floats) -> tuple[str, ...]:
        rates, about = self.rates, self.rates.about
        found = [
            f"rates: recipe {rates.recipe}, {about.get('sources')} sources ({about.get('hours')} h) on {about.get('machine')}, "
            f"{about.get('date')}: your machines are taken to be as fast, one worker a core",
            "as large a share of the sources is dropped at every stage, and clips are as dense, as where the rates come from",
            "downloads take what they took there: a host that throttles is not foreseen",
            f"packing in the driver at {_PACK_BYTES_PER_S / 1e6:.0f} MB/s",
        ]
        if self.changed:
            found.append(f"measured with other settings than the recipe's: {', '.join(self.changed)}")
        measured = [sample.media_s for sample in rates.samples if sample.media_s]
        if measured and len(lengths):
            ratio = float(np.median(lengths)) / max(float(np.median(measured)), 1e-9)
            if not 0.2 < ratio < 5:
                found.append(
                    f"the sources are {ratio:.2g} times as long as the measured ones (median {np.median(measured):.0f} s): "
                    "rates are extrapolated; measure a few as long as yours"
                )
        if self._sums.count < _FEWEST:
            found.append(f"only {self._sums.count} sources were measured: no interval can be given")
        if question.factors:
            found.append(
                "speed against the measured machine: " + ", ".join(f"{n} x {f:g}" for n, f in question.factors.items())
            )
        if any(self.recipe.asks(stage).gpus for stage in self.recipe.stages) and not question.factors:
            found.append(
                "stages that ask for a GPU are taken to be as fast as where they were measured: give --factor STAGE=TIMES"
            )
        if self.cluster.spot_share:
            found.append(
                f"a spot machine is taken away {_SPOT_LOST_PER_HOUR:g} times an hour; what it had in hand is done again"
            )
        return tuple(found)


def _small_sample(count: int) -> float:
    """How much wider an interval from few sources must be than the bootstrap makes it: as Student's t is than the normal."""
    from scipy.stats import norm, t

    high = _INTERVAL[1] / 100
    return float(np.sqrt(count / (count - 1)) * t.ppf(high, count - 1) / norm.ppf(high))


def _longest(recipe: Recipe) -> list[float]:
    """Of each stage the most seconds an item can have, by the settings of what cut it; 0 where nothing bounds it."""
    found, bound = [], 0.0
    for stage in recipe.stages:
        found.append(bound)
        bound = next((float(stage.config()[name]) for name in _LONGEST if stage.splits and name in stage.config()), bound)
    return found


def _bottleneck(pools: Sequence[PoolPlan], longest: float, wall: float) -> str:
    slow = max(pools, key=lambda pool: pool.hours)
    if longest > 0.8 * wall:
        return "the longest source: more workers would not help, cut it up or begin with it"
    return f"{slow.workers} workers of {', '.join(slow.stages) if len(pools) > 1 else 'all stages'}"
