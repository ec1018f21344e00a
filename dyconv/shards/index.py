"""The index of a build's shards: what `shards/index.json` holds, and how shards are named.

There are two aligned families of tars. `clips-000000.tar` holds records, video, sound and crops;
`motion-<hash8>-000000.tar` holds the motion latents of the same clips in the same order, where `<hash8>` names the
encoder's latent space. So re-encoding the motion writes new motion tars and touches nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from dyconv.bounds import parse_json
from dyconv.errors import ShardError
from dyconv.records import Key
from dyconv.store import Store

VERSION = 1
FOLDER = "shards"
INDEX = f"{FOLDER}/index.json"
PENDING = f"{FOLDER}/pending.json"  # names being replaced right now; there only while a pack is at work
TABLE = "clips.parquet"
RECORD = "json"  # the record's field: `<clip id>.json`
MOTION_KEYS = frozenset({Key.P0_MOTION, Key.P1_MOTION})

_LARGEST = 1 << 53  # of counts and bytes
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"(clips|motion-[0-9a-f]{8})-\d{6}\.tar")


def shard_name(prefix: str, number: int) -> str:
    return f"{prefix}-{number:06d}.tar"


def motion_prefix(encoder_hash: str) -> str:
    """`motion-<hash8>`; the hash is cut to its first eight hex digits."""
    return f"motion-{encoder_hash[:8]}"


def is_shard_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Shard:
    """One tar.

    Attributes:
        fields: how many samples carry each member, by the member's name after the clip id.
        first, last: ids of its first and last sample; "" where it has none.
        inputs: hash of everything the tar was made of; the same inputs give the same bytes.
    """

    name: str
    sha256: str
    bytes: int
    samples: int
    fields: Mapping[str, int]
    first: str
    last: str
    inputs: str


@dataclass(frozen=True)
class Encoder:
    """The motion encoder's name and the full hash of its latent space."""

    name: str
    hash: str


@dataclass(frozen=True)
class Table:
    name: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Index:
    """Everything a reader must know before it opens a tar. `motion` is empty, or as long as `clips`.

    `overlay` is the version of the reviewers' decisions that were applied, None where none were.
    """

    recipe: str
    clips: tuple[Shard, ...]
    motion: tuple[Shard, ...]
    encoder: Encoder | None
    table: Table
    hours: float
    samples_per_shard: int
    version: int = VERSION
    overlay: str | None = None

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.clips)

    @property
    def shards(self) -> tuple[Shard, ...]:
        return self.clips + self.motion

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "recipe": self.recipe,
            "samples_per_shard": self.samples_per_shard,
            "encoder": asdict(self.encoder) if self.encoder else None,
            "clips": [asdict(shard) for shard in self.clips],
            "motion": [asdict(shard) for shard in self.motion],
            "table": asdict(self.table),
            "totals": {"clips": self.samples, "hours": self.hours},
            **({} if self.overlay is None else {"overlay": self.overlay}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Index:
        """
        Raises:
            ValueError, KeyError, TypeError, AttributeError: for anything but what `to_json` gave.
        """
        overlay, hours, size = data.get("overlay"), data["totals"]["hours"], data["samples_per_shard"]
        known = isinstance(data["recipe"], str) and isinstance(overlay, str | None) and type(size) is int
        if not known or type(hours) not in (int, float) or not 0 <= hours < _LARGEST:
            raise ValueError("recipe, totals.hours, samples_per_shard or overlay is of another type")
        return cls(
            recipe=data["recipe"],
            clips=tuple(_shard(item) for item in data["clips"]),
            motion=tuple(_shard(item) for item in data["motion"]),
            encoder=_typed(Encoder(**data["encoder"])) if data["encoder"] else None,
            table=_typed(Table(**data["table"])),
            hours=hours,
            samples_per_shard=size,
            version=data["version"],
            overlay=overlay,
        )


_Entry = TypeVar("_Entry", Shard, Encoder, Table)


def _typed(entry: _Entry) -> _Entry:
    """The entry, after a look at its values: texts are texts, hashes are hashes, counts are counts."""
    for name, value in vars(entry).items():
        if name in ("bytes", "samples", "rows"):
            sound = type(value) is int and 0 <= value < _LARGEST
        elif name == "sha256":
            sound = isinstance(value, str) and _SHA256.fullmatch(value) is not None
        elif name == "fields":
            sound = isinstance(value, dict) and all(type(count) is int and 0 <= count < _LARGEST for count in value.values())
        else:
            sound = isinstance(value, str)
        if not sound:
            raise ValueError(f"{name} is {str(value)[:60]!r}")
    return entry


def _shard(data: Mapping[str, Any]) -> Shard:
    shard = _typed(Shard(**data))
    if not is_shard_name(shard.name):
        raise ValueError(f"{shard.name!r} is not the name of a shard")
    return shard


def read_index(store: Store) -> Index:
    """The index of a build.

    Raises:
        ShardError: if there is none, it is damaged, or a later version wrote it.
    """
    if not store.exists(INDEX):
        raise ShardError(f"{store} has no {INDEX}", hint="give the folder of a build, and run `dyconv pack` on it first")
    try:
        data = parse_json(store.read_bytes(INDEX))
        if data["version"] != VERSION:
            raise ShardError(
                f"{store}/{INDEX} has version {str(data['version'])[:40]}, this program reads {VERSION}",
                hint="read it with the version of dyconv that wrote it, or pack again",
            )
        index = Index.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{store}/{INDEX} is damaged: {error!r}", hint="run `dyconv pack` again") from error
    if index.motion and len(index.motion) != len(index.clips):
        raise ShardError(
            f"{store}/{INDEX} lists {len(index.motion)} motion shards for {len(index.clips)} clip shards",
            hint="run `dyconv pack` again",
        )
    return index
