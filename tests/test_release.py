"""Releases: what is in them, that they leak nobody, that the same input gives the same bytes, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dyconv.audit.decisions import base_of, decide
from dyconv.audit.overlay import Annotations
from dyconv.audit.rates import error_rates
from dyconv.errors import DyconvError, StoreError, UsageError
from dyconv.release.build import Options, make_release
from dyconv.release.check import check_release
from dyconv.release.model import Kind
from dyconv.release.packed import Packed
from dyconv.shards import check as check_shards
from dyconv.shards import open_shards
from dyconv.store import Store
from tests.release_build import HALVES, make_build, released, rows, several

NASTY = "<script>alert('x')</script> | `co` [a](http://evil.example)"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of eight sources that share nothing: 10 clips, three splits."""
    tmp_path = tmp_path_factory.mktemp("plain")
    talks = several(8)
    talks[0] = replace(talks[0], title=NASTY, clips=3, channel="a")
    talks[1] = replace(talks[1], voice="ann", language="de")
    ratios = {"train": 0.6, "validation": 0.2, "test": 0.2}
    return Path(released(tmp_path, talks, ratios=ratios, date="2026-11-21").where)


def copy(release: Path, target: Path) -> Path:
    return Path(shutil.copytree(release, target))


# what is in a release


def test_a_release_is_a_build_by_splits_and_its_own_check_is_green(plain: Path) -> None:
    report = check_release(Store(plain), deep=True)
    assert report.ok, report.problems
    assert check_shards(Store(plain)).ok
    clips = rows(plain, "clips")
    assert len(clips) == 10 and {row["release"] for row in clips} == {"1.0.0"}
    for shard in {row["shard"] for row in clips}:
        assert len({row["split"] for row in clips if row["shard"] == shard}) == 1
    assert {row["split"] for row in clips} == {"train", "validation", "test"}
    assert (plain / "tables" / "clips.parquet").read_bytes() == (plain / "shards" / "clips.parquet").read_bytes()
    told = json.loads((plain / "release.json").read_text())
    assert told["splits"]["seed"] == 0 and told["splits"]["ratios"] == {"train": 0.6, "validation": 0.2, "test": 0.2}
    assert told["totals"]["clips"] == 10 and told["date"] == "2026-11-21"
    turns = rows(plain, "turns")
    assert [(row["person"], row["start_s"], row["end_s"], row["agreement"]) for row in turns] == [("p1", 0.0, 3.2, 0.75)]
    assert turns[0]["who"] == "talk1.i1" and {row["id"] for row in rows(plain, "people")} >= {"talk1.i0", "talk1.i1"}


def test_checksums_are_those_of_sha256sum(plain: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--quiet", "CHECKSUMS.sha256"], cwd=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    named = {line.split("  ")[1] for line in (plain / "CHECKSUMS.sha256").read_text().splitlines()}
    assert named == {path.relative_to(plain).as_posix() for path in plain.rglob("*") if path.is_file()} - {"CHECKSUMS.sha256"}


def test_the_card_tells_what_is_in_it_and_escapes_titles(plain: Path) -> None:
    card, licences = (plain / "README.md").read_text(), (plain / "LICENCES.md").read_text()
    assert "2026-11-21" in card and "seed 0" in card and "CC-BY-4.0 | 8 | 10" in card and "| de | 1 |" in card
    assert "No audit was given" in card and "license: cc-by-4.0" in card
    assert "<script" not in card + licences and "&lt;script&gt;" in licences and "\\[a\\]" in licences


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(4))
    first = make_release(build, str(tmp_path / "a" / "set"), "1.0.0", Options(voices=False, ratios=HALVES))
    again = make_release(build, str(tmp_path / "b" / "set"), "1.0.0", Options(voices=False, ratios=HALVES, workers=2))
    files = {path.relative_to(first.where): path.read_bytes() for path in Path(first.where).rglob("*") if path.is_file()}
    assert files == {
        path.relative_to(again.where): path.read_bytes() for path in Path(again.where).rglob("*") if path.is_file()
    }


def test_local_paths_are_not_published(tmp_path: Path) -> None:
    made = released(tmp_path, [replace(talk, url=f"file:///home/jane-doe/{talk.source}.mp4") for talk in several(2)])
    assert {row["url"] for row in rows(made.where, "sources")} == {"file:///talk0.mp4", "file:///talk1.mp4"}
    assert not any(b"jane-doe" in path.read_bytes() for path in Path(made.where).rglob("*") if path.is_file())


def test_recipe_only_has_everything_but_the_media(tmp_path: Path) -> None:
    talks = [replace(talk, licence="CC-BY-ND-4.0", voice="ann") for talk in several(2)]
    with pytest.raises(UsageError, match="NoDerivatives"):
        released(tmp_path, talks)
    made = released(tmp_path, talks, kind=Kind.RECIPE_ONLY)
    assert check_release(Store(made.where)).ok
    packed = Packed(Store(made.where))
    for clip in packed.clips():
        assert set(packed.fields(clip.id)) == {"speech.npz", "p0.crop.npz", "p0.motion.npz"} and clip.turns
    hashes = {(row["key"], row["carried"]) for row in rows(made.where, "assets")}
    assert ("p0.face.mp4", False) in hashes and ("p0.motion.npz", True) in hashes
    with pytest.raises(UsageError, match="holds no media"):
        make_release(Store(made.where), str(tmp_path / "again"), "1.0.0", Options(voices=False, ratios=HALVES))


# who reads it


def test_plain_webdataset_reads_a_release(plain: Path) -> None:
    import webdataset

    urls = [str(path) for path in sorted((plain / "shards").glob("clips-*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == 10 and all(json.loads(sample["json"])["id"] == sample["__key__"] for sample in samples)


def test_our_loader_and_evaluator_read_a_release(plain: Path) -> None:
    from training.evaluation.case import View
    from training.evaluation.sets import open_set

    samples = list(open_shards(plain))
    assert len(samples) == 10 and all("p0.motion.npz" in sample for sample in samples)
    split = {row["id"]: row["split"] for row in rows(plain, "clips")}
    cases = open_set(f"{plain}@test", [View.VIDEO]).cases
    assert {case.clip for case in cases} == {clip for clip, name in split.items() if name == "test"}


def test_datasets_and_croissant_read_the_tables(plain: Path, tmp_path: Path) -> None:
    import mlcroissant
    from datasets import load_dataset

    files = str(plain / "tables" / "clips.parquet")
    table = load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert table.num_rows == 10 and "split" in table.column_names
    described = mlcroissant.Dataset(jsonld=plain / "croissant.json")
    assert not described.metadata.issues.errors, described.metadata.issues.report()
    people = [record["people/id"].decode() for record in described.records("people")]
    assert people == [row["id"] for row in rows(plain, "people")]


# versions, and what is refused


def test_a_version_that_exists_is_refused_and_the_next_one_names_the_changes(tmp_path: Path) -> None:
    talks = several(4)
    first = released(tmp_path, talks)
    with pytest.raises(UsageError, match=r"1\.0\.0 exists"):
        released(tmp_path, talks)
    talks = [replace(talks[0], crf=30), replace(talks[1], title="another"), *talks[2:3], *several(5)[4:]]
    second = released(tmp_path, talks, "1.1.0")
    changes = second.about["changes"]
    assert (changes["added"], changes["removed"], changes["changed"]) == (1, 1, 2)
    assert changes["reencoded"] == {"p0.face.mp4": 1} and second.about["before"] == "1.0.0"
    text = (Path(second.where) / "CHANGELOG.md").read_text()
    assert "talk4_00000000_00003200" in text and "p0.face.mp4 in 1 clips" in text and "## 1.0.0" in text
    before = {row["source"]: row["split"] for row in rows(first.where, "splits")}
    after = {row["source"]: row["split"] for row in rows(second.where, "splits")}
    assert all(after[source] == split for source, split in before.items() if source in after)


@pytest.mark.parametrize("licence", [None, " ", "unknown", "n/a"])
def test_a_clip_of_unknown_licence_is_refused(tmp_path: Path, licence: str | None) -> None:
    with pytest.raises(UsageError, match="talk1"):
        released(tmp_path, [*several(1), replace(several(2)[1], licence=licence)])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_bad_versions_targets_and_builds_are_told(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(2))
    quick = Options(voices=False, ratios=HALVES)
    for version in ("1.0", "v1.0.0", "1.0.0-rc", "../1.0.0", "01.0.0"):
        with pytest.raises(UsageError, match="three numbers"):
            make_release(build, str(tmp_path / "out"), version, quick)
    for to in ("hf://datasets/only", "hf://models/a/b", "nosuch://bucket/x"):
        with pytest.raises(UsageError):
            make_release(build, to, "1.0.0", quick)
    with pytest.raises(DyconvError, match=r"no shards/index\.json"):
        make_release(Store(tmp_path / "nothing"), str(tmp_path / "out"), "1.0.0", quick)
    shard = next((tmp_path / "build" / "shards").glob("clips-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-2048])
    with pytest.raises(DyconvError, match=shard.name):
        make_release(build, str(tmp_path / "out"), "1.0.0", quick)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The process may write no file of more than 64 KiB: what a full disk does, in the middle of a shard."""
    make_build(tmp_path / "build", tmp_path / "scratch", several(2, voice="ann"))
    code = (
        "import resource, signal, sys; from dyconv.cli import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        f"sys.argv = ['dyconv', 'release', {str(tmp_path / 'build')!r}, '--version', '1.0.0', '--no-voices', '--to',"
        f"{str(tmp_path / 'out')!r}, '--ratios', 'train=0.5,test=0.5']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "nothing of it was left behind" in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_titles_that_are_not_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    from dyconv.records import Source
    from dyconv.release.entries import public_source

    found = public_source(Source("a", "https://example.org/a", "own", "bad \udcff title"))
    assert found.title == "bad \\udcff title" and found.title.encode()


# check


def test_tampering_is_named(plain: Path, tmp_path: Path) -> None:
    def told(change: str, **deep: bool) -> str:
        folder = copy(plain, tmp_path / change)
        if change == "shard":
            path = folder / "shards" / "clips-000001.tar"
            data = bytearray(path.read_bytes())
            data[1000] ^= 1
            path.write_bytes(bytes(data))
        elif change == "gone":
            (folder / "shards" / "clips-000000.tar").unlink()
        elif change == "table":
            table = pq.read_table(folder / "tables" / "turns.parquet")
            edited = table.set_column(table.column_names.index("end_s"), "end_s", pc.add(table["end_s"], 1.0))
            pq.write_table(edited, folder / "tables" / "turns.parquet")
        elif change == "card":
            (folder / "README.md").unlink()
        elif change == "extra":
            (folder / "shards" / "more.txt").write_text("x")
        elif change == "sums":
            (folder / "CHECKSUMS.sha256").write_text("nonsense\n")
        elif change == "release":
            (folder / "release.json").write_text("{")
        try:
            return "\n".join(map(str, check_release(Store(folder)).problems))
        except DyconvError as error:
            return str(error)

    assert "shards/clips-000001.tar: is not the file" in told("shard")
    assert "shards/clips-000000.tar: missing" in told("gone")
    assert "tables/turns.parquet: is not the file" in (edited := told("table")) and "its turns are not those" in edited
    assert "README.md: missing" in told("card")
    assert "shards/more.txt: is not named" in told("extra")
    assert "CHECKSUMS.sha256, line 1" in told("sums")
    assert "release.json: is damaged" in told("release")


def test_the_command_line_checks_releases(plain: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from dyconv.cli import build as app

    done = CliRunner().invoke(app(), ["check", str(plain), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["ok"]
    broken = copy(plain, tmp_path / "broken")
    (broken / "LICENCES.md").unlink()
    done = CliRunner().invoke(app(), ["check", str(broken)])
    assert done.exit_code == 1 and "LICENCES.md: missing" in done.stdout


# object stores


def test_a_release_goes_to_an_object_store_and_a_broken_upload_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    memory = fsspec.filesystem("memory")
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(4))
    options = Options(voices=False, ratios=HALVES)
    sent: list[str] = []
    real = MemoryFileSystem.put_file

    def breaking(self: MemoryFileSystem, local: str, remote: str, *args: object, **more: object) -> None:
        if len(sent) == 8:
            raise ConnectionError("connection reset")
        sent.append(remote)
        real(self, local, remote, *args, **more)

    monkeypatch.setattr(MemoryFileSystem, "put_file", breaking)
    monkeypatch.setenv("DYCONV_STORE_PATIENCE", "0.5")
    with pytest.raises(StoreError, match="broke off"):
        make_release(build, "memory://set", "1.0.0", options)
    assert not memory.exists("/set/1.0.0/release.json") and len(sent) == 8
    first = sent.copy()
    sent.clear()
    sent += [""] * 9  # never breaks again
    made = make_release(build, "memory://set", "1.0.0", options)
    assert made.where == "memory://set/1.0.0" and memory.exists("/set/1.0.0/release.json")
    assert not set(first) & set(sent), "files that were there were sent again"
    assert not memory.exists("/set/1.0.0/UPLOADING.json")
    assert check_release(Store(made.where, cache=tmp_path / "cache")).ok
    with pytest.raises(UsageError, match="exists"):
        make_release(build, "memory://set", "1.0.0", options)
    assert make_release(build, "memory://set", "1.0.1", options).about["before"] == "1.0.0"
    memory.rm("/set", recursive=True)


# audits


def test_decisions_of_an_audit_are_applied_and_told(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(5, voice="ann"))
    clips = {clip.source.id: clip for clip in Packed(build).clips()}
    turns = [{"person": "p1", "start_s": 0.4, "end_s": 1.2}]
    annotations = Annotations.gathered(
        [
            decide(clips["talk0"], "ann", "reject", {"reason": "identity"}),
            decide(clips["talk1"], "ann", "swap", {"what": "people"}),
            decide(clips["talk2"], "bob", "turns", {"turns": turns}),
            decide(replace(clips["talk3"], layout="other"), "bob", "reject", {"reason": "cut"}),
            decide(clips["talk4"], "bob", "takedown", {"why": "asked for it"}),
        ]
    )
    rates = error_rates(annotations, {clip.id: base_of(clip) for clip in clips.values()}, None).to_json()
    options = Options(voices=False, ratios=HALVES, annotations=annotations, rates=rates)
    made = make_release(build, str(tmp_path / "out"), "1.0.0", options)
    assert check_release(Store(made.where)).ok, check_release(Store(made.where)).problems
    samples = {sample.clip.source.id: sample for sample in open_shards(made.where)}
    assert sorted(samples) == ["talk1", "talk2", "talk3"]  # what was decided on another record does not count
    swapped, was = samples["talk1"], Packed(build)
    assert swapped.raw("p1.face.mp4") == was.member(swapped.id, "p0.face.mp4") and "p0.face.mp4" not in swapped
    assert swapped.raw("p1.motion.npz") == was.member(swapped.id, "p0.motion.npz") and "p0.motion.npz" not in swapped
    assert [turn["end_s"] for turn in rows(made.where, "turns") if turn["clip"] == samples["talk2"].id] == [1.2]
    card = (Path(made.where) / "README.md").read_text()
    assert "5 decisions of reviewers on 5 clips" in card and "1 stale" in card and "not drawn by chance" in card
    told = (Path(made.where) / "audit" / "decisions.jsonl").read_bytes().splitlines()
    taken_down = clips["talk4"].id.encode()  # nothing that is published names it
    assert told == [line for line in annotations.lines().splitlines() if taken_down not in line] and len(told) == 4
    again = make_release(Store(made.where), str(tmp_path / "copy"), "1.0.0", Options(voices=False, ratios=HALVES))
    assert [row["id"] for row in rows(again.where, "clips")] == [row["id"] for row in rows(made.where, "clips")]


def test_a_build_packed_with_other_decisions_is_not_decided_twice(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", several(3))
    index = json.loads((tmp_path / "build" / "shards" / "index.json").read_text())
    (tmp_path / "build" / "shards" / "index.json").write_text(json.dumps({**index, "overlay": "0" * 64}))
    clip = next(Packed(build).clips())
    annotations = Annotations.gathered([decide(clip, "ann", "accept")])
    with pytest.raises(UsageError, match="dyconv pack OUT --overlay"):
        make_release(build, str(tmp_path / "out"), "1.0.0", Options(voices=False, ratios=HALVES, annotations=annotations))


def test_staging_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    left = tmp_path / "out" / f".staging-{socket.gethostname()}-{dead.pid}-1.0.0-abc"
    mine = tmp_path / "out" / f".staging-{socket.gethostname()}-{os.getpid()}-1.0.0-abc"
    for folder in (left, mine):
        (folder / "shards").mkdir(parents=True)
    released(tmp_path, several(2))
    assert not left.exists() and mine.exists() and (tmp_path / "out" / "1.0.0" / "release.json").is_file()


def test_the_command_line_releases(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from dyconv.cli import build as app

    make_build(tmp_path / "build", tmp_path / "scratch", several(3))
    (tmp_path / "splits.csv").write_text("source,split\ntalk0,train\ntalk1,dev\ntalk2,dev\n")
    words = ["release", str(tmp_path / "build"), "--version", "2.0.0", "--to", str(tmp_path / "out"), "--no-voices"]
    done = CliRunner().invoke(app(), [*words, "--splits", str(tmp_path / "splits.csv"), "--date", "2026-11-21"])
    assert done.exit_code == 0, done.output
    assert "train 1" in done.stdout and "dev 2" in done.stdout
    assert {row["split"] for row in rows(tmp_path / "out" / "2.0.0", "clips")} == {"train", "dev"}
    for bad in (
        ["--date", "yesterday"],
        ["--kind", "half"],
        ["--ratios", "all"],
        ["--splits", str(tmp_path / "none.csv")],
        ["--rates", str(tmp_path / "splits.csv")],
        ["--overlay", str(tmp_path / "none.sqlite")],
        ["--identity", "appearance"],
    ):
        found = CliRunner().invoke(app(), [*words[:3], "2.0.1", *words[4:], *bad])
        assert isinstance(found.exception, UsageError), (bad, found.exception)
