"""A run in numbers for Prometheus: what every stage did, what waits, who works, what died.

No label names a clip or a source: the number of series stays that of stages and reasons. Counters count what this run
executed; what it found done is in `dyconv_reused_total` only. The same samples go to a port (`--metrics-port`), to
`OUT/metrics.prom` in the format of node_exporter's textfile collector, and on a Ray cluster to Ray's own metrics.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, disable_created_metrics, generate_latest
from prometheus_client.exposition import start_http_server

from dyconv import __version__
from dyconv.errors import DyconvError, UsageError
from dyconv.flow import Flow
from dyconv.ledger import Event, State
from dyconv.store import Store
from dyconv.task import DEATHS, Kind, Notice

FILE = "metrics.prom"
_LOG = logging.getLogger(__name__)
_WRITE_S = 15.0
_MIRROR_S = 5.0
_SETTLE_S = 0.5  # a tick comes with every item: gauges need not follow each
_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)


class RayGauge(Protocol):
    """What `ray.util.metrics.Gauge` offers."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None: ...


@dataclass(frozen=True)
class About:
    """What a run is about to do.

    Attributes:
        levels: of each stage, in order: how many splits lie before it.
        sources: to do in this run.
        finished: sources that were complete before.
    """

    levels: Mapping[str, int]
    sources: int
    finished: int = 0
    recipe: str = ""
    fingerprint: str = ""


class Series:
    """The metrics of one run in a registry of their own."""

    def __init__(self, about: About) -> None:
        disable_created_metrics()  # a second series for each counter, which nothing here asks for
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self.items = counter("dyconv_items_total", "items that left a stage, by how", "stage", "state", "reason")
        self.seconds = Histogram(
            "dyconv_stage_seconds", "wall time of one item in a stage", ["stage"], buckets=_BUCKETS, registry=registry
        )
        self.media = counter("dyconv_media_seconds_total", "seconds of media into and out of a stage", "stage", "direction")
        self.setup = Summary(
            "dyconv_setup_seconds", "a worker's time to set a stage up (models, imports)", ["stage"], registry=registry
        )
        self.reused = counter("dyconv_reused_total", "items of a stage that were found done", "stage")
        self.queue = gauge("dyconv_queue", "items that wait for a stage", "stage")
        self.at_work = gauge("dyconv_at_work", "items that a worker has in a stage", "stage")
        self.workers = gauge("dyconv_workers", "workers that are known, by what they do", "state")
        self.worker_seconds = counter("dyconv_worker_seconds_total", "time of all workers, by what they did", "state")
        self.deaths = counter("dyconv_worker_deaths_total", "workers that were lost", "kind", "stage")
        self.recycled = counter("dyconv_workers_recycled_total", "workers replaced because they had grown")
        self.sources = gauge("dyconv_sources", "sources of this run", "state")
        self.clips = gauge("dyconv_clips", "items that came to their end", "state")
        self.bytes = gauge("dyconv_bytes", "bytes of the output folder's disk", "of")
        self.run_seconds = gauge("dyconv_run_seconds", "for how long this run goes on")
        self.startup = gauge("dyconv_startup_seconds", "from the start of the run until the first stage began")
        self.progress = gauge("dyconv_last_progress_timestamp_seconds", "when an item last left a stage, Unix time")
        self.age = gauge("dyconv_progress_age_seconds", "seconds since an item last left a stage")
        self.running = gauge("dyconv_running", "1 while the run goes on")
        self.started = gauge("dyconv_start_timestamp_seconds", "when the run began, Unix time")
        build = gauge("dyconv_build_info", "what runs", "version", "recipe", "fingerprint")
        build.labels(__version__, about.recipe, about.fingerprint[:16]).set(1)
        for stage in about.levels:  # a series that is not there yet is no zero for a query
            for labelled in (self.queue, self.at_work, self.seconds, self.reused):
                labelled.labels(stage)
            for direction in ("in", "out"):
                self.media.labels(stage, direction)
            self.items.labels(stage, "failed", "")
            for kind in DEATHS:
                self.deaths.labels(kind, stage)
        for state in ("busy", "idle"):
            self.workers.labels(state)
            self.worker_seconds.labels(state)
        for ended in (State.KEPT, State.DROPPED, State.FAILED):
            self.clips.labels(ended)


class Metrics:
    """Follows a run (a `Watcher`) and keeps its series.

    Args:
        about: what the run is about to do.
        store: output folder, for `metrics.prom`; None writes none.
        address: host and port to serve them on; port 0 takes a free one, None serves none.
        make_gauge: makes a gauge of Ray's, given name, text and label names; None where there is no Ray.

    Raises:
        UsageError: if the port cannot be had.
    """

    def __init__(
        self,
        about: About,
        store: Store | None = None,
        address: tuple[str, int] | None = None,
        make_gauge: Callable[[str, str, Sequence[str]], RayGauge] | None = None,
    ) -> None:
        self._about, self._store = about, store
        self._mirror = Mirror(make_gauge) if make_gauge else None
        self._flow = Flow(about.levels, about.sources)
        self._workers: set[str] = set()  # that are there
        self._worked = self._complained = False
        self._begun = self._ticked = self._written = time.monotonic()
        self.series = series = Series(about)
        series.started.set(time.time())
        series.progress.set(time.time())
        series.running.set(1)
        self._last = self._begun
        series.age.set_function(lambda: time.monotonic() - self._last)
        series.run_seconds.set_function(lambda: self._ticked - self._begun)
        self._server = self._serve(*address) if address is not None else None
        self._settle(self._begun)

    def _serve(self, host: str, port: int) -> Any:
        try:
            server, _ = start_http_server(port, host, self.series.registry)
        except OSError as error:
            raise UsageError(
                f"--metrics-port {port} on {host} cannot be had: {error.strerror}", hint="another port, or 0 for any free one"
            ) from error
        return server

    @property
    def port(self) -> int | None:
        """The port that is served."""
        return self._server.server_port if self._server is not None else None

    def text(self) -> bytes:
        """All samples in Prometheus' text format."""
        self._settle(time.monotonic())
        return generate_latest(self.series.registry)

    def note(self, item: Event | Notice) -> None:
        now = time.monotonic()
        self._spend(now)
        if isinstance(item, Notice):
            self._flow.notice(item, now)
            self._notice(item, now)
            return
        self._flow.event(item, now)
        if item.stage is not None and item.stage in self._about.levels:
            self._event(item, item.stage, now)

    def _notice(self, notice: Notice, now: float) -> None:
        if notice.kind in (Kind.BEGUN, Kind.JOINED):
            self._workers.add(notice.worker)
        if notice.kind is Kind.BEGUN and not self._worked:
            self._worked = True
            self.series.startup.set(now - self._begun)
        elif notice.kind is Kind.READY and notice.stage:
            self.series.setup.labels(notice.stage).observe(notice.seconds)
        elif notice.kind is Kind.RECYCLED:
            self._workers.discard(notice.worker)
            self.series.recycled.inc()
        elif notice.kind in DEATHS:
            self._workers.discard(notice.worker)
            self.series.deaths.labels(notice.kind, notice.stage or "").inc()

    def _event(self, event: Event, stage: str, now: float) -> None:
        series, own = self.series, event.level == self._about.levels[stage]
        if event.final:
            series.clips.labels(event.state).inc()
        self._last = now
        series.progress.set(time.time())
        if event.reused:
            series.reused.labels(stage).inc(own)
            return
        series.items.labels(stage, event.state, event.reason or "").inc()
        if own:  # else it is a piece that its parent's stage dropped or kept
            series.seconds.labels(stage).observe(event.seconds)
            series.media.labels(stage, "in").inc(event.media_in)
            series.media.labels(stage, "out").inc(event.media_out)

    def _spend(self, now: float) -> None:
        """Count the workers' time since the last word: until now they did what they did then."""
        busy = len(self._flow.begun)
        idle = max(0, len(self._workers) - busy)
        spent = max(0.0, now - self._ticked)
        self.series.worker_seconds.labels("busy").inc(spent * busy)
        self.series.worker_seconds.labels("idle").inc(spent * idle)
        self._ticked = now

    def tick(self, now: float) -> None:
        self._spend(now)
        if now - self._settled > _SETTLE_S:
            self._settle(now)
        if self._mirror is not None and now - self._mirror.since > _MIRROR_S:
            self._mirror.copy(self.series.registry, now)
        if self._store is not None and not self._store.remote and now - self._written > _WRITE_S:
            self._write(now)

    def _settle(self, now: float) -> None:
        """Bring the gauges up to date."""
        self._settled = now
        series, flow = self.series, self._flow
        for name, (waiting, at_work) in flow.queues().items():
            series.at_work.labels(name).set(at_work)
            series.queue.labels(name).set(waiting)
        series.workers.labels("busy").set(len(flow.begun))
        series.workers.labels("idle").set(max(0, len(self._workers) - len(flow.begun)))
        untouched = max(0, self._about.sources - flow.done - flow.open)
        for state, count in (("waiting", untouched), ("open", flow.open), ("finished", flow.done)):
            series.sources.labels(state).set(count)
        series.sources.labels("finished_before").set(self._about.finished)

    def _write(self, now: float) -> None:
        """Write the file. That it cannot be written is told once, and stops nothing."""
        assert self._store is not None
        self._written = now
        try:
            if not self._store.remote:
                usage = shutil.disk_usage(self._store.root)
                self.series.bytes.labels("disk_total").set(usage.total)
                self.series.bytes.labels("disk_free").set(usage.free)
            self._store.write_bytes(FILE, self.text())
        except (OSError, DyconvError) as error:
            if not self._complained:
                self._complained = True
                _LOG.warning("%s cannot be written: %s", FILE, error)

    def close(self, state: str) -> None:
        """Write the last state, and stop serving it."""
        self.series.running.set(0)
        self.tick(time.monotonic())
        self._settle(self._ticked)
        age = time.monotonic() - self._last
        self.series.age.set_function(lambda: age)
        if self._mirror is not None:
            self._mirror.copy(self.series.registry, self._ticked)
        if self._store is not None:
            self._write(self._ticked)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class Mirror:
    """Copies a registry's samples into gauges of Ray, which every node's own metrics port then shows as `ray_dyconv_...`.

    Ray's counters can only be added to from where they are; a gauge that holds a counter's value serves `rate` as well.
    """

    def __init__(self, make_gauge: Callable[[str, str, Sequence[str]], RayGauge]) -> None:
        self._make = make_gauge
        self._gauges: dict[str, RayGauge] = {}
        self.since = float("-inf")

    def copy(self, registry: CollectorRegistry, now: float) -> None:
        """Set every gauge to what the registry says."""
        self.since = now
        for metric in registry.collect():
            for sample in metric.samples:
                if sample.name not in self._gauges:
                    self._gauges[sample.name] = self._make(sample.name, metric.documentation, tuple(sample.labels))
                self._gauges[sample.name].set(sample.value, dict(sample.labels))
