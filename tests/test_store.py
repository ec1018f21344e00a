"""An object that exists is finished, and no path leads out of the store."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyconv.arrays import load_arrays, save_arrays
from dyconv.errors import StoreError
from dyconv.records import Ref
from dyconv.store import Store, safe_path, sha256_of, write_atomic


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(tmp_path / "root")
    return Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")


def test_put_then_read(store, tmp_path):
    made = tmp_path / "made.bin"
    made.write_bytes(b"x" * 1000)
    ref = store.put(made, "work/a/made.bin")
    assert ref == Ref("work/a/made.bin", sha256_of(store.local(ref.path)), 1000)
    assert not made.exists() and store.exists(ref.path)
    assert store.verified(ref).read_bytes() == store.read_bytes(ref.path) == b"x" * 1000
    assert list(store.list("work/a")) == ["made.bin"]
    store.remove("work")
    assert not store.exists(ref.path)
    store.remove("work")


def test_what_is_not_there_is_an_error(store):
    with pytest.raises(StoreError, match=r"nothing\.bin is not in"):
        store.local("nothing.bin")
    assert list(store.list("nowhere")) == []


def test_a_changed_object_is_noticed(tmp_path):
    store = Store(tmp_path)
    made = tmp_path / "made"
    made.write_bytes(b"abc")
    ref = store.put(made, "a")
    (tmp_path / "a").write_bytes(b"abd")
    with pytest.raises(StoreError, match="not what was written"):
        store.verified(ref)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "ledger.json"
    write_atomic(target, b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.json"]


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x", ".", "a\0b"])
def test_paths_that_leave_are_refused(bad):
    with pytest.raises(StoreError, match="does not stay inside"):
        safe_path(bad)


@given(st.text(max_size=40))
def test_a_safe_path_stays_inside(text):
    try:
        path = safe_path(text)
    except StoreError:
        return
    root = Path("/root/store")
    assert os.path.normpath(root / path).startswith(f"{root}/")


def test_arrays_have_the_same_bytes_and_no_pickle(tmp_path):
    arrays = {"b": np.arange(6).reshape(2, 3), "a": np.zeros(3, np.float32)}
    save_arrays(tmp_path / "one.npz", arrays)
    save_arrays(tmp_path / "two.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = load_arrays(tmp_path / "one.npz")
    assert back.keys() == arrays.keys() and all(np.array_equal(back[name], arrays[name]) for name in arrays)
    np.savez(tmp_path / "evil.npz", a=np.array([object()], dtype=object))
    with pytest.raises(StoreError, match="plain arrays"):
        load_arrays(tmp_path / "evil.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "one.npz").read_bytes()[:-30])
    with pytest.raises(StoreError, match="plain arrays"):
        load_arrays(tmp_path / "cut.npz")
