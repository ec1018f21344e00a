"""A Ray cluster of several nodes gives what one process gives: on an object store, on a shared folder, while nodes come.

The nodes are processes of this machine, each with its own raylet and no memory in common; the runs are drivers of their
own that join by `RAY_ADDRESS`, as on a real cluster. One Ray for the whole file.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dyconv.records import dump
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.store import Store
from tests.fakes import write_manifest
from tests.s3server import S3Server, in_environment, s3_server
from tests.test_runner import story

ROOT = Path(__file__).resolve().parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
RECIPE = """
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from dyconv.stages.base import Files
from tests.fakes import Clip, Cut, Drop, Fetch, Key, Last, Mark, recipe


@dataclass(frozen=True)
class Noted(Mark):
    '''Leaves word of the node it works on, outside the store. On other nodes it waits until `patient_for` has worked too.'''

    patient_for: str = ""

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if folder := os.environ.get("TEST_TRACES"):
            Path(folder, f"{os.environ['TEST_NODE']}-{clip.id}").touch()
            end = time.monotonic() + 90
            while self.patient_for and not list(Path(folder).glob(f"{self.patient_for}-*")) and time.monotonic() < end:
                time.sleep(0.1)
        yield from super().process(clip, files)


RECIPE = recipe(Fetch(), Cut(bad_at=5), Noted(raises="ok-02_00008"), Last(until_s=1e6),
                pack=(Key.VIDEO, Key.MIX), samples_per_shard=4)
"""


@dataclass
class Nodes:
    """The cluster under test. `traces` holds a file for each piece and the node that worked on it."""

    s3: S3Server
    traces: Path
    temporary: str
    port: int
    dashboard: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _start(self, name: str, *more: str) -> subprocess.Popen[bytes]:
        argv = ["start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--min-worker-port=0"]
        argv += ["--max-worker-port=0", "--object-store-memory=80000000", "--dashboard-agent-listen-port=0", *more]
        traced = {"TEST_NODE": name, "TEST_TRACES": str(self.traces)}
        with (self.traces.parent / f"{name}.log").open("wb") as log:
            node = subprocess.Popen([RAY, *argv], env={**os.environ, **traced}, stdout=log, stderr=log, start_new_session=True)
        self.running.append(node)
        return node

    def head(self) -> None:
        """A node without CPUs: nothing runs there but Ray's own services and, of a job that is submitted, the driver."""
        ports = [f"--port={self.port}", f"--dashboard-port={self.dashboard}", f"--temp-dir={self.temporary}"]
        head = self._start("head", "--head", "--num-cpus=0", *ports)
        wait_for(lambda: answers(self.port) and answers(self.dashboard), head)

    def add(self, name: str) -> None:
        """One after the other: two that start in the same instant choose the same sockets."""
        node = self._start(name, f"--address={self.address}", "--num-cpus=1")
        wait_for(lambda: b"Ray runtime started" in (self.traces.parent / f"{name}.log").read_bytes(), node)

    def worked(self) -> set[str]:
        return {path.name.partition("-")[0] for path in self.traces.iterdir()}

    def forget(self) -> None:
        for path in self.traces.iterdir():
            path.unlink()

    def build(self, recipe: Path, manifest: Path, out: str, *more: str) -> subprocess.Popen[str]:
        """A driver of its own."""
        argv = ["--recipe", str(recipe), "--manifest", str(manifest), "--out", out, "--backend", "ray"]
        return subprocess.Popen(
            [sys.executable, "pipelines/build.py", *argv, *more],
            env={**os.environ, "RAY_ADDRESS": self.address},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def stop(self) -> None:
        for node in reversed(self.running):
            node.terminate()
        for node in self.running:
            try:
                node.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head without CPUs, and two workers of one CPU each."""
    traces = tmp_path_factory.mktemp("nodes") / "traces"
    traces.mkdir()
    short = tempfile.mkdtemp(prefix="dyr", dir="/tmp")  # Ray puts sockets there, whose paths must be short
    common = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
    with s3_server() as s3, in_environment({**common, **s3.environment}):
        made = Nodes(s3, traces, short, *free_ports(2))
        try:
            made.head()
            made.add("one")
            made.add("two")
            yield made
        finally:
            made.stop()
            shutil.rmtree(short, ignore_errors=True)


@dataclass
class Job:
    recipe: Path
    manifest: Path
    alone: Path  # what one process made of it


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    file = folder / "noted.py"
    file.write_text(RECIPE)
    names = [f"ok-{number:02}" for number in range(8)] + ["gone-1", "broken-1", "bad id"]
    manifest = write_manifest(folder / "m.csv", names)
    from dyconv import recipes

    summary = run(recipes.load(str(file)), manifest, str(folder / "alone"), RunOptions(workers=0), recipe_file=str(file))
    assert summary.exit_code == 3
    return Job(file, manifest, folder / "alone")


def everything(out: str, folder: Path) -> dict[str, bytes]:
    """All assets, shards and indexes below an output folder, and the record of each kept clip; events apart."""
    store = Store(out, cache=folder)
    own = {"done.json", "failed.json", "run.json", "run.lock", "funnel.json", "status.json"}
    kept = {f"record of {clip.id}": dump(clip.to_json()) for clip in kept_clips(store)}
    paths = [path for path in store.walk() if path.startswith(("work/", "shards/")) and path.rpartition("/")[2] not in own]
    return kept | {path: store.read_bytes(path) for path in paths}


def told(out: str, folder: Path) -> set[str]:
    """The ledger's story, from wherever it lies."""
    store = Store(out)
    if not store.remote:
        return story(Path(out))
    for name in store.list("ledger"):
        (folder / "ledger").mkdir(parents=True, exist_ok=True)
        (folder / "ledger" / name).write_bytes(store.read_bytes(f"ledger/{name}"))
    return story(folder)


def ends(driver: subprocess.Popen[str], code: int, seconds: float = 120) -> str:
    said, _ = driver.communicate(timeout=seconds)
    assert driver.returncode == code, said
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize("where", ["s3", "folder"])
def test_a_cluster_gives_what_one_process_gives(nodes: Nodes, quick: Job, tmp_path: Path, where: str) -> None:
    out = nodes.s3.uri("same") if where == "s3" else str(tmp_path / "out")
    nodes.forget()
    before = len(nodes.s3.seen)
    ends(nodes.build(quick.recipe, quick.manifest, out, "--wait", "60"), 3)
    assert nodes.worked() >= {"one", "two"}, "one node did all the work"
    assert everything(out, tmp_path / "cache") == everything(str(quick.alone), tmp_path)
    assert told(out, tmp_path / "copy") == story(quick.alone)
    if where == "s3":
        assert not Store(out).exists("run.lock"), "the lease was not given back"
        stages = 8 + 8 + 16 + 15 + 2  # fetch, cut, mark, last, and the sources that end at fetch
        assert len(nodes.s3.seen) - before < 9 * stages, f"too many requests: {nodes.s3.counts(before)}"
        again = len(nodes.s3.seen)
        ends(nodes.build(quick.recipe, quick.manifest, out), 3)
        assert len(nodes.s3.seen) - again < 120, f"a run with nothing to do asked for {nodes.s3.counts(again)}"


def test_a_node_that_comes_during_the_run_is_used(nodes: Nodes, quick: Job, tmp_path: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(quick.recipe.read_text().replace("Noted(raises", 'Noted(patient_for="three", raises'))
    nodes.forget()
    driver = nodes.build(slow, quick.manifest, str(tmp_path / "out"), "--no-pack")
    wait_for(lambda: nodes.worked() == {"one", "two"}, driver)
    nodes.add("three")
    ends(driver, 3)
    assert "three" in nodes.worked()


def test_a_job_that_is_submitted_runs_there(nodes: Nodes, quick: Job, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{nodes.dashboard}"
    out = tmp_path / "out"
    argv = ["--recipe", str(quick.recipe), "--manifest", str(quick.manifest), "--out", str(out)]
    submit = [RAY, "job", "submit", "--address", address, "--"]
    done = subprocess.run(
        [*submit, sys.executable, str(ROOT / "pipelines/build.py"), *argv],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode, "a run with failures ends with status 3, and the job is told so"
    assert "exit code 3" in done.stdout + done.stderr, done.stdout + done.stderr
    assert everything(str(out), tmp_path) == everything(str(quick.alone), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not os.environ.get("DYCONV_SLOW"), reason="minutes: set DYCONV_SLOW=1")
def test_the_real_chain_gives_the_same_on_a_cluster(nodes: Nodes, real_data: Path, tmp_path: Path) -> None:
    """The demo recipe, all models, over two short real conversations, of which one is kept."""
    media = [real_data / "conversations" / name for name in ("iianet__video.mp4", "clearervoice-studio__001.avi")]
    if missing := [path for path in media if not path.is_file()]:
        pytest.skip(f"no {missing[0]}")
    manifest = tmp_path / "m.csv"
    rows = [f"talk-{number},{path},demo-local" for number, path in enumerate(media)]
    manifest.write_text("\n".join(["id,url,licence", *rows]) + "\n")
    from pipelines.demo import RECIPE as DEMO

    assert run(DEMO, manifest, str(tmp_path / "alone"), RunOptions(workers=1)).kept
    out = nodes.s3.uri("real")
    ends(nodes.build(Path("demo"), manifest, out), 0, seconds=900)
    assert everything(out, tmp_path / "cache") == everything(str(tmp_path / "alone"), tmp_path)
    assert told(out, tmp_path / "copy") == story(tmp_path / "alone")
