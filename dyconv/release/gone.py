"""What a takedown takes: which sources, clips and people, by every name they have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dyconv.errors import UsageError
from dyconv.tombstones import Tombstone, address, hashed

_COPIES = ("near_duplicate", "mirrored", "file")  # links of the leak test by which two sources show the same pictures
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """What is to go.

    Attributes:
        sources: ids of sources.
        people: ids of people, as `id` or `person` of the table `people` has them. Identities are told apart within a
            segment alone, so every source that such a person is in goes as a whole.
        why: in a few words, without a name: it is published.
        copies: sources that show the same pictures go too.
    """

    sources: Sequence[str] = ()
    people: Sequence[str] = ()
    why: str | None = None
    date: str | None = None
    copies: bool = True


@dataclass(frozen=True)
class Gone:
    """What goes, by every name it has.

    Attributes:
        copies: those of the sources that go because they show the same pictures as one that was named.
        stones: a tombstone for each source.
    """

    sources: frozenset[str]
    clips: frozenset[str]
    people: frozenset[str]
    urls: frozenset[str]
    copies: tuple[str, ...]
    stones: tuple[Tombstone, ...]
    seconds: float

    @property
    def names(self) -> list[str]:
        """Texts that must not be in the new version: ids of clips and of people, and addresses that are not local."""
        return sorted(self.clips | self.people | self.urls)

    @property
    def told(self) -> str:
        """How much goes, in words."""
        clips, sources = len(self.clips), len(self.sources)
        return f"{clips} clip{'s' * (clips != 1)} of {sources} source{'s' * (sources != 1)}"


def find_gone(tables: Mapping[str, Rows], about: Mapping[str, Any], request: Request, version: str) -> Gone:
    """What of a release goes.

    Raises:
        UsageError: if a name is not in it, with those that are near; if nothing would be left, or nothing was named.
    """
    if not request.sources and not request.people:
        raise UsageError("nothing was named to be taken down", hint="give --source ID or --person ID")
    there = {row["id"]: row for row in tables["sources"]}
    asked = {source: frozenset[str]() for source in _known(request.sources, there, "source")}
    everybody = {row["id"] for row in tables["people"]} | {row["person"] for row in tables["people"]}
    for name in _known(request.people, everybody, "person"):
        one = {row["person"] for row in tables["people"] if name in (row["id"], row["person"])}
        for row in tables["people"]:
            if row["person"] in one:
                asked[row["source"]] = asked.get(row["source"], frozenset()) | {row["id"]}
    copies = _copies(asked, about["leaks"].get("found", ())) if request.copies else set()
    sources = frozenset(asked) | frozenset(copies)
    left = there.keys() - sources
    if not left:
        raise UsageError(f"nothing of {about['name']} {about['version']} would be left", hint=_rest(copies))
    lost = [row for row in tables["clips"] if row["source"] in sources]
    urls = {str(there[one][name]) for one in sources for name in ("url", "partner_url") if address(there[one][name])}
    kept_urls = {row[name] for row in tables["sources"] if row["id"] in left for name in ("url", "partner_url")}
    return Gone(
        sources,
        frozenset(row["id"] for row in lost),
        frozenset(row["id"] for row in tables["people"] if row["source"] in sources),
        frozenset(urls - kept_urls),
        tuple(sorted(copies)),
        tuple(_stone(there[one], asked.get(one), request, version) for one in sorted(sources)),
        sum(row["duration_s"] for row in lost),
    )


def _rest(copies: set[str]) -> str:
    alike = f"; or keep sources with the same pictures ({', '.join(sorted(copies)[:5])}) with --only-named" if copies else ""
    return f"remove the release as a whole{alike}"


def _known(names: Sequence[str], there: Iterable[str], what: str) -> Sequence[str]:
    known = sorted(there)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
            raise UsageError(
                f"the release has no {what} {name[:120]!r}",
                hint=f"near it: {', '.join(near)}"
                if near
                else f"the ids are in tables/{'people' if what == 'person' else 'sources'}.parquet",
            )
    return names


def _copies(sources: Iterable[str], links: Iterable[Mapping[str, Any]]) -> set[str]:
    """Sources that show the same pictures as those named, as the leak test found, however many steps away."""
    found = set(sources)
    pairs = [set(link["sources"]) for link in links if link["kind"] in _COPIES]
    while more := {one for pair in pairs if pair & found for one in pair} - found:
        found |= more
    return found - set(sources)


def _stone(row: Mapping[str, Any], people: frozenset[str] | None, request: Request, version: str) -> Tombstone:
    places = sorted({hashed(place) for name in ("url", "partner_url") if (place := address(row[name]))})
    return Tombstone(
        "person" if people else "source",
        hashed(row["id"]),
        tuple(places),
        version,
        tuple(sorted(hashed(one) for one in people or ())),
        request.date,
        request.why,
    )
