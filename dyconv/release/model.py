"""What a release is made of: the words that its parts share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dyconv.errors import DyconvError, UsageError
from dyconv.records import Clip, Person

RELEASE = "release.json"  # written last: what has none is no release
CHECKSUMS = "CHECKSUMS.sha256"
TABLES = "tables"
CARD, CHANGELOG, LICENCES = "README.md", "CHANGELOG.md", "LICENCES.md"
CROISSANT, TOMBSTONES = "croissant.json", "tombstones.json"
FORMAT = 1
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class ReleaseError(DyconvError):
    """A release cannot be made, or is not what it says."""


class Kind(StrEnum):
    FULL = "full"
    RECIPE_ONLY = "recipe-only"  # everything but the media: ids, spans, annotations, latents, hashes


@dataclass(frozen=True)
class Entry:
    """One clip of a release.

    Attributes:
        clip: its record as released; `assets` name everything a full release has of it, by `<clip id>.<member>` of the build.
        split: name of its split.
        component: id of its component of sources (see `dyconv.release.splits`).
        motion: motion members: name in the release -> name in the build.
    """

    clip: Clip
    split: str
    component: str
    motion: Mapping[str, str] = field(default_factory=dict)


def check_version(version: str) -> str:
    """Return `version` if it is three numbers such as 1.0.0.

    Raises:
        UsageError: for anything else.
    """
    if not _VERSION.fullmatch(version):
        raise UsageError(f"expected a version of three numbers such as 1.0.0, found {version[:40]!r}")
    return version


def version_key(version: str) -> tuple[int, ...]:
    """For sorting versions by number."""
    return tuple(int(part) for part in version.split("."))


def is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


def person_key(clip: Clip, person: Person) -> str:
    """How a person is called before people of different segments are compared: `<segment>.<identity>`.

    Identities are numbered within a segment, so they say nothing beyond it.
    """
    if person.identity is None:
        return f"{clip.id}.{person.id}"
    return f"{clip.parent or clip.source.id}.{person.identity}"


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: half surrogates, of titles that were not UTF-8, are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def source_text(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a source with clean text."""
    return {name: clean_text(value) if isinstance(value, str) else value for name, value in data.items()}
