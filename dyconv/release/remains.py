"""What is left of a release's tables and texts after a takedown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dyconv.records import PERSONS
from dyconv.release.gone import Gone, Rows
from dyconv.release.model import CHANGELOG, TOMBSTONES

DECISIONS = "audit/decisions.jsonl"
_LIST = re.compile(r"^- (\d+ clips (?:added|removed|changed)|Sources in another split)(: )(.*)\.$")


def remaining_tables(tables: Mapping[str, Rows], gone: Gone, version: str) -> dict[str, Rows]:
    """Rows of what stays. Components and people that were called after something that goes get the next name in order."""
    out = {name: [dict(row) for row in rows if not _goes(row, name, gone)] for name, rows in tables.items()}
    component = _renamed(((row["component"], row["source"]) for row in out["splits"]), gone.sources)
    person = _renamed(((row["person"], row["id"]) for row in out["people"]), gone.people)
    for row in out["splits"]:
        row["component"] = component[row["component"]]
        row["joined_by"] = _reasons(row["joined_by"], gone)
    for row in out["people"]:
        row["person"] = person[row["person"]]
    place: dict[str, int] = {}
    for row in sorted(out["clips"], key=lambda row: (row["shard"], row["row"])):
        row |= {"release": version, "component": component[row["component"]], "row": place.get(row["shard"], 0)}
        row |= {name: person.get(row[name], row[name]) for name in (f"{one}_person" for one in PERSONS)}
        place[row["shard"]] = row["row"] + 1
    return out


def _goes(row: Mapping[str, Any], table: str, gone: Gone) -> bool:
    if table in ("turns", "assets"):
        return row["clip"] in gone.clips
    return row["id" if table == "sources" else "source"] in gone.sources


def _renamed(pairs: Iterable[tuple[str, str]], gone: frozenset[str]) -> dict[str, str]:
    """New name by old: the smallest member that is left, where the old one is of something that goes."""
    members: dict[str, list[str]] = {}
    for name, member in pairs:
        members.setdefault(name, []).append(member)
    return {name: min(left) if name in gone else name for name, left in members.items()}


def _reasons(text: str | None, gone: Gone) -> str | None:
    """`kind source; kind source` without the sources that go."""
    return "; ".join(one for one in (text or "").split("; ") if one.partition(" ")[2] not in gone.sources) or None


def remaining_leaks(leaks: Mapping[str, Any], gone: Gone) -> dict[str, Any]:
    """What the leak test found, without what goes."""
    return {**leaks, "found": [link for link in leaks.get("found", ()) if not set(link["sources"]) & gone.sources]}


def remaining_audit(
    texts: Mapping[str, bytes], audited: Mapping[str, Any] | None, gone: Gone
) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """The audit's files, and what `release.json` says of it.

    Decisions on clips that go are left out. So is any other file that names one: what it says cannot be taken out of it.
    """
    names = [name.encode() for name in (*gone.clips, *gone.people)]
    kept = {path: data for path, data in texts.items() if path.startswith("audit/")}
    if DECISIONS in kept:
        lines = kept[DECISIONS].splitlines(keepends=True)
        kept[DECISIONS] = b"".join(line for line in lines if not any(name in line for name in names))
    kept = {path: data for path, data in kept.items() if not any(name in data for name in names)}
    if audited is None:
        return kept, None
    told = dict(audited)
    if audited.get("version") and DECISIONS in kept:
        from dyconv.audit.checks import strict_json

        left = kept[DECISIONS].splitlines()
        clips = {strict_json(line, DECISIONS)["clip"] for line in left}
        told |= {"version": hashlib.sha256(kept[DECISIONS]).hexdigest(), "decisions": len(left), "clips": len(clips)}
    return kept, told


def entry_of_changelog(
    version: str, before: str, date: str | None, why: str | None, gone: Gone, left_out: Sequence[str]
) -> list[str]:
    """The new version's entry: how much went, and under which tombstones; not what."""
    length = f"{gone.told} ({gone.seconds / 3600:.3f} h)"
    lines = [f"## {version}" + (f" ({date})" if date else ""), "", f"- Taken down: {length}." + (f" {why}" if why else "")]
    lines += [f"- Tombstones: {', '.join(stone.id for stone in gone.stones)}."]
    if gone.copies:
        lines += [f"- {len(gone.copies)} of the sources went because they show the same pictures as one that was named."]
    files = [path for path in left_out if path not in (CHANGELOG, TOMBSTONES)]
    if files:
        lines += [f"- Left out, because it named them: {', '.join(files)}."]
    return [*lines, f"- Nothing else is different from {before}, which still has them: do not use it."]


def remaining_text(changelog: str, gone: Gone, entry: Sequence[str]) -> str:
    """The changelog with a new entry on top, its older lists without the ids of what goes."""
    title, _, earlier = without_names(changelog, gone.clips | gone.sources).partition("\n\n")
    return "\n".join([title, "", *entry, "", earlier])


def without_names(changelog: str, names: Collection[str]) -> str:
    """A changelog whose lists tell how many of some clips and sources there were, and not which."""
    return "\n".join(_without(line, names) for line in changelog.split("\n"))


def _without(line: str, names: Collection[str]) -> str:
    found = _LIST.match(line)
    if found is None:
        return line
    items = found[3].split(", ")
    left = [item for item in items if item.partition(" ")[0] not in names]
    if len(left) == len(items):
        return line
    count = len(items) - len(left)
    return f"- {found[1]}{found[2]}{', '.join([*left, f'{count} taken down'])}."
