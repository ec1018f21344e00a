"""Splits by connected component: sources that share a person, a channel or a picture are never parted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dyconv.errors import UsageError

DEFAULT_RATIOS = {"train": 0.8, "validation": 0.1, "test": 0.1}


class Union:
    """Which items belong together. Items are strings; a component is named by its smallest item."""

    def __init__(self, items: Iterable[str]) -> None:
        self._parent = {item: item for item in items}

    def find(self, item: str) -> str:
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, first: str, second: str) -> None:
        one, two = sorted((self.find(first), self.find(second)))
        self._parent[two] = one

    def components(self) -> dict[str, list[str]]:
        """Sorted members by component."""
        out: dict[str, list[str]] = {}
        for item in sorted(self._parent):
            out.setdefault(self.find(item), []).append(item)
        return out


@dataclass(frozen=True)
class Plan:
    """Which source goes where.

    Attributes:
        split: of each source.
        component: of each source, named by its smallest member.
        ratios: share of the hours each split was to get; in order.
        seed: decided which component goes where.
        moved: sources that an earlier version had in another split, with that split.
        given: the split was prescribed rather than drawn.
    """

    split: Mapping[str, str]
    component: Mapping[str, str]
    ratios: Mapping[str, float]
    seed: int
    moved: Mapping[str, str]
    given: bool = False


def parse_ratios(text: str) -> dict[str, float]:
    """`train=0.8,test=0.2` as shares that sum to one.

    Raises:
        UsageError: for anything that is not that.
    """
    out: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not name.replace("-", "").replace("_", "").isalnum() or not 0 < share <= 1 or name in out:
            raise UsageError(f"expected ratios such as train=0.8,validation=0.1,test=0.1, found {text[:80]!r}")
        out[name] = share
    if abs(sum(out.values()) - 1.0) > 1e-6:
        raise UsageError(f"ratios must sum to 1, found {sum(out.values()):g} in {text[:80]!r}")
    return out


def plan_splits(
    seconds: Mapping[str, float],
    union: Union,
    *,
    ratios: Mapping[str, float],
    seed: int,
    before: Mapping[str, str] | None = None,
) -> Plan:
    """Deal components out to splits.

    A component that an earlier version had in a split stays there; if its parts were in several, all of it goes to the first
    of them in the order of `ratios` (train first: what a model may have seen must not be tested on). The others go, the long
    ones first and equally long ones by seed, to the split that is furthest below its share. No split stays empty.

    Args:
        seconds: length of each source.
        union: of the sources.

    Raises:
        UsageError: if there are fewer components than splits.
    """
    components = union.components()
    if len(components) < len(ratios):
        raise UsageError(
            f"{len(seconds)} sources form {len(components)} components that share nobody, for {len(ratios)} splits "
            f"({', '.join(ratios)})",
            hint="add sources, ask for fewer splits (--ratios train=1), or, where many voices are alike, raise --voice-limit",
        )
    length = {name: sum(seconds[source] for source in members) for name, members in components.items()}
    total = sum(length.values()) or 1.0
    kept = _kept(components, ratios, before or {})
    order = sorted(components, key=lambda name: (name not in kept, -_size_class(length[name] / total), _draw(seed, name)))
    has = dict.fromkeys(ratios, 0.0)
    split: dict[str, str] = {}
    for name in order:
        chosen = kept.get(name) or max(ratios, key=lambda one: ratios[one] - has[one] / total)
        split[name] = chosen
        has[chosen] += length[name]
    _fill_empty(split, ratios, length, kept)
    by_source = {source: split[name] for name, members in components.items() for source in members}
    moved = {source: old for source, old in (before or {}).items() if by_source.get(source, old) != old}
    component = {source: name for name, members in components.items() for source in members}
    return Plan(by_source, component, dict(ratios), seed, moved)


def _size_class(share: float) -> int:
    """Shares of the whole in powers of two, so that the seed has something to choose among: 0 for 1, -1 for a half, ..."""
    size = 0
    while share < 1.0 and size > -16:
        share, size = share * 2, size - 1
    return size


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def _kept(components: Mapping[str, list[str]], ratios: Mapping[str, float], before: Mapping[str, str]) -> dict[str, str]:
    out = {}
    for name, members in components.items():
        held = {before[source] for source in members if source in before}
        if found := [split for split in ratios if split in held]:
            out[name] = found[0]
    return out


def _fill_empty(
    split: dict[str, str], ratios: Mapping[str, float], length: Mapping[str, float], kept: Mapping[str, str]
) -> None:
    """Give each empty split the shortest component of the split that has most of them."""
    for empty in ratios:
        if empty in split.values():
            continue
        count = {name: list(split.values()).count(name) for name in ratios}
        free = [name for name in split if name not in kept and count[split[name]] > 1]
        if not free:
            raise UsageError(
                f"split {empty} would be empty: every component belongs to a split of the version before",
                hint="add sources, or leave that split out of --ratios",
            )
        shortest = min(free, key=lambda name: (-count[split[name]], length[name], name))
        split[shortest] = empty


def given_plan(sources: Iterable[str], union: Union, wanted: Mapping[str, str]) -> Plan:
    """Splits as somebody prescribed them; whether they leak, the leak test says.

    Raises:
        UsageError: naming sources without a split.
    """
    known = sorted(sources)
    if lacking := [source for source in known if not wanted.get(source)]:
        raise UsageError(
            f"the splits given name no split for {len(lacking)} of {len(known)} sources: {', '.join(lacking[:5])}",
            hint="a row `source,split` for each source",
        )
    split = {source: wanted[source] for source in known}
    names = sorted(set(split.values()))
    ratios = {name: round(list(split.values()).count(name) / len(known), 6) for name in names}
    return Plan(split, {source: union.find(source) for source in known}, ratios, 0, {}, given=True)
