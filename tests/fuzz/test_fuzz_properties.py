"""What holds of readers for any value at all (hypothesis)."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dyconv.arrays import load_arrays, save_arrays
from dyconv.errors import DyconvError, ShardError, StoreError, shown
from dyconv.records import Clip, dump
from dyconv.release.about import parse_about
from dyconv.release.checksums import parse_checksums
from dyconv.shards.index import Index
from dyconv.shards.table import columns
from dyconv.shards.tar import read_members, split_name
from dyconv.store import safe_path
from dyconv.time import seconds
from dyconv.tombstones import parse_tombstones
from dyconv.truth import parse_truth
from tests.fuzz.targets_text import _decisions, _sample, _tombstones, _truth, clip

TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["../x", "/etc/passwd", "1e9999", "\ud800", "\0", "nan", "p0", "a" * 300]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 2**63, 1e308])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, item in items for way in places(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    out = copy.deepcopy(value)
    holder = out
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return out


def _index() -> dict[str, Any]:
    shard = {"name": "clips-000000.tar", "sha256": "0" * 64, "bytes": 9, "samples": 1, "fields": {"json": 1}}
    return {
        "version": 1,
        "recipe": "r",
        "samples_per_shard": 9,
        "encoder": {"name": "e", "hash": "b" * 64},
        "clips": [{**shard, "first": "a", "last": "a", "inputs": "i"}],
        "motion": [],
        "table": {"name": "clips.parquet", "sha256": "0" * 64, "bytes": 5, "rows": 1},
        "totals": {"clips": 1, "hours": 0.1},
    }


def _use_clip(data: Any) -> object:
    found = Clip.from_json(data)
    assert Clip.from_json(json.loads(dump(found.to_json()))) == found
    return found.frames, columns(found, "s", 0)


def _decision(data: Any) -> object:
    from dyconv.audit.decisions import Decision

    return Decision.from_json(data)


def _sampled(data: Any) -> object:
    from dyconv.audit.sampling import Sample

    return Sample.from_json(data)


READERS: dict[str, tuple[Any, Callable[[Any], object], tuple[type[Exception], ...]]] = {
    "clip": (clip().to_json(), _use_clip, (ValueError,)),
    "index": (_index(), lambda data: dump(Index.from_json(data).to_json()), (ValueError, KeyError, TypeError, AttributeError)),
    "truth": (json.loads(_truth(Path())), parse_truth, (DyconvError,)),
    "tombstones": (json.loads(_tombstones(Path())), lambda data: parse_tombstones(data, "t").all, (DyconvError,)),
    "decision": (json.loads(_decisions(Path()).split(b"\n")[3]), _decision, (DyconvError,)),
    "sample": (json.loads(_sample(Path())), _sampled, (DyconvError,)),
}


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_any_value_in_any_place_is_read_or_refused_with_words(name: str, data: st.DataObject) -> None:
    valid, read, right = READERS[name]
    path = data.draw(st.sampled_from(places(valid)))
    try:
        read(changed(valid, path, data.draw(VALUES)))
    except right as error:
        assert str(error).strip()
        if isinstance(error, DyconvError):
            str(error).encode()


@given(value=VALUES)
def test_anything_as_release_json(value: Any) -> None:
    try:
        parse_about(json.dumps(value).encode(), "release.json")
    except DyconvError as error:
        str(error).encode()


@given(text=TEXTS | st.from_regex(r"-?[0-9]{1,9}([./][0-9]{1,9})?([eE][+-]?[0-9]{1,9})?", fullmatch=True))
def test_a_text_is_a_time_or_none(text: str) -> None:
    try:
        assert abs(seconds(text)) < 10**1300
    except ValueError as error:
        assert "not a time" in str(error)


@given(path=TEXTS | st.lists(st.sampled_from(["..", ".", "a", "", "b.c", "~", "\\", "/"]), max_size=6).map("/".join))
def test_a_safe_path_stays_inside(path: str) -> None:
    try:
        safe = PurePosixPath(safe_path(path))
    except StoreError:
        return
    assert not safe.is_absolute() and ".." not in safe.parts and safe.parts
    assert Path("/root/of/store", safe).resolve().is_relative_to("/root/of/store")


@given(name=TEXTS)
def test_a_member_of_a_shard_has_no_folder(name: str) -> None:
    try:
        stem, suffix = split_name(name, "a.tar")
    except ShardError:
        return
    assert f"{stem}.{suffix}" == name and "/" not in name and ".." not in suffix


@given(text=st.text(st.characters(), max_size=300))
def test_checksums_are_read_or_refused(text: str) -> None:
    try:
        assert all(safe_path(path) == path for path in parse_checksums(text, "CHECKSUMS.sha256"))
    except DyconvError as error:
        str(error).encode()


@given(data=st.binary(max_size=1500))
def test_any_bytes_as_a_tar_or_an_npz(data: bytes) -> None:
    for read in (lambda: list(read_members(io.BytesIO(data), "a.tar")), lambda: load_arrays(io.BytesIO(data))):
        try:
            read()
        except (ShardError, StoreError) as error:
            assert str(error).strip()


@given(array=arrays.arrays(arrays.scalar_dtypes(), arrays.array_shapes(min_dims=1, max_dims=3, max_side=5)))
def test_arrays_come_back_as_they_were(array: np.ndarray) -> None:
    buffer = io.BytesIO()
    save_arrays(buffer, {"a": array})
    found = load_arrays(io.BytesIO(buffer.getvalue()))["a"]
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()


@given(text=st.text(st.characters(), max_size=3000))
def test_any_text_of_an_error_can_be_shown(text: str) -> None:
    told = shown(text)
    assert (told.encode() and len(told) < 2100) or not text
    assert all(sign.isprintable() or sign in "\n\t" for sign in told)
