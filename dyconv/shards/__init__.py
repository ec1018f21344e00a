"""WebDataset shards: written with the same bytes for the same clips, checked against an index, read back with proof.

from dyconv.shards import open_shards
for sample in open_shards("out/demo"):
    sample.clip, sample.audio("p0.voice.flac"), sample.frames("p0.face.mp4", 0, 25)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyconv.shards.checking import Problem, check
    from dyconv.shards.index import Index, read_index
    from dyconv.shards.loader import ShardDataset, open_shards
    from dyconv.shards.packing import PackResult, pack
    from dyconv.shards.sample import Sample

__all__ = ["Index", "PackResult", "Problem", "Sample", "ShardDataset", "check", "open_shards", "pack", "read_index"]

_HOME = {
    "Index": "index",
    "read_index": "index",
    "PackResult": "packing",
    "pack": "packing",
    "Problem": "checking",
    "check": "checking",
    "Sample": "sample",
    "ShardDataset": "loader",
    "open_shards": "loader",
}


def __getattr__(name: str) -> Any:
    """Load on first use: the loader needs torch, the command line does not want it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
