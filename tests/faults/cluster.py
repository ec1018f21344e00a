"""A Ray cluster of several nodes on this machine, in a process of its own, whose parts can be killed one by one.

python -m tests.faults.cluster NODES OBJECT_STORE_BYTES CPUS HEAD_CPUS TAKEN

prints one line of JSON (the address, and the process ids of each node's raylet and of the head's GCS), then waits for
commands on stdin: `add`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.driver import ROOT, descendants, environment, kill

STORE = 200 * 10**6


class Nodes:
    """The cluster as seen from a trial."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                self.address: str = told["address"]
                self.gcs: int = told["gcs"]
                self.raylets: list[int] = told["raylets"]  # the head's is the first
                return
        raise RuntimeError("the cluster did not come up")

    def add(self) -> None:
        """One more node."""
        assert self._process.stdin is not None
        self._process.stdin.write("add\n")
        self._process.stdin.flush()
        self._read()

    def kill_node(self, index: int) -> None:
        """All processes of a node at once, as when its machine loses power."""
        raylet = self.raylets[index]
        for pid in [raylet, *descendants(raylet)]:
            kill(pid)


@contextmanager
def cluster(
    mark: str, folder: Path, *, nodes: int = 3, cpus: int = 1, head_cpus: int | None = None, taken: bool = False
) -> Iterator[Nodes]:
    """A cluster of `nodes` (the head's counted), each of `cpus` and with an object store of 200 MB.

    Args:
        taken: another job holds all processors.
    """
    head = cpus if head_cpus is None else head_cpus
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.cluster", *map(str, (nodes, STORE, cpus, head, int(taken)))],
            cwd=ROOT,
            env=environment(mark, folder / "cluster-tmp"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield Nodes(process)
        finally:
            for pid in [*descendants(process.pid), process.pid]:
                kill(pid)
            process.wait()


def main(nodes: int, store: int, cpus: int, head_cpus: int, taken: int) -> None:
    import os

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": store}
    made = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": head_cpus, "include_dashboard": False})
    for _ in range(nodes - 1):
        made.add_node(**node)
    if taken:
        held = _take(made, nodes * cpus)  # noqa: F841 - kept for as long as this process lives
    _tell(made)
    for _ in sys.stdin:
        made.add_node(**node)
        _tell(made)
    while True:  # whoever started this ends it
        time.sleep(60)


def _take(made: Any, cpus: int) -> list[Any]:
    """Actors of this process that hold every processor."""
    import ray

    class Holder:
        def there(self) -> bool:
            return True

    ray.init(address=made.address, logging_level="ERROR")
    held = [ray.remote(Holder).options(num_cpus=1).remote() for _ in range(cpus)]
    ray.get([actor.there.remote() for actor in held])
    return held


def _tell(made: Any) -> None:
    def pid(node: Any, kind: str) -> int:
        return int(node.all_processes[kind][0].process.pid)

    nodes = [made.head_node, *sorted(made.worker_nodes, key=lambda node: pid(node, "raylet"))]
    told = {
        "address": made.address,
        "gcs": pid(made.head_node, "gcs_server"),
        "raylets": [pid(node, "raylet") for node in nodes],
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
