"""Remote storage that fails: what passes is ridden out, what lasts stops with a name, and nothing half-done is believed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dyconv.copies import Copies, sweep_copies
from dyconv.errors import StorageDown, StoreError, UsageError
from dyconv.records import Ref
from dyconv.remote import Patience
from dyconv.store import Store
from tests.s3server import Fault, S3Server, always, first, in_environment, s3_server, share

QUICK = {"DYCONV_STORE_TIMEOUT": "1", "DYCONV_STORE_PATIENCE": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as made, in_environment(made.environment):
        yield made


@pytest.fixture
def store(server: S3Server, tmp_path: Path) -> Iterator[Store]:
    with in_environment(QUICK):
        yield Store(server.uri(uuid.uuid4().hex), cache=tmp_path / "cache")


def a_file(folder: Path, size: int = 300_000) -> Path:
    path = folder / "made.bin"
    path.write_bytes(bytes(range(256)) * (size // 256))
    return path


def test_it_does_what_a_folder_does(store: Store, tmp_path: Path) -> None:
    ref = store.put(a_file(tmp_path), "work/a/made.bin")
    data = store.verified(ref).read_bytes()
    assert len(data) == ref.size == store.size(ref.path) and store.read_bytes(ref.path) == data
    store.write_bytes("work/a/empty", b"")
    assert store.sizes("work/a") == {"empty": 0, "made.bin": ref.size} and store.sizes("work") == {"a": None}
    assert list(store.list("work/a")) == ["empty", "made.bin"] and list(store.list("nowhere")) == []
    assert list(store.walk()) == ["work/a/empty", "work/a/made.bin"] and store.read_bytes("work/a/empty") == b""
    with store.open(ref.path) as file:
        file.seek(1000)
        assert file.read(10) == data[1000:1010]
    assert list(store.read_many([ref.path, "work/a/empty", ref.path])) == [data, b"", data]
    store.discard("work/a/empty")
    store.discard("work/a/empty")
    store.remove("work")
    store.remove("work")
    assert not store.exists("work/a/made.bin") and not list(store.walk())
    with pytest.raises(StoreError, match=r"made\.bin is not in s3://"):
        store.local("work/a/made.bin")


def test_two_processes_see_each_others_writes(store: Store) -> None:
    store.write_bytes("ledger/0", b"x")
    assert list(store.list("ledger")) == ["0"] and not store.exists("ledger/1")
    code = f"from dyconv.store import Store; Store({store.root!r}).write_bytes('ledger/1', b'x')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list(store.list("ledger")) == ["0", "1"] and store.exists("ledger/1") and len(list(store.walk())) == 2


def test_a_failing_share_of_requests_changes_nothing(server: S3Server, store: Store, tmp_path: Path) -> None:
    """One request in five meets a 500, a throttle, a cut answer or a stall."""
    faults = (Fault(500), Fault(503), Fault(cut=True), Fault(stall_s=1.2))
    with in_environment({"DYCONV_STORE_PATIENCE": "60"}):
        patient = Store(store.root, cache=tmp_path / "other")
    with server.faults(share(0.2, 5, *faults)):
        refs = [patient.put(a_file(tmp_path), f"work/{number}/made.bin") for number in range(6)]
        for ref in refs:
            assert patient.verified(ref).stat().st_size == ref.size
        assert list(patient.list("work")) == [str(number) for number in range(6)]
        patient.remove("work/3")
        assert not patient.exists("work/3/made.bin") and patient.exists("work/4/made.bin")


@pytest.mark.parametrize(
    "fault", [Fault(500), Fault(503), Fault(cut=True), Fault(stall_s=1.2)], ids=["500", "503", "cut", "stall"]
)
def test_storage_that_is_away_is_told_with_what_to_do(server: S3Server, store: Store, tmp_path: Path, fault: Fault) -> None:
    ref = store.put(a_file(tmp_path), "work/made.bin")
    began = time.monotonic()
    with (
        server.faults(always(fault)),
        pytest.raises(StorageDown, match=r"s3://build/.*made\.bin failed \d+ times in \d+ s; last: ") as told,
    ):
        store.local(ref.path)
    assert time.monotonic() - began < 40
    assert told.value.hint is not None and "run the same command" in told.value.hint
    assert not list((tmp_path / "cache").rglob("*.*")), "half a copy was left"


@pytest.mark.parametrize("call", ["exists", "size", "read_bytes", "discard", "remove", "list"])
def test_no_operation_takes_an_error_for_an_absence(server: S3Server, store: Store, call: str) -> None:
    store.write_bytes("work/a", b"x")
    with server.faults(always(Fault(500))), pytest.raises(StorageDown):
        made = getattr(store, call)("work/a")
        list(made)
    assert store.exists("work/a")


def test_a_refusal_and_a_missing_bucket_are_told_at_once(server: S3Server, store: Store, tmp_path: Path) -> None:
    seen = len(server.seen)
    with server.faults(always(Fault(403))), pytest.raises(StorageDown, match="PermissionError") as told:
        store.write_bytes("a", b"x")
    assert told.value.hint is not None and "credentials" in told.value.hint and len(server.seen) == seen + 1
    with pytest.raises(StorageDown, match="bucket does not exist"):
        Store("s3://nobody-made-this/x").write_bytes("a", b"x")
    with pytest.raises(UsageError, match="cannot write to nothing://"):
        Store("nothing://bucket").write_bytes("a", b"x")


def test_an_answer_that_breaks_off_is_fetched_to_its_end(server: S3Server, store: Store, tmp_path: Path) -> None:
    ref = store.put(a_file(tmp_path), "work/made.bin")
    with server.faults(first(2, Fault(cut=True), "get")):
        assert store.verified(ref).stat().st_size == ref.size
    with server.faults(first(1, Fault(cut=True), "get")):
        assert len(store.read_bytes(ref.path)) == ref.size


def test_a_full_local_disk_is_no_missing_object(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = store.put(a_file(tmp_path), "work/made.bin")
    import builtins

    real = builtins.open

    def full(path: object, mode: str = "r", *more: object, **options: object) -> object:
        if "made.bin" in str(path) and "w" in mode:
            raise OSError(28, "No space left on device")
        return real(path, mode, *more, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(StorageDown, match="No space left") as told:
        store.local(ref.path)
    assert told.value.hint is not None and "make room" in told.value.hint


def test_a_copy_of_the_wrong_size_is_fetched_anew(store: Store, tmp_path: Path) -> None:
    ref = store.put(a_file(tmp_path), "work/made.bin")
    copy = store.local(ref.path)
    copy.write_bytes(b"half")
    assert store.local(ref.path, ref.size).stat().st_size == ref.size
    store.write_bytes(ref.path, b"short")
    with pytest.raises(StoreError, match="has 5 bytes, not"):
        store.local(ref.path, ref.size)


def test_requests_are_few(server: S3Server, store: Store, tmp_path: Path) -> None:
    """Each one costs money and 10 to 100 ms."""
    made = a_file(tmp_path)

    def cost(call: object) -> int:
        before = len(server.seen)
        call()  # type: ignore[operator]
        return len(server.seen) - before

    assert cost(lambda: store.write_bytes("a/b", b"x")) == 1
    assert cost(lambda: store.read_bytes("a/b")) == 1
    assert cost(lambda: store.put(made, "a/made", keep=True)) == 1
    assert cost(lambda: store.local("a/made")) == 0, "what this process has written it need not fetch"
    assert cost(lambda: store.local("a/b")) == 1
    assert cost(lambda: store.local("a/b")) == 0
    assert cost(lambda: store.sizes("a")) == 1
    assert cost(lambda: store.discard("a/b")) == 1
    before = len(server.seen)
    with pytest.raises(StoreError, match="is not in"):
        store.read_bytes("a/none")
    assert len(server.seen) == before + 1


def test_copies_are_bounded_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(f"memory://{uuid.uuid4().hex}")
    store._copies = Copies(limit=2500)
    for number in range(4):
        store.write_bytes(f"a/{number}", b"x" * 1000)
        store.local(f"a/{number}")
        time.sleep(0.01)
    folder = next(tmp_path.glob("dyconv-cache-*"))

    def there() -> list[str]:
        return sorted(path.name for path in folder.rglob("*") if path.is_file())

    store.trim()
    assert there() == ["0", "1", "2", "3"], "what has just been used is needed by the next stage"
    store.local("a/0")
    store.trim()
    assert there() == ["0", "3"], "used last, and made last"
    store.trim()
    assert there() == ["0", "3"]
    made = tmp_path / "large.bin"
    made.write_bytes(b"x" * 9000)
    store.put(made, "a/large", keep=True)
    store.trim()
    assert there() == ["large"]
    store.trim()
    assert there() == []
    del store
    assert not folder.exists()


def test_copies_of_killed_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, tempfile; tempfile.tempdir = os.environ['FOLDER']; from dyconv.store import Store;"
        "store = Store('memory://x'); store.write_bytes('a', b'x'); store.local('a'); os.kill(os.getpid(), 9)"
    )
    with in_environment({"FOLDER": str(tmp_path)}):
        subprocess.run([sys.executable, "-c", code])
    assert len(list(tmp_path.glob("dyconv-cache-*"))) == 1
    alive = Store("memory://x")
    alive.write_bytes("b", b"y")
    mine = alive.local("b")
    sweep_copies()
    assert list(tmp_path.glob("dyconv-cache-*")) == [mine.parent]


def test_pauses_grow_and_differ() -> None:
    patience = Patience()
    means = [sum(patience.pause(tries) for _ in range(50)) / 50 for tries in range(1, 12)]
    assert all(later > earlier for earlier, later in pairwise(means[:7]))
    assert max(patience.pause(30) for _ in range(50)) <= patience.most_s
    assert len({patience.pause(3) for _ in range(20)}) > 10
    with in_environment({"DYCONV_STORE_PATIENCE": "soon"}), pytest.raises(UsageError, match="DYCONV_STORE_PATIENCE"):
        Patience.of_environment()


def test_many_threads_share_a_store(server: S3Server, store: Store) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for count in range(5):
            store.write_bytes(f"t/{number}-{count}", f"{number}-{count}".encode())
            if store.read_bytes(f"t/{number}-{count}") != f"{number}-{count}".encode():
                wrong.append(f"{number}-{count}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(list(store.list("t"))) == 20


def test_a_reference_is_still_compared_by_its_hash(store: Store, tmp_path: Path) -> None:
    ref = store.put(a_file(tmp_path), "work/made.bin")
    with pytest.raises(StoreError, match="not what was written"):
        store.verified(Ref(ref.path, "0" * 64, ref.size))
