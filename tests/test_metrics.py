"""Metrics: they say what the ledger says, in Prometheus' own words, and dashboard and alerts ask for nothing else."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dyconv.errors import UsageError
from dyconv.ledger import Event, State, read_events
from dyconv.metrics import FILE, About, Metrics, Mirror
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from dyconv.task import Kind, Notice
from tests.fakes import Cut, Fetch, Last, Mark, recipe, write_manifest

BOARDS = Path(__file__).parent.parent / "dyconv" / "dashboards"
LEVELS = {"fetch": 0, "cut": 0, "mark": 1, "last": 1}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Samples, name: str, **labels: str) -> float:
    return sum(value for (what, has), value in found.items() if what == name and labels.items() <= dict(has).items())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run with two processes in which things are dropped, fail, and kill their worker."""
    out = tmp_path_factory.mktemp("metrics") / "out"
    out.mkdir()
    manifest = write_manifest(out / "m.csv", ["ok-1", "ok-2", "ok-3", "gone-1", "broken-1", "bad id"])
    chain = recipe(cut=Cut(bad_at=5), mark=Mark(raises="ok-2_00008", lethal="ok-3_00000"), last=Last(until_s=8))
    run(chain, manifest, str(out), RunOptions(workers=2))
    return out


def test_the_file_says_what_the_ledger_says(made: Path) -> None:
    found = samples((made / FILE).read_text())
    events = [event for event in read_events(Store(made)) if event.stage in LEVELS]
    for event in events:
        labels = {"stage": str(event.stage), "state": str(event.state), "reason": event.reason or ""}
        same = [(e.stage, e.state, e.reason) for e in events].count((event.stage, event.state, event.reason))
        assert total(found, "dyconv_items_total", **labels) == same
    assert total(found, "dyconv_items_total") == len(events)
    for stage, level in LEVELS.items():
        own = [event for event in events if event.stage == stage and event.level == level]
        assert total(found, "dyconv_stage_seconds_count", stage=stage) == len(own)
        assert total(found, "dyconv_stage_seconds_sum", stage=stage) == pytest.approx(sum(event.seconds for event in own))
        for direction in ("in", "out"):
            media = sum(getattr(event, f"media_{direction}") for event in own)
            assert total(found, "dyconv_media_seconds_total", stage=stage, direction=direction) == pytest.approx(media)
    for state in (State.KEPT, State.DROPPED, State.FAILED):
        assert total(found, "dyconv_clips", state=str(state)) == sum(event.state is state for event in events)


def test_nothing_is_left_over_at_the_end(made: Path) -> None:
    found = samples((made / FILE).read_text())
    assert total(found, "dyconv_queue") == total(found, "dyconv_at_work") == total(found, "dyconv_running") == 0
    assert total(found, "dyconv_sources", state="finished") == 5
    assert total(found, "dyconv_sources", state="finished_before") == 1, "the bad row"
    assert total(found, "dyconv_sources") == 6, "neither open nor waiting"
    assert (
        total(found, "dyconv_worker_deaths_total") == total(found, "dyconv_worker_deaths_total", kind="died", stage="mark") == 3
    )
    assert total(found, "dyconv_worker_seconds_total") <= 2.1 * total(found, "dyconv_run_seconds") + 1
    assert 0 < total(found, "dyconv_startup_seconds") <= total(found, "dyconv_run_seconds")
    assert total(found, "dyconv_bytes", of="disk_free") > 0
    assert total(found, "dyconv_setup_seconds_count", stage="fetch") >= 2


def test_no_label_names_a_clip_or_a_source(made: Path) -> None:
    for (name, labels), _ in samples((made / FILE).read_text()).items():
        assert {label for label, _ in labels} <= {
            *("stage", "state", "reason", "direction", "kind", "of", "le", "version", "recipe", "fingerprint")
        }, name
        assert not any(word in value for _, value in labels for word in ("ok-", "gone-", "broken-"))


def test_what_was_found_done_is_counted_apart(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    out.mkdir()
    manifest = write_manifest(out / "m.csv", ["ok-1", "ok-2"])
    run(recipe(last=Last(until_s=4)), manifest, str(out), RunOptions(workers=0))
    run(recipe(last=Last(until_s=8)), manifest, str(out), RunOptions(workers=0))
    found = samples((out / FILE).read_text())
    assert {stage: total(found, "dyconv_reused_total", stage=stage) for stage in LEVELS} == {
        "fetch": 2,
        "cut": 2,
        "mark": 6,
        "last": 0,
    }
    assert total(found, "dyconv_items_total") == 6 == total(found, "dyconv_items_total", stage="last")
    assert total(found, "dyconv_clips") == 6 and total(found, "dyconv_queue") == 0
    assert total(found, "dyconv_sources", state="finished") == 2


def test_queue_and_work_at_every_moment() -> None:
    metrics = Metrics(About(LEVELS, sources=3, finished=4))

    def now(stage: str) -> tuple[float, float]:
        metrics.tick(time.monotonic())
        found = samples(metrics.text().decode())
        return total(found, "dyconv_queue", stage=stage), total(found, "dyconv_at_work", stage=stage)

    assert now("fetch") == (3, 0)
    metrics.note(Notice(Kind.JOINED, "w1"))
    metrics.note(Notice(Kind.BEGUN, "w1", "fetch", "a", "a"))
    metrics.note(Notice(Kind.BEGUN, "w2", "fetch", "b", "b"))
    assert now("fetch") == (1, 2)
    metrics.note(Event("a", "a", State.PASSED, stage="fetch", seconds=2.0, media_out=10.0))
    assert (now("fetch"), now("cut")) == ((1, 1), (1, 0))
    metrics.note(Notice(Kind.BEGUN, "w1", "cut", "a", "a"))
    metrics.note(Event("a", "a", State.PASSED, stage="cut", children=("a1", "a2", "a3"), media_in=10, media_out=8))
    metrics.note(Event("a", "a2", State.DROPPED, level=1, stage="cut", reason="NO_FACE"))
    assert (now("cut"), now("mark")) == ((0, 0), (2, 0))
    metrics.note(Notice(Kind.HUNG, "w2", "fetch", "b", "b"))
    assert now("fetch") == (2, 0), "it waits again"
    found = samples(metrics.text().decode())
    assert total(found, "dyconv_workers") == total(found, "dyconv_workers", state="idle") == 1
    assert [total(found, "dyconv_sources", state=state) for state in ("waiting", "open", "finished", "finished_before")] == [
        2,
        1,
        0,
        4,
    ]
    metrics.close("finished")


def test_they_are_served_on_the_loopback_while_it_runs(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="metrics-port"):
            Metrics(About(LEVELS, 1), address=("127.0.0.1", taken.getsockname()[1]))
    metrics = Metrics(About(LEVELS, sources=1), Store(tmp_path), ("127.0.0.1", 0))
    url = f"http://127.0.0.1:{metrics.port}/metrics"
    assert 'dyconv_queue{stage="fetch"} 1.0' in urllib.request.urlopen(url, timeout=10).read().decode()
    metrics.close("interrupted")
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)
    assert "dyconv_running 0.0" in (tmp_path / FILE).read_text()


def test_a_real_run_serves_them(tmp_path: Path) -> None:
    """The option reaches the port: a scrape in the middle of a run sees workers at work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1"])
    seen: list[Samples] = []

    def scrape() -> None:
        for _ in range(400):
            try:
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).read().decode()
                seen.append(samples(text))
            except OSError:
                if seen:
                    return
            time.sleep(0.03)

    thread = threading.Thread(target=scrape)
    thread.start()
    options = RunOptions(workers=1, metrics=("127.0.0.1", port))
    run(recipe(Fetch(pause_s=2.5)), manifest, str(tmp_path / "out"), options)
    thread.join(20)
    assert any(total(found, "dyconv_at_work", stage="fetch") == 1 for found in seen)
    assert all(total(found, "dyconv_running") == 1 for found in seen[:-1])


def test_rays_gauges_get_every_sample() -> None:
    class Gauge:
        def __init__(self, name: str, text: str, labels: object) -> None:
            self.name, self.labels, self.values = name, labels, {}  # type: ignore[var-annotated]
            gauges[name] = self

        def set(self, value: float, tags: dict[str, str] | None = None) -> None:
            self.values[tuple(sorted((tags or {}).items()))] = value

    gauges: dict[str, Gauge] = {}
    metrics = Metrics(About(LEVELS, sources=2))
    metrics.note(Event("a", "a", State.FAILED, stage="fetch", reason="OSError", seconds=1.0))
    wanted = samples(metrics.text().decode())
    Mirror(Gauge).copy(metrics.series.registry, 0.0)
    told = {(name, labels): value for name, gauge in gauges.items() for labels, value in gauge.values.items()}
    assert told.keys() == wanted.keys()
    moving = {"dyconv_progress_age_seconds", "dyconv_run_seconds"}
    assert all(told[key] == value for key, value in wanted.items() if key[0] not in moving)
    metrics.close("finished")


def names_in(expression: str) -> set[str]:
    """Metric names of a PromQL expression: words that are no function, keyword or label."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    words = set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b", bare))
    return words - {"and", "or", "unless", "by", "on", "bool", "sum", "min", "max", "rate", "time", "increase", "deriv"}


def labels_in(expression: str) -> set[str]:
    inside = [part for braces in re.findall(r"\{([^}]*)\}", expression) for part in re.findall(r"(\w+)\s*(?:=|!)", braces)]
    grouped = [part.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for part in group.split(",")]
    return {*inside, *grouped}


def expressions() -> dict[str, str]:
    """Every query of dashboard and rules, by where it stands."""
    board = json.loads((BOARDS / "dyconv.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }
    found |= {
        f"variable {each['name']}": each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"
    }
    rules = yaml.safe_load((BOARDS / "alerts.yml").read_text())
    return found | {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


def test_names_are_found_in_queries() -> None:
    assert names_in('60 * sum by (a) (rate(x_total{b="c"}[5m])) / (max(y) > 0) and time() - z > 1') == {"x_total", "y", "z"}


def test_dashboard_and_alerts_ask_for_what_a_run_gives(made: Path) -> None:
    found = samples((made / FILE).read_text())
    known = {name for name, _ in found}
    labels = {name: {label for what, has in found if what == name for label, _ in has} for name in known}
    queries = expressions()
    assert len(queries) > 25
    for where, query in queries.items():
        names = {name for name in names_in(query) if name.startswith("dyconv_")}
        assert names and names <= known, (where, names - known)
        assert names_in(query) - {"label_values", "stage", "instance", "histogram_quantile"} == names, where
        given = set.union(*(labels[name] for name in names)) | {"job", "instance"}
        assert labels_in(query) <= given, (where, labels_in(query) - given)
    used = {name for query in queries.values() for name in names_in(query)}
    shown = ("items_total", "stage_seconds_bucket", "media_seconds_total", "queue", "at_work", "workers", "worker_deaths_total")
    assert {f"dyconv_{name}" for name in shown} <= used


def test_the_dashboard_can_be_imported() -> None:
    board = json.loads((BOARDS / "dyconv.json").read_text())
    assert board["schemaVersion"] >= 36 and board["uid"] and board["id"] is None
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert board["templating"]["list"][0]["type"] == "datasource"
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    spots = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(spots)) == len(spots), "no two panels on one spot"


def test_the_example_takes_rays_name_away() -> None:
    config = yaml.safe_load((BOARDS / "prometheus.yml").read_text())
    assert all((BOARDS / name).is_file() for name in config["rule_files"])
    (rule,) = next(job for job in config["scrape_configs"] if job["job_name"] == "ray")["metric_relabel_configs"]
    match = re.fullmatch(rule["regex"], "ray_dyconv_queue")
    assert (
        match and rule["target_label"] == "__name__" and match.expand(rule["replacement"].replace("$", "\\")) == "dyconv_queue"
    )
    targets = [
        target for job in config["scrape_configs"] for each in job.get("static_configs", ()) for target in each["targets"]
    ]
    assert all(target.startswith("127.0.0.1:") for target in targets)


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).mkdir()
    run(recipe(), write_manifest(tmp_path / "m.csv", ["ok-1"]), str(tmp_path), RunOptions(workers=0))
    assert [record.message for record in caplog.records if FILE in record.message], "and is told"
