"""`make_release`: a build becomes a release, or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyconv.records import Clip
from dyconv.release.assemble import Story, assemble, expected_size, recipe_of, staged
from dyconv.release.changes import Before
from dyconv.release.contents import by_split, motion_of
from dyconv.release.entries import Selection, public_source, select
from dyconv.release.leaks import Limits, Link, check_leaks, find_links, joined, reasons, same_people
from dyconv.release.model import TABLES, Entry, Kind, check_version
from dyconv.release.packed import Packed
from dyconv.release.prints import VOICE_MODEL, Print, Settings, prints_of
from dyconv.release.splits import DEFAULT_RATIOS, Plan, given_plan, plan_splits
from dyconv.release.tables import read_release_table
from dyconv.release.target import open_target, reachable
from dyconv.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from dyconv.audit.overlay import Annotations


@dataclass(frozen=True)
class Options:
    """How a release is made.

    Attributes:
        name: of the dataset; the target's last folder if not given.
        kind: with the media, or without.
        ratios: share of the hours of each split.
        splits: a split for each source, prescribed; the leak test judges it.
        limits: from where on two things count as the same.
        voices: compare voices; needs the weights of the diarizer's voice encoder.
        identity: a face recogniser that holds across sources, by name; None: faces are not compared.
        workers: processes that look at clips for the leak test.
        date: written into card and changelog; nothing in a release tells the time otherwise.
        annotations: the audit's decisions, to be applied.
        audit: files to put under `audit/`, by path there (error rates, an audit report).
        rates: the audit's error rates (`dyconv.audit.rates.ErrorRates.to_json`), for the card.
    """

    name: str | None = None
    kind: Kind = Kind.FULL
    ratios: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_RATIOS))
    seed: int = 0
    splits: Mapping[str, str] | None = None
    limits: Limits = field(default_factory=Limits)
    voices: bool = True
    identity: str | None = None
    workers: int = 1
    date: str | None = None
    annotations: Annotations | None = None
    audit: Mapping[str, bytes] = field(default_factory=dict)
    rates: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Made:
    """What was made: where, and what its `release.json` says."""

    where: str
    version: str
    about: Mapping[str, Any]


def make_release(
    build: Store, to: str, version: str, options: Options | None = None, *, console: Console | None = None
) -> Made:
    """Publish a build's packed clips as `TO/VERSION`.

    Everything is written into a staging folder, tested, and put in place at once (on an object store `release.json`, by
    which a release is known, comes last). The same build, options and version before give the same bytes.

    Args:
        build: a build or another release; only its `shards/` are needed.
        to: folder, fsspec URI, or `hf://datasets/<owner>/<name>`.
        console: where to tell how far it is.

    Raises:
        UsageError: the version exists, a licence is not known, or the splits asked for cannot be.
        ReleaseError: the splits leak.
        ShardError, StoreError: the build is not what its index says; the disk is full.
    """
    options = options or Options()
    target = open_target(to)
    with reachable(to):
        target.refuse_existing(check_version(version))
        before = Before.of(target, version)
    with reachable(str(build)):
        packed = Packed(build)
        recipe = recipe_of(packed)
        selection = select(packed, options.annotations, before.tombstones, options.kind)
    clips = selection.clips
    prints = prints_of(clips, packed, Settings(options.voices, options.identity, options.workers), console)
    links = find_links(clips, prints, options.limits)
    plan = _plan(clips, links, options, before)
    check_leaks(links, plan.split)
    entries = [
        Entry(
            replace(clip, source=public_source(clip.source)),
            plan.split[clip.source.id],
            plan.component[clip.source.id],
            motion_of(packed.fields(clip.id), clip.id in selection.exchanged),
        )
        for clip in clips
    ]
    story = Story(
        name=options.name or target.name,
        version=version,
        kind=options.kind,
        recipe=recipe,
        plan=plan,
        leaks=_compared(options, clips, prints, links),
        person=same_people(prints, links),
        joined_by=reasons(links),
        date=options.date,
        tombstones=before.tombstones,
        audit=_audit_files(options, selection),
        audited=_audited(options, selection),
        unnamed=_taken_down(selection),
    )
    with staged(target, version, expected_size(packed)) as staging:
        groups = by_split(entries, list(plan.ratios), packed.index.samples_per_shard)
        about = assemble(staging, packed, groups, story, before)
        check_leaks(links, written_splits(staging))
        target.publish(staging, version)
    return Made(target.where(version), version, about)


def _plan(clips: Sequence[Clip], links: Sequence[Link], options: Options, before: Before) -> Plan:
    seconds: dict[str, float] = {}
    for clip in clips:
        seconds[clip.source.id] = seconds.get(clip.source.id, 0.0) + float(clip.span.duration)
    union = joined(seconds, links)
    if options.splits is not None:
        return given_plan(seconds, union, options.splits)
    return plan_splits(seconds, union, ratios=options.ratios, seed=options.seed, before=before.splits)


def written_splits(staging: Path) -> dict[str, str]:
    """The split of each source, as the table that was written says."""
    return {str(row["source"]): str(row["split"]) for row in read_release_table(staging / TABLES / "clips.parquet")}


def _compared(options: Options, clips: Sequence[Clip], prints: Sequence[Print], links: Sequence[Link]) -> dict[str, Any]:
    people = [person for one in prints for person in one.people]
    return {
        "voice_model": VOICE_MODEL if options.voices else None,
        "face_model": options.identity,
        "limits": vars(options.limits),
        "people": len(people),
        "voices": sum(person.voice is not None for person in people),
        "faces": sum(person.face is not None for person in people),
        "pictures": sum(len(one.pictures) for one in prints),
        "clips_without_pictures": sum(not len(one.pictures) for one in prints),
        "found": [link.to_json() for link in links],
    }


def _taken_down(selection: Selection) -> frozenset[str]:
    """Clips that reviewers took down: nothing that is published names them."""
    from dyconv.audit.decisions import Standing

    verdicts = selection.annotations.verdicts() if selection.annotations else {}
    return frozenset(clip for clip, verdict in verdicts.items() if verdict.state is Standing.TAKEN_DOWN)


def _audit_files(options: Options, selection: Selection) -> dict[str, bytes]:
    files = dict(options.audit)
    if selection.annotations is not None:
        down = _taken_down(selection)
        told = [decision for decision in selection.annotations.decisions if decision.clip not in down]
        files["decisions.jsonl"] = replace(selection.annotations, decisions=tuple(told)).lines()
    if options.rates:
        files["error_rates.json"] = json.dumps(options.rates, indent=2, sort_keys=True).encode() + b"\n"
    return files


def _audited(options: Options, selection: Selection) -> dict[str, Any] | None:
    """What `release.json` and the card say of the audit."""
    notes = selection.annotations
    if notes is None and not options.rates:
        return None
    return {
        "decisions": len(notes.decisions) if notes else 0,
        "version": notes.version if notes else None,
        "clips": len(notes.by_clip) if notes else 0,
        "applied": {name: len(clips) for name, clips in vars(selection.applied).items()} if selection.applied else None,
        "rates": dict(options.rates) if options.rates else None,
    }
