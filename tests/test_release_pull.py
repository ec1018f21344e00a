"""Parts of a release onto a disk, and a recipe-only release made whole again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dyconv.errors import UsageError
from dyconv.records import Clip, Drop, DropReason
from dyconv.release.build import Options, make_release
from dyconv.release.check import check_release
from dyconv.release.model import Kind, ReleaseError
from dyconv.release.pull import find_release, pull
from dyconv.release.rebuild import manifest_text, rebuild
from dyconv.runner import RunOptions
from dyconv.shards import open_shards
from dyconv.store import Store
from tests import small_build
from tests.release_build import make_build, several

QUICK = Options(voices=False, ratios={"train": 0.5, "test": 0.5})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("release")
    talks = [replace(talk, clips=1 + number % 3, frames=40) for number, talk in enumerate(several(5))]
    build = make_build(tmp_path / "build", tmp_path / "scratch", talks)
    return Path(make_release(build, str(tmp_path / "set"), "1.0.0", QUICK).where)


def ids(folder: Path) -> list[str]:
    return [sample.id for sample in open_shards(folder)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# pull


def test_each_part_reads_and_checks_like_a_release(release: Path, tmp_path: Path) -> None:
    rows = pq.read_table(release / "tables" / "clips.parquet").to_pylist()
    test = sorted(row["id"] for row in rows if row["split"] == "test")
    parts = {
        "tables": [],
        "split:test": test,
        f"clip:{rows[1]['id']}": [rows[1]["id"]],
        "shard:clips-000000": [row["id"] for row in rows if row["shard"] == "clips-000000.tar"],
    }
    for number, (only, wanted) in enumerate(parts.items()):
        folder = tmp_path / str(number)
        done = pull(str(release), folder, [only])
        assert ids(folder) == wanted and done.clips == len(wanted)
        assert check_release(Store(folder)).ok, check_release(Store(folder)).problems
        whole = {sample.id: dict(sample.members) for sample in open_shards(release)}
        assert all(dict(sample.members) == whole[sample.id] for sample in open_shards(folder))


def test_all_of_it_is_the_same_bytes_and_nothing_is_read_twice(release: Path, tmp_path: Path) -> None:
    assert pull(str(release.parent), tmp_path / "out").clips == len(ids(release))
    assert files(tmp_path / "out") == files(release)
    assert pull(str(release), tmp_path / "out").bytes == 0
    pull(str(release), tmp_path / "out", ["split:test"])
    assert len(ids(tmp_path / "out")) < len(ids(release)) and check_release(Store(tmp_path / "out")).ok
    pull(str(release), tmp_path / "out")
    assert files(tmp_path / "out") == files(release)


def test_a_broken_pull_goes_on_and_a_wrong_file_is_refused(release: Path, tmp_path: Path) -> None:
    shards = tmp_path / "out" / "shards"
    shards.mkdir(parents=True)
    whole = (release / "shards" / "clips-000000.tar").read_bytes()
    (shards / "clips-000000.tar.part").write_bytes(whole[:5000])
    (shards / "clips-000001.tar.part").write_bytes(b"something else")
    done = pull(str(release), tmp_path / "out")
    assert files(tmp_path / "out") == files(release)
    assert done.bytes < sum(map(len, files(release).values())) + len((release / "shards" / "clips-000001.tar").read_bytes())
    broken = tmp_path / "broken"
    for name, data in files(release).items():
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_bytes(data)
    data = bytearray(whole)
    data[data.index(b"fLaC") + 60] ^= 1
    (broken / "shards" / "clips-000000.tar").write_bytes(bytes(data))
    with pytest.raises(ReleaseError, match=r"clips-000000\.tar .* is not what CHECKSUMS"):
        pull(str(broken), tmp_path / "other")
    first = json.loads((release / "shards" / "index.json").read_text())["clips"][0]["first"]
    with pytest.raises(ReleaseError, match=first):
        pull(str(broken), tmp_path / "third", [f"clip:{first}"])


def test_a_remote_release_is_pulled_by_ranges(release: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, data in files(release).items():
        memory.pipe_file(f"/pull/1.0.0/{name}", data)
    pull("memory://pull/1.0.0", tmp_path / "out", ["split:test"])
    assert check_release(Store(tmp_path / "out")).ok
    memory.rm("/pull", recursive=True)


def test_what_is_not_there_is_told(release: Path, tmp_path: Path) -> None:
    for only in ("clip:no", "shard:clips-9", "split:dev", "everything", ""):
        with pytest.raises(UsageError, match="expected --only"):
            pull(str(release), tmp_path / "out", [only])
    with pytest.raises(UsageError, match="no release"):
        find_release(str(tmp_path / "nothing"))
    pull(str(release), tmp_path / "one", ["tables"])
    (tmp_path / "one" / "release.json").write_text("{}")
    with pytest.raises(UsageError, match="another release"):
        pull(str(release), tmp_path / "one")


# rebuild


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A full and a recipe-only release of one build that a run made."""
    tmp_path = tmp_path_factory.mktemp("both")
    build = small_build.small_build(tmp_path / "build", pack=True)
    options = replace(QUICK, name="set", ratios={"train": 1.0})
    full = make_release(build, str(tmp_path / "full"), "1.0.0", options)
    bare = make_release(build, str(tmp_path / "bare"), "1.0.0", replace(options, kind=Kind.RECIPE_ONLY))
    return Path(full.where), Path(bare.where)


RECIPE = str(Path(small_build.__file__))
HERE = RunOptions(backend="local", workers=0)


def test_a_rebuilt_release_has_the_shards_of_the_full_one(both: tuple[Path, Path], tmp_path: Path) -> None:
    full, bare = both
    assert not any(b"ftyp" in path.read_bytes() for path in bare.rglob("*.tar"))
    result = rebuild(str(bare), tmp_path / "out", recipe=RECIPE, options=HERE)
    assert result.ok and len(result.same) == 2 and not result.notes
    for name, data in files(full / "shards").items():
        if name.endswith(".tar"):
            assert (tmp_path / "out" / "shards" / name).read_bytes() == data
    assert json.loads((tmp_path / "out" / "rebuild.json").read_text())["same"] == result.same
    assert {sample.id for sample in open_shards(tmp_path / "out")} == set(result.same)


def test_what_is_gone_or_different_is_named(both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched, mixed = small_build.Fetch.process, small_build.write_audio

    def gone(self: small_build.Fetch, clip: Clip, files: object) -> Iterator[Clip | Drop]:
        if clip.source.id == "other":
            yield Drop(clip, DropReason.UNAVAILABLE, "expected a video, found HTTP 410")
        else:
            yield from fetched(self, clip, files)  # type: ignore[arg-type]

    recipe = tmp_path / "recipe.py"
    recipe.write_text("from tests.small_build import RECIPE\n")
    monkeypatch.setattr(small_build.Fetch, "process", gone)
    monkeypatch.setattr(small_build, "write_audio", lambda path, samples: mixed(path, samples * 0.5))
    result = rebuild(str(both[1]), tmp_path / "out", recipe=str(recipe), options=HERE)
    assert list(result.gone) == ["other"] and "UNAVAILABLE" in result.gone["other"] and "410" in result.gone["other"]
    assert list(result.different.values()) == [["mix.flac"]] and not result.same and not result.ok
    assert any("gone: source other" in line for line in result.told())


def test_a_release_does_not_choose_which_files_are_run_or_read(both: tuple[Path, Path], tmp_path: Path) -> None:
    told = json.loads((both[1] / "release.json").read_text())
    (tmp_path / "evil.py").write_text("raise SystemExit('was run')\n")
    for recipe in ({"name": str(tmp_path / "evil.py")}, {"name": "x", "own_file": True}):
        folder = tmp_path / recipe["name"].replace("/", "_")
        for name, data in files(both[1]).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        (folder / "release.json").write_text(json.dumps({**told, "recipe": {**told["recipe"], **recipe}}))
        with pytest.raises(UsageError, match="recipe"):
            rebuild(str(folder), tmp_path / "out", options=HERE)
    assert "file:///passwd" in manifest_text([{"id": "one", "url": "file:///etc/passwd"}], None)


def test_local_sources_are_looked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x y.mp4").write_bytes(b"")
    rows = [{"id": "one", "url": "file:///x%20y.mp4", "licence": "own"}, {"id": "two", "url": "https://example.org/v"}]
    found = list(csv.DictReader(manifest_text(rows, tmp_path).splitlines()))
    assert found[0]["url"].endswith("/a/x%20y.mp4") and found[1]["url"] == "https://example.org/v"
    (tmp_path / "x y.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match="2 times"):
        manifest_text(rows, tmp_path)
