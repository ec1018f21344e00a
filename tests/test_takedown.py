"""Takedowns: nothing of it is left, nothing else changes, and it does not come back."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyconv.audit.decisions import Kind as Act
from dyconv.audit.decisions import decide
from dyconv.audit.overlay import Annotations
from dyconv.errors import UsageError
from dyconv.ledger import read_ledger, source_standing
from dyconv.manifest import BadRow
from dyconv.records import Source
from dyconv.release.build import Options, make_release
from dyconv.release.check import check_release
from dyconv.release.checksums import write_checksums
from dyconv.release.gone import Request
from dyconv.release.model import Kind, ReleaseError
from dyconv.release.packed import Packed
from dyconv.release.rebuild import rebuild
from dyconv.release.takedown import TakenDown, take_down
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.shards import open_shards
from dyconv.store import Store
from dyconv.tombstones import address, hashed, parse_tombstones, read_tombstones
from tests import small_build
from tests.fakes import recipe
from tests.hubserver import hub_server
from tests.release_build import Talk, make_build
from tests.test_release_hub import dyconv

TALKS = [
    Talk("anna-smith-interview", 1, clips=2, title="Anna Smith talks", channel="smiths"),
    Talk("bee", 2, channel="smiths"),  # the same channel: one component, called after Anna
    Talk("copy-of-anna", 1, mirrored=True, title="A re-upload"),
    *(Talk(f"other{number}", 20 + number) for number in range(4)),
]
ANNA = "anna-smith-interview"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("built")
    return make_build(root / "build", root / "scratch", TALKS)


@pytest.fixture(scope="module")
def first(build: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1.1.0, whose changelog lists clips by id, with decisions of an audit."""
    to = tmp_path_factory.mktemp("releases") / "talks"
    clips = list(Packed(build).clips())
    decisions = [decide(clip, "rita", Act.ACCEPT) for clip in clips if clip.source.id in (ANNA, "bee", "other1")]
    options = Options(voices=False, ratios={"train": 0.6, "test": 0.4}, annotations=Annotations.gathered(decisions))
    audit = {"report.html": f"<p>{clips[0].id} was hard to hear</p>".encode(), "rates.txt": b"none wrong"}
    small = make_build(to.parent / "small", to.parent / "scratch", TALKS[-2:])
    make_release(small, str(to), "1.0.0", replace(options, annotations=None))
    made = make_release(build, str(to), "1.1.0", replace(options, audit=audit))
    return Path(made.where)


def down(release: Path, to: Path | None = None, **request: object) -> TakenDown:
    return take_down(str(release), Request(**request), to=str(to) if to else None)  # type: ignore[arg-type]


def rows(release: Path | str, table: str) -> list[dict]:
    return pq.read_table(f"{release}/tables/{table}.parquet").to_pylist()


def everything(release: Path) -> bytes:
    """All bytes of a release, and all text of its tables, which lie compressed in theirs."""
    parts = [path.read_bytes() for path in sorted(release.rglob("*")) if path.is_file()]
    parts += [json.dumps(pq.read_table(path).to_pylist()).encode() for path in sorted(release.rglob("*.parquet"))]
    return b"\n".join(parts)


def same_files(release: Path) -> dict[str, str]:
    files = sorted(path for path in release.rglob("*") if path.is_file())
    return {str(path.relative_to(release)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("down")
    return Path(down(first, to, sources=[ANNA], why="Asked for.", date="2026-11-21").where)


def test_nothing_is_left_of_the_source_and_of_its_copy(first: Path, second: Path) -> None:
    assert b"anna" in everything(first).lower()
    left = everything(second).lower()
    for word in (b"anna", b"smith talks", b"re-upload", b"example.org/copy"):
        assert word not in left, word
    packed = Packed(Store(first))  # nor a piece of any of its files
    films = [packed.member(clip.id, "p0.face.mp4") for clip in packed.clips() if clip.source.id == ANNA]
    left = everything(second)
    for film in films:
        pictures = film.index(b"mdat") + 1200  # behind what the encoder says of itself
        assert film[pictures : pictures + 64] not in left and len(film) > pictures + 64
    assert second.name == "1.1.1" and not check_release(Store(second), deep=True).problems
    assert sorted(row["id"] for row in rows(second, "sources")) == ["bee", "other0", "other1", "other2", "other3"]
    about = json.loads((second / "release.json").read_text())
    assert about["before"] == "1.1.0" and about["totals"]["clips"] == len(rows(second, "clips")) == 5
    assert not about["leaks"]["found"] or ANNA not in json.dumps(about["leaks"])


def test_other_shards_keep_their_bytes_and_others_their_splits(first: Path, second: Path) -> None:
    shard = {row["id"]: row["shard"] for row in rows(first, "clips")}
    touched = {name for clip, name in shard.items() if "anna" in clip}
    old, new = same_files(first / "shards"), same_files(second / "shards")
    untouched = list(set(shard.values()) - touched)
    assert untouched
    for name in [*untouched, *(name.replace("clips", "motion-bbbbbbbb") for name in untouched)]:
        assert new[name] == old[name]
    splits = {row["source"]: row["split"] for row in rows(first, "splits")}
    assert all(splits[row["source"]] == row["split"] for row in rows(second, "splits"))
    read = [sample["__key__"] if isinstance(sample, dict) else sample.clip.id for sample in open_shards(str(second))]
    assert sorted(read) == sorted(row["id"] for row in rows(second, "clips"))


def test_what_was_called_after_it_gets_another_name(first: Path, second: Path) -> None:
    component = {row["source"]: row["component"] for row in rows(first, "splits")}
    assert component["bee"] == ANNA
    row = next(row for row in rows(second, "splits") if row["source"] == "bee")
    assert (row["component"], row["joined_by"]) == ("bee", None)
    assert {row["component"] for row in rows(second, "clips") if row["source"] == "bee"} == {"bee"}


def test_decisions_on_it_go_and_so_does_a_file_that_names_it(first: Path, second: Path) -> None:
    lines = (second / "audit" / "decisions.jsonl").read_bytes()
    assert {json.loads(line)["clip"].split("_")[0] for line in lines.splitlines()} == {"bee", "other1"}
    about = json.loads((second / "release.json").read_text())
    assert about["audit"]["version"] == hashlib.sha256(lines).hexdigest() and about["audit"]["decisions"] == 2
    assert not (second / "audit" / "report.html").exists() and (second / "audit" / "rates.txt").exists()
    text = (second / "CHANGELOG.md").read_text()
    assert "## 1.1.1 (2026-11-21)" in text and "audit/report.html" in text and "Asked for." in text
    assert "2 taken down." in text or "3 taken down." in text
    assert text.index("1.1.1") < text.index("## 1.1.0") < text.index("## 1.0.0")


def test_the_same_takedown_gives_the_same_bytes(first: Path, second: Path, tmp_path: Path) -> None:
    again = down(first, tmp_path / "again", sources=[ANNA], why="Asked for.", date="2026-11-21")
    assert same_files(Path(again.where)) == same_files(second)


def test_a_person_goes_with_every_source_they_are_in(tmp_path: Path) -> None:
    talks = [Talk("a", 1, "ann"), Talk("b", 2, "ann"), *(Talk(f"c{n}", 3 + n) for n in range(3))]
    build = make_build(tmp_path / "build", tmp_path / "scratch", talks)
    prints = Options(voices=False, splits=dict.fromkeys(("a", "b", "c0", "c1", "c2"), "train"))
    where = Path(make_release(build, str(tmp_path / "out"), "1.0.0", prints).where)
    table = where / "tables" / "people.parquet"  # as the voices' comparison joins them
    shared = [{**row, "person": "a.i1" if row["id"] in ("a.i1", "b.i1") else row["person"]} for row in rows(where, "people")]
    schema = pq.read_schema(table)
    pq.write_table(pa.Table.from_pylist(shared, schema=schema), table)
    write_checksums(where)
    done = down(where, people=["b.i1"])
    assert done.gone.sources == {"a", "b"} and {row["id"] for row in rows(done.where, "sources")} == {"c0", "c1", "c2"}
    stones = json.loads((Path(done.where) / "tombstones.json").read_text())["tombstones"]
    assert {stone["kind"] for stone in stones} == {"person"} and hashed("b.i1") in stones[1]["people"] + stones[0]["people"]
    assert not check_release(Store(done.where)).problems


def test_a_release_without_media_loses_it_too(build: Store, tmp_path: Path) -> None:
    options = Options(voices=False, kind=Kind.RECIPE_ONLY, ratios={"train": 1.0})
    where = make_release(build, str(tmp_path / "out"), "1.0.0", options).where
    done = Path(down(Path(where), sources=["other0"]).where)
    assert not check_release(Store(done)).problems and b"other0" not in everything(done)
    kept = {(row["clip"], row["key"]): row["sha256"] for row in rows(done, "assets") if not row["carried"]}
    assert kept and kept.items() <= {(row["clip"], row["key"]): row["sha256"] for row in rows(where, "assets")}.items()


def test_later_versions_keep_it_out(build: Store, first: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(first.parent, tmp_path / "talks"))
    down(to / "1.1.0", sources=[ANNA])
    options = Options(voices=False, ratios={"train": 0.6, "test": 0.4})
    made = make_release(build, str(to), "1.2.0", options)
    assert {row["id"] for row in rows(made.where, "sources")} == {"bee", "other0", "other1", "other2", "other3"}
    assert read_tombstones(Path(made.where)).of(Source(ANNA, "https://example.org/x.mp4"))
    assert b"anna" not in everything(Path(made.where))


def test_clips_that_reviewers_took_down_are_counted_and_not_named(build: Store, tmp_path: Path) -> None:
    clips = list(Packed(build).clips())
    anna = [clip for clip in clips if clip.source.id == ANNA]
    options = Options(voices=False, ratios={"train": 1.0})
    make_release(build, str(tmp_path / "out"), "1.0.0", options)
    decisions = [decide(clip, "rita", Act.TAKEDOWN, {"why": "Anna Smith asked"}) for clip in anna]
    notes = Annotations.gathered([*decisions, decide(clips[-1], "rita", Act.ACCEPT)])
    where = Path(make_release(build, str(tmp_path / "out"), "1.1.0", replace(options, annotations=notes)).where)
    assert b"anna" not in everything(where).replace(b"copy-of-anna", b"").lower()
    assert "- 2 clips removed: 2 taken down." in (where / "CHANGELOG.md").read_text()
    lines = (where / "audit" / "decisions.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["clip"] for line in lines] == [clips[-1].id]


def test_a_takedown_on_an_object_store(build: Store) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    made = make_release(build, "memory://down", "1.0.0", Options(voices=False, ratios={"train": 1.0}))
    done = take_down(made.where, Request(["other0"]))
    assert done.where == "memory://down/1.0.1" and not check_release(Store(done.where)).problems
    assert b"other0" not in b"".join(memory.cat_file(path) for path in memory.find("/down/1.0.1"))
    memory.rm("/down", recursive=True)


def test_a_takedown_on_the_hub(tmp_path: Path) -> None:
    build = make_build(tmp_path / "build", tmp_path / "scratch", TALKS[-3:])
    with hub_server() as hub:
        words = ["release", str(build), "--to", "hf://datasets/lab/talks", "--no-voices", "--ratios", "train=1"]
        assert dyconv(hub, tmp_path, *words, "--version", "1.0.0").returncode == 0
        words = ["takedown", "--release", "hf://datasets/lab/talks@v1.0.0", "--source", "other3"]
        done = dyconv(hub, tmp_path, *words)
        assert done.returncode == 0 and "hf://datasets/lab/talks@v1.0.1" in done.stdout, done.stderr
        assert list(hub.tags["lab/talks"]) == ["v1.0.0", "v1.0.1"] and "other3" not in str(
            hub.repos["lab/talks"][-1]["CHANGELOG.md"]
        )
        done = dyconv(hub, tmp_path, *words)
        assert done.returncode == 2 and "not the latest version, 1.0.1 is" in done.stderr, done.stderr


def test_an_older_version_is_not_rebuilt_with_it(tmp_path: Path) -> None:
    build = small_build.small_build(tmp_path / "build", pack=True)
    options = Options(name="set", voices=False, ratios={"train": 1.0}, kind=Kind.RECIPE_ONLY)
    bare = make_release(build, str(tmp_path / "bare"), "1.0.0", options)
    with pytest.raises(UsageError, match="--only-named"):
        down(Path(bare.where), sources=["other"])  # both sources of this build show the same pictures
    down(Path(bare.where), sources=["other"], copies=False)
    result = rebuild(bare.where, tmp_path / "out", recipe=str(Path(small_build.__file__)), options=RunOptions(workers=0))
    assert list(result.gone) == ["other"] and "TAKEN_DOWN" in result.gone["other"] and len(result.same) == 1


def test_later_builds_refuse_it(second: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(
        f"id,url,licence\n{ANNA},https://fakes.test/1.mp4,own\nelse,https://EXAMPLE.org/{ANNA}.mp4#t=3,own\n"
        "ok-1,https://fakes.test/ok.mp4,own\n"
    )
    out, options = tmp_path / "out", RunOptions(workers=0)
    run(recipe(), manifest, str(out), options)
    assert ANNA in {clip.source.id for clip in kept_clips(Store(out))}
    run(recipe(), manifest, str(out), replace(options, tombstones=(second,)))
    found = {log.id: source_standing(log) for log in read_ledger(Store(out)).values()}
    assert [found[name].reason for name in (ANNA, "else", "ok-1")] == ["TAKEN_DOWN", "TAKEN_DOWN", None]
    assert "its url stands in the list of takedowns" in str(found["else"].detail) and "1.1.1" in str(found[ANNA].detail)
    assert {clip.source.id for clip in kept_clips(Store(out))} == {"ok-1"}
    shutil.copy(second / "tombstones.json", tmp_path)
    assert run(recipe(), manifest, str(tmp_path / "out2"), options).kept == len(list(kept_clips(Store(out))))


def test_links_to_one_video_are_one_address() -> None:
    links = ["watch?v=abcdefghijk&t=3", "watch?list=x&v=abcdefghijk", "shorts/abcdefghijk", "embed/abcdefghijk?a=1"]
    spelled = {address(f"https://www.youtube.com/{link}") for link in links} | {address("http://youtu.be/abcdefghijk?si=1")}
    assert spelled == {"youtube:abcdefghijk"}
    assert address("http://a.org/x") == address("https://A.org/x#t") != address("https://a.org/y")
    assert address("file:///home/anna.mp4") is None and address(None) is None


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({"sources": ["anna-smith-intervew"]}, ANNA),
        ({"people": ["nobody.i7"]}, "no person"),
        ({}, "nothing was named"),
        ({"sources": [talk.source for talk in TALKS]}, "nothing of talks"),
    ],
)
def test_what_is_not_in_it_is_said(first: Path, request_: dict, word: str) -> None:
    with pytest.raises(UsageError) as error:
        down(first, **request_)
    assert word in str(error.value)


def test_only_from_the_latest_version_and_to_a_later_one(first: Path) -> None:
    with pytest.raises(UsageError, match=r"not the latest version, 1\.1\.0 is"):
        down(first.parent / "1.0.0", sources=["other2"])
    with pytest.raises(UsageError, match=r"after 1\.1\.0"):
        take_down(str(first), Request(["bee"]), version="1.1.0")


@pytest.mark.parametrize("name", ["tables/people.parquet", "release.json", "audit/rates.txt", "shards/clips-000001.tar"])
def test_a_tampered_release_is_not_passed_on(first: Path, tmp_path: Path, name: str) -> None:
    to = Path(shutil.copytree(first.parent, tmp_path / "talks"))
    with (to / "1.1.0" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(Exception, match="is not"):
        down(to / "1.1.0", sources=[ANNA])
    assert sorted(path.name for path in to.iterdir()) == ["1.0.0", "1.1.0"]


def test_a_name_that_would_be_left_stops_it(first: Path, tmp_path: Path) -> None:
    to = Path(shutil.copytree(first.parent, tmp_path / "talks"))
    about = json.loads((to / "1.1.0" / "release.json").read_text())
    clip = next(row["id"] for row in rows(first, "clips") if row["source"] == ANNA)
    about["recipe"]["stages"] = [{"name": "x", "version": 1, "weights": [], "config": {"seen": clip}}]
    (to / "1.1.0" / "release.json").write_text(json.dumps(about))
    write_checksums(to / "1.1.0")
    with pytest.raises(ReleaseError, match="would still name"):
        down(to / "1.1.0", sources=[ANNA])
    assert sorted(path.name for path in to.iterdir()) == ["1.0.0", "1.1.0"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"tombstones": [{"kind": "source", "source": "anna", "urls": []}]}', '{"tombstones": [1]}']
)
def test_a_list_that_is_none_stops_a_run_before_it_starts(tmp_path: Path, text: str) -> None:
    (tmp_path / "tombstones.json").write_text(text)
    with pytest.raises(UsageError, match=r"tombstones\.json"):
        read_tombstones(tmp_path)
    with pytest.raises(UsageError, match="no list"):
        read_tombstones(tmp_path / "none.json")


def test_a_row_that_is_bad_already_stays_so() -> None:
    row = BadRow("row-1", 1, "", "row 1 has no url")
    assert parse_tombstones({"tombstones": []}, "x").refuse(row) is row


def test_the_command(first: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dyconv.cli", "takedown", "--release", str(first), "--to", str(tmp_path / "to")]
    done = subprocess.run([*command, "--source", ANNA], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1.1.1: without 3 clips of 2 sources" in done.stdout and "copy-of-anna" in done.stdout
    done = subprocess.run([*command[:-1], str(tmp_path / "new"), "--source", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "no source 'x'" in done.stderr
