"""Readers of text: manifests, truth, records, work folders, the ledger, audits, imports, headers of weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dyconv.errors import DyconvError
from dyconv.ledger import FOLDER as LEDGER
from dyconv.ledger import RUN_FILE
from dyconv.records import Clip, Key, Person, Ref, Source, Track, Turn, dump
from dyconv.store import Store
from dyconv.time import Span
from tests.fuzz.target import Target, written


def clip() -> Clip:
    """A record with all parts."""
    whole = Span.of_frames(0, 50)
    refs = {key: Ref(f"work/x/{key}", "0" * 64, 10) for key in (Key.VIDEO, Key.MIX, Key.P0_FACE)}
    return Clip(
        id="talk_00000000_00002000",
        source=Source(
            "talk", "https://example.org/t.mp4", "CC-BY-4.0", "A title", "en", partner_url="https://example.org/u.mp4"
        ),
        span=whole,
        parent="talk",
        shots=(Span.of_frames(0, 20), Span.of_frames(20, 50)),
        layout="two-shot",
        tracks=(Track("t0", 0, 0, 50, 40.0, 1.0, "i0", "p0"),),
        people=(Person("p0", "i0", True, True), Person("p1", "i1", False, True)),
        turns=(Turn("p0", Span.of_frames(0, 20), 0.9, agreement=0.5), Turn(None, Span.of_frames(30, 40), 0.1, unsure=True)),
        measures={"av_offset_s": 0.01, "p0.bleed_db": None, "motion.hash": "b" * 64},
        assets=refs,
    )


def _manifest(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        from dyconv.manifest import BadRow, Row, read_manifest
        from dyconv.records import source_clip
        from dyconv.tombstones import Tombstones

        rows: list[Row] = read_manifest(written(folder, name, data))
        for row in rows:
            refused = Tombstones(()).refuse(row)
            dump((refused.drop().clip if isinstance(refused, BadRow) else source_clip(refused)).to_json())
        return rows

    return read


def _manifest_csv(_: Path) -> bytes:
    return b"id,url,licence,title,language,partner_url,x_own\na,https://example.org/a.mp4,own,A,en,,1\nb,media/b.mp4,own,B,,c.mp4,2\n"


def _manifest_jsonl(_: Path) -> bytes:
    rows = [{"id": "a", "url": "https://example.org/a.mp4", "licence": "own"}, {"url": "b/c.mp4", "x_n": "1", "title": "T"}]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _truth(_: Path) -> bytes:
    boxes = [[0.0, 1.0, 1.0, 9.0, 9.0], [0.9, 1.0, 1.0, 9.0, 9.0]]
    return json.dumps(
        {
            "version": 1,
            "media": "a.mp4",
            "duration": 1.5,
            "layout": "side",
            "cuts": [0.5],
            "people": ["ann", "bob"],
            "turns": [{"person": "ann", "start": 0.1, "end": 0.5}, {"person": None, "start": 0.6, "end": 0.7}],
            "faces": [{"person": "ann", "start": 0.0, "end": 1.5, "boxes": boxes}],
            "voices": {"ann": "a.flac"},
            "known": [[0.0, 1.5]],
        }
    ).encode()


def _read_truth(folder: Path, data: bytes) -> object:
    from dyconv.truth import read_truth

    return read_truth(written(folder, "truth.json", data))


def _read_clip(_: Path, data: bytes) -> object:
    from dyconv.shards.sample import parse_record
    from dyconv.shards.table import columns

    found = parse_record(data, "a.tar, clip x")
    dump(found.to_json())
    return found.frames, columns(found, "clips-000000.tar", 0)


_WORK = "work/scenes/ab/abcd"


def _done(_: Path) -> bytes:
    from dyconv.records import Drop, DropReason
    from dyconv.work import _outcome_json

    outcomes = [clip(), Drop(clip(), DropReason.TOO_SHORT, "0.1 s")]
    return dump({"outcomes": [_outcome_json(one) for one in outcomes], "seconds": 1.5, "stage": "scenes", "run": "r"})


def _read_done(folder: Path, data: bytes) -> object:
    from dyconv.work import read_done

    written(folder, f"{_WORK}/done.json", data)
    return read_done(Store(folder), _WORK)


def _failed(_: Path) -> bytes:
    return dump({"clip": clip().to_json(), "type": "ValueError", "message": "m", "traceback": "t", "attempts": 1,
                 "run": "r", "seconds": 1.5})  # fmt: skip


def _read_failed(folder: Path, data: bytes) -> object:
    from dyconv.work import read_failed_clip

    written(folder, f"{_WORK}/failed.json", data)
    return read_failed_clip(Store(folder), _WORK)


def _read_shown_failed(folder: Path, data: bytes) -> object:
    from dyconv.ledger import Event, State
    from dyconv.report.find import record

    written(folder, f"{_WORK}/failed.json", data)
    return record(Store(folder), Event("talk", "talk", State.FAILED, 0, "scenes", "abcd"))


def _ledger(_: Path) -> bytes:
    from dyconv.ledger import Event, State

    events = [
        Event("talk", "talk", State.PASSED, 0, "scenes", "ab", children=("talk_1", "talk_2"), seconds=1.0, media_in=2.0),
        Event("talk", "talk_1", State.KEPT, 1, "crop", "cd", seconds=0.5, media_out=1.0),
        Event("talk", "talk_2", State.DROPPED, 1, "crop", "ce", reason="TOO_SHORT", detail="short"),
    ]
    return b"".join(dump(event.to_json()) + b"\n" for event in events)


def _read_ledger(folder: Path, data: bytes) -> object:
    from dyconv.funnel import make_funnel
    from dyconv.ledger import read_ledger

    written(folder, f"{LEDGER}/run.jsonl", data)
    logs = read_ledger(Store(folder))
    return make_funnel(logs.values(), {"scenes": 0, "crop": 1}).to_json()


def _read_standings(folder: Path, data: bytes) -> object:
    from dyconv.standings import read_standings

    written(folder, f"{LEDGER}/run.jsonl", data)
    found = read_standings(Store(folder))
    return found.counts, list(found.kept()), list(found.stories())


def _live(_: Path) -> bytes:
    from dyconv.live import _LIKE, SCHEMA

    def like(kind: Any) -> Any:
        if isinstance(kind, dict):
            return {name: like(part) for name, part in kind.items()}
        return [like(kind[0])] if isinstance(kind, list) else "x" if "str" in str(kind) else 1

    return json.dumps({**like(_LIKE), "schema": SCHEMA}).encode()


def _read_live(folder: Path, data: bytes) -> object:
    from dyconv.live import FILE, driver_gone, read_live

    written(folder, FILE, data)
    found = read_live(Store(folder))
    return found and driver_gone(found)


def _lease(_: Path) -> bytes:
    from dyconv.run_lock import Lease

    return Lease.mine(1.0).dump()


def _read_lease(_: Path, data: bytes) -> object:
    from dyconv.run_lock import Lease

    return Lease.parse(data).gone


def _rates_file(_: Path) -> bytes:
    from importlib import resources

    return resources.files("dyconv.plan").joinpath("default_rates.json").read_bytes()


def _read_rates_file(folder: Path, data: bytes) -> object:
    from dyconv.plan.rates import load_rates

    return load_rates(written(folder, "rates.json", data)).to_json()


def _log_lines(_: Path) -> bytes:
    return b"".join(
        dump({"time": f"2026-11-21T10:00:0{n}.000Z", "level": "info", "message": "m", "clip": "a"}) + b"\n" for n in range(4)
    )


def _read_log_lines(_: Path, data: bytes) -> object:
    from dyconv.logs.read import _parsed

    return list(_parsed(data.split(b"\n")))


def _run_file(_: Path) -> bytes:
    stages = [{"name": name, "version": "1", "config": {"max_segment_s": 600.0}} for name in ("scenes", "crop")]
    return dump(
        {
            "recipe": "dyconv",
            "recipe_file": None,
            "recipe_fingerprint": "f" * 64,
            "manifest": "m.csv",
            "manifest_sha256": "a" * 64,
            "stages": stages,
            "levels": {"scenes": 0, "crop": 1},
            "versions": {"dyconv": "1"},
            "run": "r1",
        }
    )


def _read_run(folder: Path, data: bytes) -> object:
    from dyconv.replay import _recipe
    from dyconv.report.numbers import read_numbers

    written(folder, RUN_FILE, data)
    written(folder, f"{LEDGER}/run.jsonl", _ledger(folder))
    store = Store(folder)
    read_numbers(store)
    return _recipe(store, None)


def _tombstones(_: Path) -> bytes:
    from dyconv.tombstones import Tombstone, hashed

    stone = Tombstone("source", hashed("talk"), (hashed("x"),), "1.0.1", (), "2026-11-21", "asked")
    return dump({"tombstones": [stone.to_json()]})


def _read_tombstones(folder: Path, data: bytes) -> object:
    from dyconv.tombstones import read_tombstones

    found = read_tombstones(written(folder, "tombstones.json", data))
    return [(dump(stone.to_json()), found.refuse(Source("talk", "https://example.org/x"))) for stone in found.all]


def _checksums(_: Path) -> bytes:
    return b"".join(b"%064d  %s\n" % (n, name) for n, name in enumerate((b"release.json", b"tables/clips.parquet")))


def _read_checksums(folder: Path, data: bytes) -> object:
    from dyconv.release.checksums import stored_checksums

    written(folder, "CHECKSUMS.sha256", data)
    return stored_checksums(Store(folder))


def _read_splits(folder: Path, data: bytes) -> object:
    from dyconv.release.inputs import read_splits

    return read_splits(written(folder, "splits.csv", data))


def _rates(_: Path) -> bytes:
    return dump({"rates": {"kinds": [{"kind": "speaker", "reviewed": 9, "rate": 0.1, "low": 0.0, "high": 0.2}]}})


def _read_rates(folder: Path, data: bytes) -> object:
    from dyconv.release.inputs import read_rates

    return read_rates(written(folder, "rates.json", data))


# Audits


def _decisions(_: Path) -> bytes:
    from dyconv.audit.annotations import Annotations
    from dyconv.audit.decisions import decide

    turns = [{"person": "p0", "start_s": 0.1, "end_s": 0.5, "unsure": False}]
    asked: tuple[tuple[str, Any], ...] = (
        *(("accept", {}), ("reject", {"reason": "sync", "note": "n"}), ("swap", {"what": "people"})),
        *(("turns", {"turns": turns}), ("mark", {"what": "face", "person": "p0", "at_s": 0.5}), ("takedown", {"why": "w"})),
    )
    return Annotations.gathered([decide(clip(), "ann", kind, data) for kind, data in asked]).lines()


def _read_decisions(folder: Path, data: bytes) -> object:
    from dyconv.audit.overlay import read_overlay

    found = read_overlay(written(folder, "decisions.jsonl", data))
    return found.verdicts(), found.version


def _overlay(folder: Path) -> bytes:
    from dyconv.audit.overlay import Overlay, read_overlay

    given = read_overlay(written(folder, "in.jsonl", _decisions(folder)))
    Overlay(folder / "made.db").add(*given.decisions)
    import sqlite3

    with sqlite3.connect(folder / "made.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return (folder / "made.db").read_bytes()


def _read_overlay(folder: Path, data: bytes) -> object:
    from dyconv.audit.overlay import read_overlay

    for left in folder.glob("overlay.db*"):
        left.unlink()
    return read_overlay(written(folder, "overlay.db", data)).verdicts()


def _decisions_table(folder: Path) -> bytes:
    from dyconv.audit.annotations import _parquet
    from dyconv.audit.overlay import read_overlay

    return _parquet(read_overlay(written(folder, "in.jsonl", _decisions(folder))))


def _read_decisions_table(folder: Path, data: bytes) -> object:
    from dyconv.audit.annotations import read_table

    return read_table(written(folder, "decisions.parquet", data))


def _sample(_: Path) -> bytes:
    strata = [{"values": {"layout": "split"}, "size": 9, "sampled": 1}]
    clips = [{"id": "talk_1", "base": "a" * 64, "stratum": 0, "second": True}]
    numbers = {"seed": 1, "expected": 0.1, "half_width": 0.05, "level": 0.95, "second_share": 0.1}
    return dump({"version": 1, "by": ["layout"], "strata": strata, "clips": clips, **numbers})


def _read_sample(folder: Path, data: bytes) -> object:
    from dyconv.audit.sampling import read_sample

    return read_sample(written(folder, "sample.json", data))


def _interchange(form: str, suffix: str) -> tuple[Callable[[Path], bytes], Callable[[Path, bytes], object]]:
    def make(folder: Path) -> bytes:
        from dyconv.audit.interchange.files import write_labels
        from dyconv.audit.overlay import Annotations

        return write_labels(form, [clip()], Annotations(), folder / "made", Store(folder))[0].read_bytes()

    def read(folder: Path, data: bytes) -> object:
        from dyconv.audit.interchange.files import read_labels

        return read_labels(form, written(folder, f"talk_00000000_00002000{suffix}", data), {})

    return make, read


# Imports and hosts


def _import(name: str, file: str) -> tuple[Callable[[Path], bytes], Callable[[Path, bytes], object]]:
    def make(folder: Path) -> bytes:
        from tests import public_sets

        getattr(public_sets, name)(folder / "set")
        return (folder / "set" / file).read_bytes()

    def read(folder: Path, data: bytes) -> object:
        from dyconv.importers.run import IMPORTERS

        written(folder / "set", file, data)
        found = IMPORTERS[name].find(folder / "set").checked(folder / "set", skip_bad=False)
        for talk in found.talks:
            parts = [part.video for part in talk.parts or ()] + ([talk.media] if talk.media else [])
            assert all(path.resolve().is_relative_to((folder / "set").resolve()) for path in parts), parts
        return found

    return make, read


def _info(_: Path) -> bytes:
    one = {"format_id": "22", "ext": "mp4", "vcodec": "avc1", "width": 640, "height": 360, "fps": 25}
    return dump({"id": "x", "title": "T", "extractor_key": "Youtube", "webpage_url": "https://example.org", "tags": ["a"],
                 "duration": 3.0, "license": "CC", "requested_formats": [one, one]})  # fmt: skip


def _read_info(_: Path, data: bytes) -> object:
    from dyconv.bounds import NotJson, parse_json
    from dyconv.download.info import describe

    try:
        value = parse_json(data)
    except NotJson:
        return None  # yt-dlp parses it
    return dump(describe(value)) if isinstance(value, dict) else None


def _read_note(folder: Path, data: bytes) -> object:
    from dyconv.download.partial import PartialFile

    written(folder, "a.mp4.whole.json", data)
    return PartialFile(folder / "a.mp4").condition


def _uri(_: Path) -> bytes:
    return b"s3://bucket/folder/build"


def _read_uri(folder: Path, data: bytes) -> object:
    from dyconv.release.target import open_target

    text = data.decode(errors="replace")
    if text.startswith(("http", "ftp", "ssh", "sftp", "hf:", "smb", "webhdfs", "hdfs", "github", "gh")):
        return None  # would go out
    store = Store(text if "://" in text else folder / text.lstrip("/"))
    return str(store), open_target(text if "://" in text else str(folder / "x"))


def _read_recipe(_: Path, data: bytes) -> object:
    """What a command line, `run.json` or a release names as a recipe. Nothing but what is there can be run."""
    from dyconv import recipes

    return recipes.load(data.decode(errors="surrogateescape"))


def _path(_: Path) -> bytes:
    return b"work/scenes/ab/talk.video.mp4"


def _read_path(folder: Path, data: bytes) -> object:
    store = Store(folder / "root")
    text = data.decode(errors="surrogateescape")
    store.write_bytes(text, b"x")
    return store.read_bytes(text), list(store.walk())


_RTTM, _EAF, _LABELS = _interchange("rttm", ".rttm"), _interchange("eaf", ".eaf"), _interchange("label-studio", ".json")
_SEAMLESS = _import("seamless", "improvised/dev/0000/0005/V00_S0809_I00000582_P0947.json")
_REALTALK = _import("realtalk", "data/english/speaker_labels/dQw4w9WgXcQ.json")
_SPEAKERVID = _import("speakervid", "merged_anno/dQw4w9WgXcQ_1920x1080_full_video_001.json")
_VICO = _import("vico", "train.csv")

TARGETS = (
    Target("manifest_csv", "csv", _manifest_csv, _manifest("m.csv")),
    Target("manifest_jsonl", "jsonl", _manifest_jsonl, _manifest("m.jsonl")),
    Target("truth", "json", _truth, _read_truth),
    Target("clip", "json", lambda _: dump(clip().to_json()), _read_clip, seeds=600),
    Target("done", "json", _done, _read_done, seeds=300),
    Target("failed", "json", _failed, _read_failed),
    Target("failed_shown", "json", _failed, _read_shown_failed),
    Target("ledger", "jsonl", _ledger, _read_ledger, seeds=300),
    Target("standings", "jsonl", _ledger, _read_standings, seeds=200),
    Target("live", "json", _live, _read_live),
    Target("lease", "json", _lease, _read_lease, (ValueError,)),
    Target("plan_rates", "json", _rates_file, _read_rates_file, seeds=100),
    Target("log_lines", "jsonl", _log_lines, _read_log_lines, ()),
    Target("run_file", "json", _run_file, _read_run),
    Target("tombstones", "json", _tombstones, _read_tombstones),
    Target("checksums", "text", _checksums, _read_checksums),
    Target("splits", "csv", lambda _: b"source,split\na,train\nb,test\n", _read_splits),
    Target("rates", "json", _rates, _read_rates),
    Target("decisions", "jsonl", _decisions, _read_decisions, seeds=300),
    Target("decisions_sqlite", "sqlite", _overlay, _read_overlay, seeds=60),
    Target("decisions_parquet", "parquet", _decisions_table, _read_decisions_table),
    Target("audit_sample", "json", _sample, _read_sample),
    Target("rttm", "text", *_RTTM),
    Target("eaf", "xml", *_EAF),
    Target("label_studio", "json", *_LABELS),
    Target("import_seamless", "json", *_SEAMLESS, seeds=60),
    Target("import_realtalk", "json", *_REALTALK, seeds=60),
    Target("import_speakervid", "json", *_SPEAKERVID, seeds=60),
    Target("import_vico", "csv", *_VICO, seeds=60),
    Target("host_info", "json", _info, _read_info, ()),
    Target("download_note", "json", lambda _: dump({"length": 9, "etag": '"a"', "modified": None}), _read_note, ()),
    Target("uri", "text", _uri, _read_uri),
    Target("recipe_name", "text", lambda _: b"heads", _read_recipe, seeds=60),
    Target(
        "recipe_file",
        "text",
        lambda _: str(Path(__file__).parents[2] / "pipelines" / "heads.py").encode(),
        _read_recipe,
        seeds=60,
    ),
    Target("store_path", "text", _path, _read_path, (DyconvError, OSError)),
)
