"""The version before, and what is different from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dyconv.bounds import parse_object
from dyconv.errors import DyconvError
from dyconv.release.about import read_about
from dyconv.release.model import CHANGELOG, TABLES, TOMBSTONES, ReleaseError, version_key
from dyconv.release.tables import read_release_table
from dyconv.store import Store
from dyconv.tombstones import Tombstone, parse_tombstones

if TYPE_CHECKING:
    from dyconv.release.target import Target

_SHOWN = 200  # ids in one list of the changelog; all are in the tables


@dataclass(frozen=True)
class Before:
    """An earlier version of the same dataset, or nothing.

    Attributes:
        clips: rows of its clip table, by id.
        assets: sha256 by (clip, key).
        splits: split by source.
        tombstones: what was taken down so far.
        changelog: its text.
    """

    version: str | None = None
    clips: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    assets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    tombstones: Sequence[Mapping[str, Any]] = ()
    changelog: str = ""

    @classmethod
    def of(cls, target: Target, version: str) -> Before:
        """The highest version below `version` at a target; nothing where it is the first."""
        earlier = [one for one in target.versions() if version_key(one) < version_key(version)]
        return cls.read(target.store(earlier[-1])) if earlier else cls()

    @classmethod
    def read(cls, store: Store) -> Before:
        """A release.

        Raises:
            ReleaseError: if it cannot be read.
        """
        try:
            about = read_about(store)
            split_rows = read_release_table(store.local(f"{TABLES}/splits.parquet"))
            return cls(
                version=str(about["version"]),
                clips={str(row["id"]): row for row in read_release_table(store.local(f"{TABLES}/clips.parquet"))},
                assets={
                    (str(row["clip"]), str(row["key"])): str(row["sha256"])
                    for row in read_release_table(store.local(f"{TABLES}/assets.parquet"))
                },
                splits={str(row["source"]): str(row["split"]) for row in split_rows},
                tombstones=[stone.to_json() for stone in _stones(store)],
                changelog=store.read_bytes(CHANGELOG).decode(),
            )
        except (DyconvError, ValueError, OSError) as error:
            raise ReleaseError(
                f"the release before, {store}, cannot be read: {error}",
                hint="run `dyconv check` on it: the new version names what has changed since",
            ) from error


def _stones(store: Store) -> tuple[Tombstone, ...]:
    where = f"{store}/{TOMBSTONES}"
    return parse_tombstones(parse_object(store.read_bytes(TOMBSTONES), where), where).all


@dataclass(frozen=True)
class Changes:
    """What is different between two versions: ids of clips; `reencoded` counts changed files by their name."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    reencoded: Mapping[str, int]
    moved: Mapping[str, tuple[str, str]]

    def to_json(self) -> dict[str, Any]:
        return {
            "added": len(self.added),
            "removed": len(self.removed),
            "changed": len(self.changed),
            "reencoded": dict(self.reencoded),
            "moved": {source: list(splits) for source, splits in self.moved.items()},
        }


def compare(before: Before, clips: Sequence[Mapping[str, Any]], assets: Sequence[Mapping[str, Any]]) -> Changes:
    """Rows of the new tables against the version before."""
    now = {str(row["id"]): row for row in clips}
    both = now.keys() & before.clips.keys()
    other: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    for row in assets:
        clip, key = str(row["clip"]), str(row["key"])
        keys.setdefault(clip, set()).add(key)
        if clip in both and before.assets.get((clip, key)) != row["sha256"]:
            other.setdefault(clip, set()).add(key)
    for clip, key in before.assets:
        if clip in both and key not in keys.get(clip, set()):
            other.setdefault(clip, set()).add(key)
    told = {clip for clip in both if before.clips[clip].get("record_sha256") != now[clip]["record_sha256"]}
    split = {str(row["source"]): str(row["split"]) for row in clips}
    return Changes(
        sorted(now.keys() - before.clips.keys()),
        sorted(before.clips.keys() - now.keys()),
        sorted(told | other.keys()),
        dict(sorted(Counter(key for found in other.values() for key in found).items())),
        {source: (old, split[source]) for source, old in sorted(before.splits.items()) if split.get(source, old) != old},
    )


def changelog(version: str, date: str | None, before: Before, changes: Changes, notes: Sequence[str] = ()) -> str:
    """The changelog: this version on top of the text of the one before."""
    lines = [f"## {version}" + (f" ({date})" if date else ""), ""]
    lines += [f"- {note}" for note in notes]
    if before.version is None:
        lines += [f"- First version: {len(changes.added)} clips."]
    else:
        lines += [f"Against {before.version}:", ""]
        lines += [_told("added", changes.added), _told("removed", changes.removed), _told("changed", changes.changed)]
        if changes.reencoded:
            made = ", ".join(f"{key} in {count} clips" for key, count in changes.reencoded.items())
            lines += [f"- Made anew: {made}."]
        moved = [f"{source} ({old} to {new})" for source, (old, new) in changes.moved.items()]
        lines += [f"- Sources in another split: {', '.join(moved[:_SHOWN]) or 'none'}."]
    earlier = before.changelog.split("\n", 2)[2] if before.changelog.startswith("# Changelog\n\n") else ""
    return "# Changelog\n\n" + "\n".join(lines) + "\n" + (f"\n{earlier}" if earlier else "")


def _told(what: str, clips: Sequence[str]) -> str:
    more = f" and {len(clips) - _SHOWN} more" if len(clips) > _SHOWN else ""
    return f"- {len(clips)} clips {what}" + (f": {', '.join(clips[:_SHOWN])}{more}." if clips else ".")
