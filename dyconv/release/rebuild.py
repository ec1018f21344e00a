"""A recipe-only release made whole again: fetch its sources, run its recipe, compare every file, say what is gone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyconv.errors import UsageError
from dyconv.ledger import Standing, State, clip_standings, read_ledger, source_standing
from dyconv.manifest import COLUMNS
from dyconv.records import Clip, Key, Ref
from dyconv.release.about import read_about
from dyconv.release.contents import ShardWriter, write_index, write_shards
from dyconv.release.entries import public_url
from dyconv.release.model import TABLES, Entry, Kind, ReleaseError
from dyconv.release.packed import Packed
from dyconv.release.pull import find_release
from dyconv.release.tables import CLIP_COLUMNS, read_release_table
from dyconv.release.takedown import later_takedowns
from dyconv.release.target import reachable
from dyconv.shards.index import FOLDER, MOTION_KEYS, TABLE
from dyconv.shards.table import TableWriter
from dyconv.store import Store, write_atomic
from dyconv.task import make_plan

if TYPE_CHECKING:
    from rich.console import Console

    from dyconv.runner import RunOptions

REPORT = "rebuild.json"


@dataclass
class Rebuilt:
    """What came of a rebuild.

    Attributes:
        same: clips of which every file is what the release says.
        different: of the others, the files that are not, by clip.
        gone: sources that could not be fetched, with the reason.
        lost: clips that did not come out of sources that are there, with the reason.
        notes: what may be why.
    """

    same: list[str] = field(default_factory=list)
    different: dict[str, list[str]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is there and the same."""
        return not (self.different or self.gone or self.lost)

    def told(self) -> list[str]:
        """Lines for a person."""
        lines = [*self.notes, f"{len(self.same)} clips are the same, file for file"]
        lines += [f"different: {clip}: {', '.join(keys)}" for clip, keys in self.different.items()]
        lines += [f"gone: source {source}: {why}" for source, why in self.gone.items()]
        return lines + [f"not made again: clip {clip}: {why}" for clip, why in self.lost.items()]


def rebuild(
    ref: str,
    out: Path,
    *,
    media: Path | None = None,
    recipe: str | None = None,
    options: RunOptions | None = None,
    console: Console | None = None,
) -> Rebuilt:
    """Run the release's recipe over its sources in `out`, and write shards of the clips that came out the same.

    What a later version beside the release took down is not fetched.

    The shards are those of a full release, in the same splits: where all clips are the same, so are their bytes.

    Args:
        media: folder with the files of sources that were local to whoever made the release, by file name.
        recipe: recipe to run, where it is not one that comes with this program.

    Raises:
        UsageError: if the recipe or local files are not here.
        ReleaseError: if the release cannot be read.
    """
    from dyconv import recipes
    from dyconv.runner import RunOptions, run

    with reachable(ref):
        store = find_release(ref)
        about = read_about(store)
        tables = {name: read_release_table(store.local(f"{TABLES}/{name}.parquet")) for name in ("clips", "sources", "assets")}
    name = recipe or _recipe_name(about)
    loaded = recipes.load(name)
    file = str(Path(name).absolute()) if recipes.is_file(name) else None
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.csv"
    write_atomic(manifest, manifest_text(tables["sources"], media).encode())
    result = Rebuilt(notes=_notes(about, make_plan(loaded, file).fingerprint))
    chosen = options or RunOptions()
    chosen = replace(chosen, pack=False, tombstones=(*chosen.tombstones, *later_takedowns(store)))
    run(loaded, manifest, str(out), chosen, recipe_file=file, console=console)
    build = Store(out)
    made = _made(build)
    _compare(build, made, tables, result)
    _write(Packed(store), build, made, about, tables, set(result.same), out)
    write_atomic(out / REPORT, json.dumps(vars(result), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return result


def _recipe_name(about: Mapping[str, Any]) -> str:
    """The recipe to run: one that comes with this program. A release is no reason to run a file.

    Raises:
        UsageError: if it names anything else.
    """
    from dyconv import recipes

    if about["recipe"].get("own_file"):
        raise UsageError(
            f"the release was made with a recipe file of its makers, {about['recipe']['name']}, which it does not carry",
            hint="give the file with --recipe",
        )
    name = str(about["recipe"]["name"])
    if recipes.is_file(name):
        raise UsageError(f"the release names a file as its recipe: {name[:120]}", hint="give a recipe with --recipe")
    return name


def _notes(about: Mapping[str, Any], fingerprint: str) -> list[str]:
    told = about["recipe"].get("fingerprint")
    if told == fingerprint:
        return []
    return [f"the recipe here is {fingerprint[:12]}, the release was made with {str(told)[:12]}: files may differ"]


def manifest_text(sources: Iterable[Mapping[str, Any]], media: Path | None) -> str:
    """CSV of the sources; local ones point into `media`.

    Raises:
        UsageError: if two files in `media` could be meant.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sources:
        known = {name: row.get(name) for name in COLUMNS}
        writer.writerow({**known, **{name: _located(known[name], media) for name in ("url", "partner_url")}})
    return text.getvalue()


def _located(url: str | None, media: Path | None) -> str | None:
    from dyconv.manifest import local_path

    path = local_path(url) if url else None
    if url is None or path is None:
        return url
    if media is None:
        return public_url(url)  # a name alone: a release does not say which files of this machine are read
    found = sorted(one for one in media.rglob(path.name) if one.is_file())
    if len(found) > 1:
        raise UsageError(f"{path.name} is in {media} {len(found)} times: {found[0]}, {found[1]}", hint="keep one of them")
    return found[0].absolute().as_uri() if found else public_url(url)


def _made(build: Store) -> dict[str, Clip]:
    from dyconv.runner import kept_clips

    return {clip.id: clip for clip in kept_clips(build)}


def _compare(
    build: Store, made: Mapping[str, Clip], tables: Mapping[str, Sequence[Mapping[str, Any]]], result: Rebuilt
) -> None:
    """Every file of the release against the one that was made."""
    wanted: dict[str, dict[str, tuple[str, str]]] = {str(row["id"]): {} for row in tables["clips"]}
    for row in tables["assets"]:
        wanted[str(row["clip"])][str(row["key"])] = (str(row["build_key"]), str(row["sha256"]))
    ledger = read_ledger(build)
    source_of = {str(row["id"]): str(row["source"]) for row in tables["clips"]}
    for clip_id, keys in sorted(wanted.items()):
        source = source_of[clip_id]
        clip = made.get(clip_id)
        if clip is None:
            log = ledger.get(source)
            if log is None or not any(event.state is State.PASSED for event in log.events):
                result.gone[source] = _why(source_standing(log)) if log else "it is not in the ledger"
            else:
                ends = {one.id: one for one in clip_standings(log)}
                result.lost[clip_id] = _why(ends[clip_id]) if clip_id in ends else "the source was cut into other clips"
            continue
        hashes = {str(key): ref.sha256 for key, ref in clip.assets.items()}
        wrong = sorted(key for key, (build_key, sha256) in keys.items() if hashes.get(build_key) != sha256)
        if wrong:
            result.different[clip_id] = wrong
        else:
            result.same.append(clip_id)


def _why(standing: Standing) -> str:
    parts = [str(part) for part in (standing.state, standing.stage, standing.reason, standing.detail) if part]
    return ": ".join(parts)[:300]


class _Again:
    """Members of a build's work, by clip and the name they have there; motion is the release's own."""

    def __init__(self, build: Store, made: Mapping[str, Clip], release: Packed) -> None:
        self.store, self._made, self._release = build, made, release

    def member(self, clip_id: str, field: str) -> bytes:
        if field in MOTION_KEYS:
            return self._release.member(clip_id, field)
        return self.store.verified(self._made[clip_id].assets[Key(field)]).read_bytes()


def _write(
    release: Packed,
    build: Store,
    made: Mapping[str, Clip],
    about: Mapping[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    same: set[str],
    out: Path,
) -> None:
    """The shards of a full release, with the clips that are the same."""
    assets: dict[str, dict[Key, Ref]] = {}
    for row in tables["assets"]:
        if row["key"] not in MOTION_KEYS:
            ref = Ref(f"{row['clip']}.{row['build_key']}", str(row["sha256"]), int(row["bytes"]))
            assets.setdefault(str(row["clip"]), {})[Key(row["key"])] = ref
    groups: dict[str, list[Entry]] = {}
    rows: list[dict[str, Any]] = []
    for row in tables["clips"]:
        clip_id = str(row["id"])
        if clip_id not in same:
            continue
        if clip_id not in release.shard_of():
            raise ReleaseError(f"clip {clip_id} is in the tables of {release.store} and in no shard")
        record = replace(release.clip(clip_id), assets=assets.get(clip_id, {}))
        motion = {key: key for key in release.fields(clip_id) if key in MOTION_KEYS}
        group = groups.setdefault(str(row["shard"]), [])
        rows.append({**row, "row": len(group)})
        group.append(Entry(record, str(row["split"]), str(row["component"]), motion))
    listed = list(groups.values())
    encoder = release.encoder if any(entry.motion for group in listed for entry in group) else None
    shards = write_shards(ShardWriter(_Again(build, made, release), out, Kind.FULL, encoder), listed)
    names = {old: shard.name for old, shard in zip(groups, shards[0], strict=True)}
    with TableWriter(out / FOLDER / TABLE, CLIP_COLUMNS) as table:
        table.add([{**row, "shard": names[str(row["shard"])]} for row in rows])
        table.close()
    size = release.index.samples_per_shard
    write_index(out / FOLDER, listed, shards, recipe=str(about["recipe"]["name"]), encoder=encoder, size=size)
