"""Rates from a finished run: its ledger says what each stage took, its work folder how much was written."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dyconv import __version__
from dyconv.errors import ShardError, UsageError
from dyconv.ledger import FOLDER, Event, SourceLog, stream_ledger
from dyconv.metrics import FILE as METRICS
from dyconv.plan.fit import robust_line
from dyconv.plan.rates import Rates, Sample, StageRate, settings_hash
from dyconv.records import Clip
from dyconv.run_file import read_run
from dyconv.shards.index import INDEX, read_index
from dyconv.store import Store
from dyconv.work import read_done, work_folder

_METRICS_BYTES = 8 << 20  # a run of twenty stages writes 50 kB
_WEIGHED = 300  # sources whose work folders are looked into: on an object store each costs requests


def measure(store: Store, takes: Callable[[SourceLog], bool] = lambda log: True) -> Rates:
    """Measure a run.

    Args:
        store: its output folder.
        takes: which of its sources count.

    Raises:
        UsageError: if it is no output folder, or nothing in it is finished.
    """
    run = read_run(store)
    if run is None or not store.exists(FOLDER):
        raise UsageError(f"{store} is no output folder of a run", hint="give the --out of a `dyconv run` that is finished")
    levels: dict[str, int] = {stage["name"]: run["levels"][stage["name"]] for stage in run["stages"]}
    logs = [log for log in stream_ledger(store) if takes(log) and log.complete and log.events]
    if not logs:
        raise UsageError(f"nothing in {store} is finished", hint="rates are measured on a run that came to its end")
    kept = [_own(log, levels) for log in logs]
    samples = read_samples(store)
    rates = tuple(
        _rate(
            stage,
            levels[stage["name"]],
            [event for events in kept for event in events if event.stage == stage["name"]],
            samples,
        )
        for stage in run["stages"]
    )
    step = max(1, -(-len(logs) // _WEIGHED))
    weighed = logs[::step]
    sources = [_sample(store, log, events) for log, events in zip(weighed, kept[::step], strict=True)]
    return Rates(
        recipe=str(run["recipe"]),
        about={
            "machine": f"{os.cpu_count()} cores, {_cpu()}",
            "date": datetime.now(UTC).date().isoformat(),
            "dyconv": __version__,
            "sources": len(logs),
            "hours": round(sum(sample.media_s for sample in sources) * step / 3600, 4),
        },
        stages=rates,
        samples=tuple(sources),
        shard_bytes_per_s=_shard_rate(store),
        startup_s=round(samples.total("dyconv_startup_seconds"), 2) if samples else 0.0,
    )


def _own(log: SourceLog, levels: dict[str, int]) -> list[Event]:
    """The events of items that went into a stage; pieces that were dropped while cutting are part of the cut one."""
    return [event for event in log.events if event.stage in levels and event.level == levels[event.stage]]


def media_of(event: Event) -> float:
    """Seconds of media that a stage worked on. What fetches a source does not know its length before."""
    return event.media_in or event.media_out


def _rate(stage: dict[str, Any], level: int, events: list[Event], samples: Samples | None) -> StageRate:
    name = str(stage["name"])
    fixed, per_media = robust_line(
        np.array([media_of(event) for event in events]), np.array([event.seconds for event in events])
    )
    times = samples.total("dyconv_setup_seconds_count", stage=name) if samples else 0.0
    setup = samples.total("dyconv_setup_seconds_sum", stage=name) / times if samples and times else 0.0
    settings = settings_hash(name, stage["version"], stage["config"])
    return StageRate(name, level, settings, round(fixed, 6), round(per_media, 6), round(setup, 3), len(events))


def _sample(store: Store, log: SourceLog, events: list[Event]) -> Sample:
    work: dict[str, tuple[int, float, float]] = {}
    written: defaultdict[str, int] = defaultdict(int)
    for event in events:
        assert event.stage is not None
        items, media, seconds = work.get(event.stage, (0, 0.0, 0.0))
        work[event.stage] = (items + 1, round(media + media_of(event), 3), round(seconds + event.seconds, 3))
        for asset, size in _written(store, event):
            written[f"{event.stage}/{asset}"] += size
    length = max((event.media_out for event in log.events if event.level == 0), default=0.0)
    kept = log.kept()
    return Sample(round(length, 3), work, dict(written), round(sum(event.media_out for event in kept), 3), len(kept))


def _written(store: Store, event: Event) -> Iterable[tuple[str, int]]:
    """Assets that this execution wrote, and their bytes."""
    if event.fp is None or event.stage is None:
        return
    folder = work_folder(event.stage, event.fp)
    done = read_done(store, folder)
    seen: set[str] = set()  # the pieces of a cut may share a file
    for outcome in done[0] if done else ():
        if isinstance(outcome, Clip):
            for key, ref in outcome.assets.items():
                if ref.path.startswith(f"{folder}/") and ref.path not in seen:
                    seen.add(ref.path)
                    yield str(key), ref.size


def _shard_rate(store: Store) -> float:
    """Bytes of shards for each second that is packed; 0 where nothing is."""
    if not store.exists(INDEX):
        return 0.0
    try:
        index = read_index(store)
    except ShardError:
        return 0.0
    seconds = 3600 * index.hours
    return round(sum(shard.bytes for shard in index.shards) / seconds, 1) if seconds else 0.0


@dataclass(frozen=True)
class Samples:
    """What a run's `metrics.prom` says: (name, labels, value) of every sample."""

    found: tuple[tuple[str, dict[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """The sum over labels that are not given; 0 where there is no such sample."""
        return sum(
            value
            for found, has, value in self.found
            if found == name and all(has.get(label) == wanted for label, wanted in labels.items())
        )


def read_samples(store: Store) -> Samples | None:
    """Metrics of the last run; None where there are none, or where they cannot be read."""
    from prometheus_client.parser import text_string_to_metric_families

    if not store.exists(METRICS) or store.size(METRICS) > _METRICS_BYTES:
        return None
    try:
        families = list(text_string_to_metric_families(store.read_bytes(METRICS).decode()))
    except ValueError:  # not ours, or damaged: it is a by-product, and nothing is decided by it
        return None
    return Samples(tuple((sample.name, sample.labels, sample.value) for family in families for sample in family.samples))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
