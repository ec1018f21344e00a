"""One clip as read from a shard: its record, and members that are decoded when they are asked for.

Nothing is unpickled: JSON, FLAC, MP4 and npz of plain arrays are all there is. (WebDataset's stock decoder would
unpickle a member whose name ends in `.pyd`, so it is not used.)
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from dyconv.arrays import load_arrays
from dyconv.bounds import parse_json
from dyconv.errors import ShardError
from dyconv.media.audio import read_audio
from dyconv.media.video import frame_count, read_frames
from dyconv.records import Clip, Key
from dyconv.shards.index import RECORD


@dataclass(frozen=True)
class Sample:
    """A clip and the bytes of its members, by `Key`."""

    clip: Clip
    members: Mapping[Key, bytes] = field(repr=False)
    shard: str

    @property
    def id(self) -> str:
        return self.clip.id

    def __contains__(self, key: str) -> bool:
        return key in self.members

    def raw(self, key: str) -> bytes:
        """The member's bytes.

        Raises:
            KeyError: saying what the clip has.
        """
        if key not in self.members:
            raise KeyError(f"clip {self.id} has no {key} (it has: {', '.join(sorted(self.members))})")
        return self.members[Key(key)]

    def frames(self, key: str, start: int = 0, stop: int | None = None, *, size: tuple[int, int] | None = None) -> np.ndarray:
        """Frames of a video as uint8 RGB [T, H, W, 3]; only from the keyframe before `start` on is decoded."""
        frames = list(read_frames(io.BytesIO(self.raw(key)), start, stop, size=size))
        if not frames:
            raise ShardError(f"{self.shard}, clip {self.id}: {key} has no frames from {start} on", hint="run `dyconv check`")
        return np.stack(frames)

    def frame_count(self, key: str) -> int:
        return frame_count(io.BytesIO(self.raw(key)))

    def audio(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples float32 [N] in -1 to 1, mono 16 kHz."""
        return read_audio(io.BytesIO(self.raw(key)), start, stop)

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        """The arrays of an npz member, read without pickle."""
        return load_arrays(io.BytesIO(self.raw(key)))

    def decode(self, key: str) -> np.ndarray | dict[str, np.ndarray]:
        """The whole member: frames, samples or arrays, as its file name says."""
        suffix = PurePosixPath(key).suffix
        if suffix == ".mp4":
            return self.frames(key)
        if suffix == ".flac":
            return self.audio(key)
        return self.arrays(key)


def parse_record(data: bytes, where: str) -> Clip:
    """The record of a sample.

    Raises:
        ShardError: if it is not one.
    """
    try:
        return Clip.from_json(parse_json(data))
    except ValueError as error:
        raise ShardError(f"{where}: its record is damaged: {error!s:.300}", hint="run `dyconv check` on it") from error


def make_sample(clip_id: str, members: Mapping[str, bytes], shard: str) -> Sample:
    """A sample from the members of one clip id, by field name.

    Raises:
        ShardError: if the record is missing or another clip's, or a member is not one of `Key`.
    """
    where = f"{shard}, clip {clip_id}"
    if RECORD not in members:
        raise ShardError(f"{where}: no record (member {clip_id}.{RECORD})")
    clip = parse_record(members[RECORD], where)
    if clip.id != clip_id:
        raise ShardError(f"{where}: its record is of clip {clip.id}")
    unknown = sorted(name for name in members if name != RECORD and name not in set(Key))
    if unknown:
        raise ShardError(f"{where}: unknown members {', '.join(unknown)}")
    return Sample(clip, {Key(name): data for name, data in members.items() if name != RECORD}, shard)
