"""Which clips of a build are released: as audited, under a known licence, and not taken down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from dyconv.download.licences import normal_licence
from dyconv.errors import UsageError
from dyconv.records import Clip, Source
from dyconv.release.model import Kind, source_text
from dyconv.release.packed import Packed
from dyconv.tombstones import parse_tombstones

if TYPE_CHECKING:
    from dyconv.audit.application import Applied
    from dyconv.audit.overlay import Annotations

_NO_LICENCE = frozenset({"", "UNKNOWN", "NONE", "N/A", "NA", "?", "TBD", "TODO", "UNSPECIFIED", "NULL"})


@dataclass(frozen=True)
class Selection:
    """What of a build is released.

    Attributes:
        clips: by id, as audited.
        exchanged: ids of those in which the audit exchanged the names of the two people, just now.
        annotations: the decisions that the records follow; None where nobody decided anything.
        applied: what was done with them; None where the build was packed with them already.
        held_back: clips that an earlier version's takedowns keep out.
    """

    clips: list[Clip]
    exchanged: frozenset[str] = frozenset()
    annotations: Annotations | None = None
    applied: Applied | None = None
    held_back: list[str] = field(default_factory=list)


def select(packed: Packed, annotations: Annotations | None, tombstones: Sequence[Mapping[str, Any]], kind: Kind) -> Selection:
    """Choose the clips of a release.

    Args:
        annotations: decisions to apply; those the build was packed with are found without.
        tombstones: takedowns of the versions before: what they name stays out.

    Raises:
        UsageError: if the build was packed with other decisions, nothing is left, or a licence is in the way.
    """
    from dyconv.audit.application import Application

    already = _packed_with(packed, annotations)
    application = Application(annotations) if annotations is not None and already is None else None
    down = parse_tombstones({"tombstones": list(tombstones)}, "the version before")
    there = sorted(packed.clips(), key=lambda clip: clip.id)
    held_back = {clip.id for clip in there if down.of(clip.source)}
    free = [clip for clip in there if clip.id not in held_back]
    clips = list(application.clips(free)) if application else free
    if not clips:
        raise UsageError(f"no clip of {packed.store} is left to release", hint="the audit or earlier takedowns keep all out")
    check_licences(clips, kind)
    exchanged = {clip.id for clip in clips if clip.measures.get("audit.swapped") == "people"} if application else set()
    applied = application.applied if application else None
    return Selection(clips, frozenset(exchanged), already or annotations, applied, sorted(held_back))


def _packed_with(packed: Packed, annotations: Annotations | None) -> Annotations | None:
    """The decisions that the build's records follow already; None where they follow none."""
    from dyconv.audit.application import kept_overlay

    version = packed.index.overlay
    if version is None:
        return None
    if annotations is not None and annotations.version != version:
        raise UsageError(
            f"{packed.store} was packed with decisions {version[:12]}, the overlay given is {annotations.version[:12]}",
            hint="pack the build with the overlay, then release it: dyconv pack OUT --overlay FILE",
        )
    return annotations or kept_overlay(packed.store)


def public_source(source: Source) -> Source:
    """A source as it is published: clean text, and of a local file the name alone, not where it lay on somebody's disk."""
    fields = source_text(source.to_json())
    for name in ("url", "partner_url"):
        if fields.get(name):
            fields[name] = public_url(str(fields[name]))
    return Source(**fields)


def public_url(url: str) -> str:
    """`file:///any/folder/name.mp4` as `file:///name.mp4`; every other URL as it is."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return url
    return "file:///" + quote(unquote(parts.path).rsplit("/", 1)[-1])


def check_licences(clips: Iterable[Clip], kind: Kind) -> None:
    """Refuse what may not be published.

    Raises:
        UsageError: naming sources whose licence is not known, or of which no changed copy may be given away.
    """
    licence = {clip.source.id: normal_licence(clip.source.licence or "") for clip in clips}
    if unknown := sorted(source for source, stated in licence.items() if stated in _NO_LICENCE):
        raise UsageError(
            f"{_told(unknown)} without a known licence",
            hint="a release names the licence of every source: state it in the manifest and run again, or take the source out",
        )
    bound = sorted(source for source, stated in licence.items() if "-ND" in stated)
    if bound and kind is Kind.FULL:
        raise UsageError(
            f"{_told(bound)} under a NoDerivatives licence: crops and separated voices are changed copies of them",
            hint="release them with --kind recipe-only, or take them out",
        )


def _told(sources: list[str]) -> str:
    more = f" and {len(sources) - 5} more" if len(sources) > 5 else ""
    return f"{len(sources)} source{'s' if len(sources) > 1 else ''} ({', '.join(sources[:5])}{more})"
