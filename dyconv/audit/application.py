"""An overlay applied to the clips of a build, on their way into shards or a release. The build itself is only read.

The overlay a build was last packed with is kept beside its shards, so that packing again (as every run does at its end)
brings nothing back that was rejected or taken down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dyconv.audit.applying import other_key
from dyconv.audit.checks import strict_json
from dyconv.audit.decisions import Decision, Standing, Verdict, applied, base_of
from dyconv.audit.overlay import Annotations
from dyconv.errors import UsageError
from dyconv.records import Clip, Key, Ref
from dyconv.store import Store

if TYPE_CHECKING:
    from dyconv.recipe import Recipe
    from dyconv.shards.packing import PackResult

KEPT_OVERLAY = "shards/overlay.jsonl"
EXCHANGED = "audit"  # folder of a store for files in which p0 and p1 were exchanged


@dataclass
class Applied:
    """What an overlay did to the clips it met, by clip id.

    Attributes:
        stale: clips with decisions on an earlier record, which were not applied.
        gone: clips with decisions that are not (any more) in the build.
    """

    accepted: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    taken_down: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def note(self, clip: str, verdict: Verdict) -> None:
        lists = {Standing.ACCEPTED: self.accepted, Standing.REJECTED: self.rejected, Standing.TAKEN_DOWN: self.taken_down}
        if verdict.state in lists:
            lists[verdict.state].append(clip)
        if verdict.stale:
            self.stale.append(clip)
        if not verdict.left_out:
            self.swapped += [clip] if verdict.swapped else []
            self.corrected += [clip] if verdict.turns is not None else []

    def told(self) -> list[str]:
        """Lines for a person: what was done, and what could not be."""
        counts = {name.replace("_", " "): len(clips) for name, clips in vars(self).items() if name not in ("stale", "gone")}
        lines = [", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to apply"]
        if self.stale:
            lines.append(
                f"{_clips(self.stale)} changed since a review and the decisions made before are not applied: audit again"
            )
        if self.gone:
            lines.append(f"{_clips(self.gone)} with decisions not in this build; the decisions are kept")
        return lines


def _clips(ids: list[str]) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} clip{'s' if len(ids) != 1 else ''} ({shown})"


class Application:
    """Applies decisions to clips as they pass, and counts.

    Args:
        annotations: the decisions.
        files: where the clips' assets lie, to write SPEECH and ENROLMENT anew through a swap (under `audit/`, beside
            the build's own files); without it, swapped clips go without these two.
    """

    def __init__(self, annotations: Annotations, files: Store | None = None) -> None:
        self.annotations = annotations
        self.applied = Applied(gone=sorted(annotations.by_clip))
        self._gone = set(self.applied.gone)
        self._files = files

    def clips(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        """The clips as their verdicts say they should be, without those that are left out."""
        for clip in clips:
            found = self.clip(clip)
            if found is not None:
                yield found
        self.applied.gone = sorted(self._gone)

    def clip(self, clip: Clip) -> Clip | None:
        """One clip, or None where it is left out."""
        if clip.id not in self._gone:
            return clip
        self._gone.remove(clip.id)
        verdict = self.annotations.verdict(clip.id, base_of(clip))
        self.applied.note(clip.id, verdict)
        found = applied(clip, verdict)
        if found is None or not verdict.swapped or self._files is None:
            return found
        return replace(found, assets={**found.assets, **_exchanged_files(self._files, clip)})


def _exchanged_files(store: Store, clip: Clip) -> dict[Key, Ref]:
    """SPEECH and ENROLMENT with p0 and p1 exchanged inside. The same file gives the same bytes, and is written once."""
    from dyconv.arrays import load_arrays, save_arrays
    from dyconv.media.audio import read_channels, write_audio

    out: dict[Key, Ref] = {}
    with TemporaryDirectory(prefix="dyconv-audit-") as folder:
        for key in (Key.SPEECH, Key.ENROLMENT):
            if key not in clip.assets:
                continue
            old = store.verified(clip.assets[key])
            new = Path(folder) / f"{clip.id}.{key}"
            if key is Key.SPEECH:
                arrays = load_arrays(old)
                save_arrays(new, {{"p0": "p1", "p1": "p0"}.get(name, name): values for name, values in arrays.items()})
            else:
                write_audio(new, read_channels(old)[::-1])
            out[key] = store.put(new, f"{EXCHANGED}/{clip.assets[key].sha256[:16]}/{new.name}")
    return out


def kept_overlay(store: Store) -> Annotations | None:
    """The decisions a build was last packed with, or None."""
    if not store.exists(KEPT_OVERLAY):
        return None
    where = f"{store}/{KEPT_OVERLAY}"
    lines = store.read_bytes(KEPT_OVERLAY).split(b"\n")
    return Annotations.gathered(
        Decision.from_json(strict_json(line, f"{where}, line {number}"), f"{where}, line {number}")
        for number, line in enumerate(lines, 1)
        if line
    )


def keep_overlay(store: Store, annotations: Annotations | None) -> None:
    """Keep the decisions a build is packed with, instead of those before; None forgets them.

    Raises:
        UsageError: if those before take down a clip that the new ones know nothing of: an old overlay must not bring
            it back by accident.
    """
    if annotations is None:
        store.remove(KEPT_OVERLAY)
        return
    before = kept_overlay(store) or Annotations()
    known = {decision.id for decision in annotations.decisions}
    lost = [
        clip
        for clip, verdict in before.verdicts().items()
        if verdict.state is Standing.TAKEN_DOWN and not set(verdict.decisions) <= known
    ]
    if lost:
        raise UsageError(
            f"{_clips(lost)} were taken down by the overlay that {store} was packed with, and this one does not know of it",
            hint=f"the overlay is old: `dyconv audit import {store}/{KEPT_OVERLAY}` into it, or forget the other: --no-overlay",
        )
    store.write_bytes(KEPT_OVERLAY, annotations.lines())


def pack_audited(store: Store, recipe: Recipe, clips: Iterable[Clip]) -> tuple[PackResult, Applied | None]:
    """Pack clips as the overlay that is kept beside the shards says; without one, as they are."""
    from dyconv.shards.packing import pack

    annotations = kept_overlay(store)
    if annotations is None:
        return pack(store, recipe, clips), None
    application = Application(annotations, store)
    keys = tuple(dict.fromkeys([*recipe.pack, *map(other_key, recipe.pack)]))  # a swap may bring what only p0 had to p1
    swapped = any(verdict.swapped for verdict in annotations.verdicts().values())
    packed = replace(recipe, pack=keys) if swapped else recipe
    return pack(store, packed, application.clips(clips), overlay=annotations.version), application.applied
