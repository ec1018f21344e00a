"""The machines a build is planned for: how many, of what size, for what price."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from dyconv.bounds import parse_object
from dyconv.errors import UsageError
from dyconv.resources import Machine, this_machine

_SHORT = re.compile(r"(\d+)x(\d+(?:\.\d+)?)cpu(\d+(?:\.\d+)?)g(?:(\d+)gpu)?(?:@(\d+(?:\.\d+)?))?(spot)?")
_MOST = 10_000  # machines
_EXAMPLE = "8x16cpu64g, 8x16cpu64g@0.68spot+1x8cpu32g1gpu@0.53, local, or a YAML or JSON file (docs/plan.md)"


@dataclass(frozen=True)
class Nodes:
    """Machines of one kind. `memory` in GB (10^9 bytes); prices in any one currency."""

    count: int
    cpus: float
    memory: float = 0.0
    gpus: float = 0.0
    price_per_hour: float | None = None
    spot: bool = False
    name: str = ""

    @property
    def machine(self) -> Machine:
        return Machine(self.name or f"{self.cpus:g} CPUs", self.cpus, self.gpus, int(self.memory * 10**9) or 1 << 62)


@dataclass(frozen=True)
class Cluster:
    """All machines, and what storage costs. A price that is None is not known and left out of the sum.

    Attributes:
        storage_gb_month: of one GB (10^9 bytes) for a month.
        egress_gb: of one GB that leaves the storage for the internet.
        local: one machine without Ray, where every worker does every stage.
    """

    nodes: tuple[Nodes, ...]
    storage_gb_month: float | None = None
    egress_gb: float | None = None
    local: bool = False

    @property
    def machines(self) -> list[Machine]:
        """Every single one."""
        return [node.machine for node in self.nodes for _ in range(node.count)]

    @property
    def price_per_hour(self) -> float | None:
        """Of all nodes; None if a price is missing."""
        prices = [node.count * node.price_per_hour for node in self.nodes if node.price_per_hour is not None]
        return sum(prices) if len(prices) == len(self.nodes) else None

    @property
    def spot_share(self) -> float:
        """Share of the CPUs that may be taken away."""
        total = sum(node.count * node.cpus for node in self.nodes)
        return sum(node.count * node.cpus for node in self.nodes if node.spot) / total if total else 0.0

    def describe(self) -> str:
        return " + ".join(
            f"{node.count} x {node.cpus:g} CPUs"
            + (f", {node.gpus:g} GPUs" if node.gpus else "")
            + (f", {node.memory:g} GB" if node.memory else "")
            + (" (spot)" if node.spot else "")
            for node in self.nodes
        )


def load_cluster(text: str, prices: Path | None = None) -> Cluster:
    """A cluster from its short form (`8x16cpu64g`), `local`, or a file; with prices of another file put in.

    Raises:
        UsageError: if it is none of them.
    """
    if text == "local":
        machine = this_machine()
        cluster = Cluster((Nodes(1, machine.cpus, round(machine.memory / 10**9, 1), machine.gpus, name="local"),), local=True)
    elif text.endswith((".yml", ".yaml", ".json")):
        cluster = _cluster(_read(Path(text)), text)
    else:
        cluster = Cluster(tuple(_short(part) for part in text.split("+")))
    return _priced(cluster, _read(prices), str(prices)) if prices is not None else cluster


def _short(part: str) -> Nodes:
    match = _SHORT.fullmatch(part.strip().lower())
    if not match:
        raise UsageError(f"--cluster: expected machines, found {part[:80]!r}", hint=f"for example {_EXAMPLE}")
    count, cpus, memory, gpus, price, spot = match.groups()
    nodes = Nodes(int(count), float(cpus), float(memory), float(gpus or 0), float(price) if price else None, bool(spot))
    return _checked(nodes, part)


def _checked(nodes: Nodes, where: str) -> Nodes:
    numbers = (nodes.count, nodes.cpus, nodes.memory, nodes.gpus, nodes.price_per_hour or 0.0)
    sound = all(isinstance(value, (int, float)) and 0 <= value < 1e9 for value in numbers)
    if not sound or nodes.count != int(nodes.count) or not 1 <= nodes.count <= _MOST or nodes.cpus <= 0:
        raise UsageError(
            f"{where}: expected 1 to {_MOST:,} machines with a CPU and no negative number, found {nodes}",
            hint=f"for example {_EXAMPLE}",
        )
    return nodes


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=f"a cluster is {_EXAMPLE}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})") from error
    if path.suffix == ".json":
        return parse_object(text, str(path))
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected names and values, found {type(data).__name__}")
    return data


def _cluster(data: dict[str, Any], where: str) -> Cluster:
    known = {"nodes", "storage_gb_month", "egress_gb"}
    if unknown := set(data) - known:
        raise UsageError(f"{where}: unknown {', '.join(sorted(map(str, unknown)))}", hint=f"known: {', '.join(sorted(known))}")
    listed = data.get("nodes")
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where}: expected a list `nodes`", hint=f"see docs/plan.md; the short form is {_EXAMPLE}")
    nodes = []
    for number, item in enumerate(listed, 1):
        names = {field.name for field in fields(Nodes)}
        if not isinstance(item, dict) or set(item) - names or not {"count", "cpus"} <= set(item):
            raise UsageError(
                f"{where}: node {number}: expected count, cpus and of {', '.join(sorted(names))}, found {item!r:.200}"
            )
        nodes.append(_checked(Nodes(**item), f"{where}: node {number}"))
    return _priced(Cluster(tuple(nodes)), {name: data[name] for name in data if name != "nodes"}, where)


def _priced(cluster: Cluster, data: dict[str, Any], where: str) -> Cluster:
    """Put prices in: `nodes` by a node's name or its CPUs (`16cpu`), `storage_gb_month`, `egress_gb`."""
    given = data.get("nodes", {})
    if not isinstance(given, dict) or set(data) - {"nodes", "storage_gb_month", "egress_gb", "currency", "date", "source"}:
        raise UsageError(f"{where}: expected nodes (name: price an hour), storage_gb_month, egress_gb")
    prices = {str(name): _price(value, where) for name, value in given.items()}
    nodes = tuple(
        replace(node, price_per_hour=prices.get(node.name, prices.get(f"{node.cpus:g}cpu", node.price_per_hour)))
        for node in cluster.nodes
    )
    storage, egress = (
        _price(data[name], where) if name in data else getattr(cluster, name) for name in ("storage_gb_month", "egress_gb")
    )
    return replace(cluster, nodes=nodes, storage_gb_month=storage, egress_gb=egress)


def _price(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise UsageError(f"{where}: expected a price of at least 0, found {value!r:.80}")
    return float(value)
