"""Who and what is in two sources at once: found before splitting, so that it stays together, and tested for afterwards.

Every clip is compared with every clip of other sources, as matrix products of blocks: 2,000 clips of 20 pictures each take
half a minute on one core, and ten times as many a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from dyconv.records import Clip
from dyconv.release.model import ReleaseError
from dyconv.release.prints import BITS, PersonPrint, Print
from dyconv.release.splits import Union

_BLOCK = 4096  # rows compared at once


class Leak(StrEnum):
    """What two sources share."""

    SAME_PERSON = "same_person"  # a face or voice under another id
    SHARED_PARTNER = "shared_partner"  # one person, with another counterpart in each
    MIRRORED = "mirrored"  # pictures that are the other's, flipped
    NEAR_DUPLICATE = "near_duplicate"  # pictures that are the other's
    CHANNEL = "channel"  # stated by the manifest
    FILE = "file"  # one file as the own and as the partner's of two sources


@dataclass(frozen=True)
class Limits:
    """From where on two things count as the same.

    Measured on 189 public clips of 130 sources: of 4,270 pairs of voices from different sources none of other people came to
    0.88, while one person in two recordings came to 0.72 to 0.99, so that voices alone miss more than half of these. Pictures
    of the same recording in another crop or encoding differed in at most 54 bits, most of them in fewer than 35; pictures of
    different recordings in 62 or more.

    Attributes:
        voice: cosine of two voice vectors.
        face: cosine of two face descriptors.
        bits: differing bits of two picture hashes, of 256, at most.
        pictures: pictures of one clip that must be found in the other, at least.
        picture_share: share of the pictures of the clip with fewer of them that must be found in the other.
    """

    voice: float = 0.88
    face: float = 0.35
    bits: int = 52
    pictures: int = 2
    picture_share: float = 0.3


@dataclass(frozen=True)
class Link:
    """Two sources that share something: by clips, by persons where it is persons.

    Attributes:
        score: cosine, or share of pictures; 1 for what the manifest states.
        evidence: how it was found, for a person.
    """

    kind: Leak
    sources: tuple[str, str]
    where: tuple[str, str]
    score: float
    evidence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where[0]} and {self.where[1]} ({self.evidence})"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "sources": list(self.sources),
            "where": list(self.where),
            "score": round(self.score, 2),
            "evidence": self.evidence,
        }


def find_links(clips: Sequence[Clip], prints: Sequence[Print], limits: Limits) -> list[Link]:
    """Everything that sources share, sorted; of each kind one link, the surest, between two clips or persons."""
    best: dict[tuple[Leak, tuple[str, str]], Link] = {}
    for link in (*stated_links(clips), *person_links(prints, limits), *picture_links(prints, limits)):
        known = best.get((link.kind, link.where))
        if known is None or link.score > known.score:
            best[link.kind, link.where] = link
    return sorted(best.values(), key=lambda link: (link.sources, link.kind, link.where))


def joined(sources: Iterable[str], links: Iterable[Link]) -> Union:
    """Sources as components."""
    union = Union(sources)
    for link in links:
        union.join(*link.sources)
    return union


def check_leaks(links: Iterable[Link], split: Mapping[str, str]) -> None:
    """The leak test.

    Args:
        split: of each source.

    Raises:
        ReleaseError: naming what is in two splits.
    """
    found = [link for link in links if split[link.sources[0]] != split[link.sources[1]]]
    if not found:
        return
    told = "\n".join(f"  {link}: {split[link.sources[0]]} and {split[link.sources[1]]}" for link in found[:10])
    more = f"\n  and {len(found) - 10} more" if len(found) > 10 else ""
    raise ReleaseError(
        f"the splits leak: {len(found)} pairs of sources share something and are in different splits\n{told}{more}",
        hint="leave the splits to this command, or put these sources into one split; nothing was published",
    )


def stated_links(clips: Sequence[Clip]) -> Iterator[Link]:
    """What the manifest says: one channel, or one file in two sources."""
    sources = {clip.source.id: clip.source for clip in clips}
    owner: dict[tuple[Leak, str], str] = {}
    for source_id, source in sorted(sources.items()):
        stated = [(Leak.CHANNEL, source.channel)]
        stated += [(Leak.FILE, url) for url in (source.url, source.partner_url)]
        for kind, value in stated:
            if not value or (kind is Leak.FILE and value.startswith("file:///") and value.count("/") == 3):
                continue  # of local files only the name is known: the same name is not the same file
            first = owner.setdefault((kind, value), source_id)
            if first != source_id:
                yield Link(kind, (first, source_id), (first, source_id), 1.0, f"the manifest states {value[:80]!r} for both")


def person_links(prints: Sequence[Print], limits: Limits) -> Iterator[Link]:
    """People of different sources that sound or look the same."""
    people = [(one, person) for one in prints for person in one.people]
    for what, limit in (("voice", limits.voice), ("face", limits.face)):
        there = [(one, person) for one, person in people if getattr(person, what) is not None]
        if not there:
            continue
        there.sort(key=lambda pair: (pair[0].source, pair[1].key))
        vectors = np.stack([getattr(person, what) for _, person in there])
        origin = _numbers([one.source for one, _ in there])
        for first, second, score in _close(vectors, vectors, origin, limit):
            yield _person_link(there[first], there[second], score, what, limits)


def _person_link(
    first: tuple[Print, PersonPrint], second: tuple[Print, PersonPrint], score: float, what: str, limits: Limits
) -> Link:
    (a, person), (b, other) = first, second
    evidence = f"{what}s alike, cosine {score:.2f}"
    kind = Leak.SHARED_PARTNER if _partners_differ(a, person, b, other, limits) else Leak.SAME_PERSON
    return Link(kind, (a.source, b.source), (person.key, other.key), score, evidence)


def _partners_differ(a: Print, person: PersonPrint, b: Print, other: PersonPrint, limits: Limits) -> bool:
    """Whether each of the two talks with somebody, and not with the same one as far as voices and faces tell."""
    ours = [one for one in a.people if one.id != person.id]
    theirs = [one for one in b.people if one.id != other.id]
    if not ours or not theirs:
        return False
    pairs = ((ours[0].voice, theirs[0].voice, limits.voice), (ours[0].face, theirs[0].face, limits.face))
    return not any(one is not None and two is not None and float(one @ two) >= limit for one, two, limit in pairs)


def picture_links(prints: Sequence[Print], limits: Limits) -> Iterator[Link]:
    """Clips of different sources whose pictures are the same, as they are or mirrored."""
    shown = sorted((one for one in prints if len(one.pictures)), key=lambda one: (one.source, one.clip))
    if not shown:
        return
    owner = np.repeat(np.arange(len(shown)), [len(one.pictures) for one in shown])
    origin = _numbers([one.source for one in shown])[owner]
    plain = _signs(np.concatenate([one.pictures for one in shown]))
    turned = _signs(np.concatenate([one.mirrored for one in shown]))
    limit = 1.0 - 2.0 * limits.bits / BITS
    for kind, other in ((Leak.NEAR_DUPLICATE, plain), (Leak.MIRRORED, turned)):
        found: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
        for first, second, _ in _close(plain, other, origin, limit):
            pair = found.setdefault((int(owner[first]), int(owner[second])), (set(), set()))
            pair[0].add(first)
            pair[1].add(second)
        for (one, two), (ours, theirs) in sorted(found.items()):
            a, b = shown[one], shown[two]
            count = min(len(ours), len(theirs))
            share = count / min(len(a.pictures), len(b.pictures))
            enough = count >= min(limits.pictures, len(a.pictures), len(b.pictures)) and share >= limits.picture_share
            if enough:
                evidence = f"{count} pictures alike{' once flipped' if kind is Leak.MIRRORED else ''}, {share:.0%} of them"
                yield Link(kind, (a.source, b.source), (a.clip, b.clip), share, evidence)


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Hashes [n, 32] as float32 [n, 256] of length one: the product of two is 1 - 2 * differing bits / 256."""
    return (np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1) / np.float32(np.sqrt(BITS))


def _numbers(names: Sequence[str]) -> np.ndarray:
    order = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([order[name] for name in names])


def _close(first: np.ndarray, second: np.ndarray, origin: np.ndarray, limit: float) -> Iterator[tuple[int, int, float]]:
    """(row, later row, product) of all pairs of rows of different origin whose product is `limit` or more, in order.

    Args:
        first, second: float32 [n, D]; the product of row i of the one and row j of the other tells of i and j.
        origin: [n], rising.
    """
    for start in range(0, len(first), _BLOCK):
        for after in range(start, len(second), _BLOCK):
            product = first[start : start + _BLOCK] @ second[after : after + _BLOCK].T
            rows, columns = np.nonzero(product >= limit)
            other = origin[start + rows] < origin[after + columns]
            for row, column in zip(rows[other].tolist(), columns[other].tolist(), strict=True):
                yield start + row, after + column, float(product[row, column])


def same_people(prints: Sequence[Print], links: Iterable[Link]) -> dict[str, str]:
    """Of each person key, the name shared by all keys that are one person: the smallest of them."""
    keys = {person.key for one in prints for person in one.people}
    union = Union(keys)
    for link in links:
        if link.kind in (Leak.SAME_PERSON, Leak.SHARED_PARTNER) and set(link.where) <= keys:
            union.join(*link.where)
    return {key: union.find(key) for key in sorted(keys)}


def reasons(links: Iterable[Link]) -> dict[str, str]:
    """Of each source that is joined to others, why, in words."""
    out: dict[str, list[str]] = {}
    for link in links:
        for source in link.sources:
            other = link.sources[1] if source == link.sources[0] else link.sources[0]
            out.setdefault(source, []).append(f"{link.kind} {other}")
    return {source: "; ".join(sorted(why)) for source, why in sorted(out.items())}
