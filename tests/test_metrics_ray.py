"""On Ray the same series are among Ray's own metrics."""

from __future__ import annotations

import threading
import time
import urllib.request
from pathlib import Path

import pytest

from dyconv.logs.read import read_logs
from dyconv.metrics import FILE
from dyconv.runner import RunOptions, run
from dyconv.store import Store
from tests.fakes import Fetch, Mark, recipe, write_manifest
from tests.test_metrics import Samples, samples, total


@pytest.mark.slow
def test_rays_own_port_shows_the_run(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", ["ok-1", "ok-2", "broken-1"])
    seen: list[Samples] = []
    ended = threading.Event()

    def scrape() -> None:
        import ray

        while not ended.wait(0.5):
            if not ray.is_initialized():
                continue
            for node in ray.nodes():
                url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
                try:
                    text = urllib.request.urlopen(url, timeout=3).read().decode()
                except OSError:
                    continue
                ours = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith("ray_dyconv_")]
                if ours:
                    seen.append(samples("\n".join(ours) + "\n"))

    thread = threading.Thread(target=scrape)
    thread.start()
    out = tmp_path / "out"
    try:
        run(
            recipe(Fetch(pause_s=2.0), mark=Mark(raises="ok-2_00008", pause_s=1.0)),
            manifest,
            str(out),
            RunOptions("ray", workers=1),
        )
        time.sleep(1)
    finally:
        ended.set()
        thread.join(20)
    assert seen, "Ray's port never showed a series of ours"
    assert max(total(found, "ray_dyconv_items_total", stage="fetch") for found in seen) >= 1
    assert max(total(found, "ray_dyconv_running") for found in seen) == 1
    wanted = {name for name, _ in samples((out / FILE).read_text())}
    assert {name.removeprefix("ray_") for name, _ in seen[-1]} >= wanted - {"dyconv_bytes"}

    logged = list(read_logs(Store(out)))
    assert {record["worker"] for record in logged} >= {"driver"}
    failed = [record for record in logged if record["level"] == "error"]
    assert {(record["stage"], record["clip"]) for record in failed} == {
        ("fetch", "broken-1"),
        ("mark", "ok-2_00008000_00012000"),
    }
