"""Every reader that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import targets_media, targets_shards, targets_text
from tests.fuzz.target import Target

GROUPS: Mapping[str, tuple[Target, ...]] = {
    "text": targets_text.TARGETS,
    "shards": targets_shards.BUILDS,
    "releases": targets_shards.RELEASES,
    "media": targets_media.TARGETS,
}
TARGETS: Mapping[str, Target] = {target.name: target for group in GROUPS.values() for target in group}
