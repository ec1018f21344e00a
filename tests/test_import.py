"""Importers of public sets: published layouts become manifests and builds, with the licence; what is wrong is said by file."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dyconv import recipes
from dyconv.arrays import load_arrays
from dyconv.errors import UsageError
from dyconv.importers.layout import LayoutError
from dyconv.importers.run import adapted, bring_in
from dyconv.importers.speakervid import find as find_speakervid
from dyconv.manifest import read_manifest
from dyconv.records import Clip, Key, Source
from dyconv.release.packed import Packed
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.shards import check as check_shards
from dyconv.stages.sides import Sides
from dyconv.store import Store
from dyconv.task import make_plan
from dyconv.truth import read_truth
from tests import public_sets
from training.evaluation.case import View
from training.evaluation.sets import open_set
from training.infp.clips import Builds

LICENCE = "CC-BY-NC-4.0"


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "import" / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def built(name: str, root: Path, out: Path) -> list[Clip]:
    """The clips of a set, through its recipe."""
    prepared, _ = bring_in(name, root, out, LICENCE)
    made = adapted(recipes.load("apart"), prepared, LICENCE)
    run(made, prepared.manifest, str(out), RunOptions(workers=0))
    assert not check_shards(Store(out)).problems
    return list(kept_clips(Store(out)))


def voices(out: Path, clip: Clip) -> list[np.ndarray]:
    from dyconv.media.audio import read_audio

    return [read_audio(Store(out).local(clip.assets[Key.of(person, "voice")].path)) for person in ("p0", "p1")]


@pytest.fixture(scope="module")
def seamless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Clip]]:
    tmp_path = tmp_path_factory.mktemp("seamless")
    return tmp_path / "out", built("seamless", public_sets.seamless(tmp_path / "set"), tmp_path / "out")


def test_seamless_becomes_a_build_with_its_own_turns_voices_and_licence(seamless: tuple[Path, list[Clip]]) -> None:
    out, clips = seamless
    (clip,) = clips
    assert (
        clip.source.licence == LICENCE
        and clip.source.id == "V00_S0809_I00000582"
        and clip.source.note == "seamless: improvised"
    )
    told = [(turn.person, float(turn.span.start), float(turn.span.end)) for turn in clip.turns]
    assert told == [("p1", 0.4, 1.92), ("p0", 2.0, 3.52)]  # P0383A is named before P0947, and so is p0
    assert all(person.seen and person.heard for person in clip.people)
    assert (clip.measures["p0.published_id"], clip.measures["p1.published_id"]) == ("P0383A", "P0947")
    assert clip.measures["people.turns_by"] == "published, published"
    wanted = {Key.of(person, what) for person in ("p0", "p1") for what in ("voice", "face", "crop", "motion")}
    assert wanted <= clip.assets.keys()
    for name, voice in zip(("P0383A", "P0947"), voices(out, clip), strict=True):
        published, rate = soundfile.read(next(out.parent.rglob(f"set/**/V00_S0809_I00000582_{name}.wav")))
        wanted = published[:: rate // 16000][: len(voice)]
        assert np.corrcoef(voice[: len(wanted)], wanted)[0, 1] > 0.95


def test_what_was_imported_can_be_read_by_the_trainer_and_the_evaluator(seamless: tuple[Path, list[Clip]]) -> None:
    out, _ = seamless
    packed = Packed(Store(out))
    (clip,) = packed.clips()
    faces = packed.fields(clip.id)
    assert {"p0.face.mp4", "p1.face.mp4", "p0.crop.npz", "p1.crop.npz", "p0.voice.flac", "p1.voice.flac"} <= faces.keys()
    keys = [Key.P0_FACE, Key.P0_CROP, Key.P0_VOICE, Key.P1_VOICE, Key.P0_MOTION]
    encoder = packed.encoder
    assert encoder is not None
    assert len(Builds([str(out)], keys, out / "cache", encoder_hash=encoder.hash).items()) == 1
    cases = open_set(str(out), [View.INTERACTIVE]).cases
    assert {case.person for case in cases} == {"p0", "p1"}


def test_an_import_is_known_by_what_was_published_and_not_by_where_it_lies(tmp_path: Path) -> None:
    fingerprints = []
    for place in ("a", "b"):
        prepared, _ = bring_in("vico", public_sets.vico(tmp_path / place / "set"), tmp_path / place / "out", LICENCE)
        made = adapted(recipes.load("apart"), prepared, LICENCE)
        fingerprints.append(make_plan(made).fingerprint)
        stage = next(stage for stage in made.stages if isinstance(stage, Sides))
        assert Path(stage.published).is_file() and stage.published_sha256 in json.dumps(stage.config())
    media = [sorted((tmp_path / place / "out" / "import" / "media").iterdir()) for place in ("a", "b")]
    assert len(media[0]) == 2 and [path.read_bytes() for path in media[0]] == [path.read_bytes() for path in media[1]]
    assert fingerprints[0] == fingerprints[1] != make_plan(recipes.load("apart")).fingerprint


def test_vico_speaks_on_one_side_alone(tmp_path: Path) -> None:
    (clip,) = built("vico", public_sets.vico(tmp_path / "set"), tmp_path / "out")
    assert clip.source.licence == LICENCE and {turn.person for turn in clip.turns} == {"p0"}
    assert [(person.seen, person.heard) for person in clip.people] == [(True, True), (True, False)]
    assert clip.measures["people.turns_by"] == "silero, published"
    own, other = voices(tmp_path / "out", clip)
    assert np.abs(own).max() > 0.05 and np.abs(other).max() < 1e-3
    speech = load_arrays(Store(tmp_path / "out").local(clip.assets[Key.SPEECH].path))
    assert speech["p0"].max() > 0.5 and not speech["p1"].any()
    with (tmp_path / "out" / "import" / "splits.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"source": "ab12cd34ef56", "split": "train"}]


def test_both_published_layouts_of_a_set_are_read(tmp_path: Path) -> None:
    bring_in("vico", public_sets.vico(tmp_path / "vico", whole=True), tmp_path / "a", LICENCE)
    (row,) = rows(tmp_path / "a")
    assert (row["id"], row["x_split"], row["note"]) == ("talk-listener", "train", "vico: attitude positive")
    bring_in("seamless", public_sets.seamless(tmp_path / "seamless", by_modality=True), tmp_path / "b", LICENCE)
    (row,) = rows(tmp_path / "b")
    told = json.loads((tmp_path / "b" / "import" / "published.json").read_text())
    assert row["id"] == "V00_S0809_I00000582" and told[row["id"]]["turns"] == [[[2.0, 3.5]], [[0.4, 1.9]]]


def test_realtalk_becomes_a_manifest_with_its_labels_as_truth(tmp_path: Path) -> None:
    bring_in("realtalk", public_sets.realtalk(tmp_path / "set"), tmp_path / "out", "research-only", language="en")
    (source,) = read_manifest(tmp_path / "out" / "import" / "manifest.csv")
    assert isinstance(source, Source) and source.licence == "research-only" and source.language == "en"
    assert source.url.endswith("data/english/videos/dQw4w9WgXcQ.mp4")
    truth = read_truth(tmp_path / "out" / "import" / "truth" / "dQw4w9WgXcQ" / "truth.json")
    assert [(turn.person, round(turn.start, 2), round(turn.end, 2)) for turn in truth.turns or ()] == [
        ("p0", 0.0, 1.6),
        ("p1", 1.6, 3.6),
    ]
    assert {face.person for face in truth.faces or ()} == {"p0", "p1"}


def test_speakervid_becomes_a_manifest_with_spans(tmp_path: Path) -> None:
    root = public_sets.speakervid(tmp_path / "set")
    bring_in("speakervid", root, tmp_path / "out", "research-only")
    found = {row["id"]: row for row in rows(tmp_path / "out")}
    assert (
        found["dQw4w9WgXcQ"]["url"] == "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
        and found["dQw4w9WgXcQ"]["x_seconds"] == "11.00"
    )
    assert {row["licence"] for row in found.values()} == {"research-only"}
    assert all(isinstance(row, Source) for row in read_manifest(tmp_path / "out" / "import" / "manifest.csv"))
    spans = [json.loads(line) for line in (tmp_path / "out" / "import" / "spans.jsonl").read_text().splitlines()]
    assert [(row["video"], row["start_s"], row["end_s"]) for row in spans] == [
        ("-abcdefghi0", 1.0, 5.0),
        ("dQw4w9WgXcQ", 3.0, 8.0),
        ("dQw4w9WgXcQ", 12.5, 18.5),
    ]
    assert spans[0]["box"] == [1, 2, 30, 40] and spans[1]["dover"] == 0.6
    assert [talk.id for talk in find_speakervid(root, only_good=True).talks] == ["dQw4w9WgXcQ"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


BROKEN: list[tuple[str, str, Callable[[Path], object], str]] = [
    (
        "vico",
        "no audio",
        lambda root: (root / "audios/ab12cd34ef56.wav").unlink(),
        "audios/ab12cd34ef56.wav: missing (train.csv, line 2)",
    ),
    ("vico", "empty video", lambda root: (root / "videos/ab12cd34ef56.listener.mp4").write_bytes(b""), "listener.mp4: empty"),
    ("vico", "no table", lambda root: (root / "train.csv").unlink(), "no CSV with the columns"),
    ("vico", "other columns", lambda root: (root / "train.csv").write_text("a,b\n1,2\n"), "no CSV with the columns"),
    (
        "vico",
        "a way out",
        lambda root: (root / "train.csv").write_text("uuid,speaker_id,listener_id\n../../x,1,2\n"),
        "leads out of",
    ),
    (
        "vico",
        "not UTF-8",
        lambda root: (root / "train.csv").write_bytes(b"uuid,speaker_id\n\xff\xfe,1\n"),
        "train.csv is not a readable CSV",
    ),
    ("vico", "damaged video", lambda root: _truncate(root / "videos/ab12cd34ef56.speaker.mp4"), "speaker.mp4 is "),
    ("seamless", "bad JSON", lambda root: next(root.rglob("*.json")).write_text("{"), ".json is not JSON"),
    (
        "seamless",
        "bad times",
        lambda root: next(root.rglob("*.json")).write_text('{"metadata:vad": [{"start": 2}]}'),
        "stretch 1: expected",
    ),
    (
        "seamless",
        "NaN",
        lambda root: next(root.rglob("*.json")).write_text('{"metadata:vad": [{"start": NaN, "end": 2}]}'),
        "stretch 1",
    ),
    (
        "seamless",
        "no partner",
        lambda root: next(root.rglob("*P0947.mp4")).unlink(),
        "expected two participants of V00_S0809_I00000582",
    ),
    ("seamless", "no sound", lambda root: next(root.rglob("*P0947.wav")).unlink(), "P0947.wav is missing"),
    (
        "realtalk",
        "bad label",
        lambda root: next(root.rglob("speaker_labels/*.json")).write_text('{"0": {"current_speaker": 7}}'),
        "frame 0",
    ),
    (
        "speakervid",
        "no start",
        lambda root: next(root.rglob("merged_anno/d*0.json")).write_text("{}"),
        "expected a start and an end",
    ),
    (
        "speakervid",
        "a list",
        lambda root: next(root.rglob("merged_anno/d*0.json")).write_text("[]"),
        "expected an object, found list",
    ),
]


@pytest.mark.parametrize(("name", "what", "harm", "word"), BROKEN, ids=[f"{one[0]}: {one[1]}" for one in BROKEN])
def test_what_is_wrong_is_said_by_file(tmp_path: Path, name: str, what: str, harm: Callable[[Path], object], word: str) -> None:
    root = getattr(public_sets, name)(tmp_path / "set")
    harm(root)
    with pytest.raises(LayoutError) as error:
        bring_in(name, root, tmp_path / "out", LICENCE)
    assert word in str(error.value) and not (tmp_path / "out" / "import" / "manifest.csv").exists()


@pytest.mark.parametrize("name", ["vico", "realtalk", "seamless", "speakervid"])
def test_another_folder_is_refused_with_what_was_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("hi")
    for root in (tmp_path / "set", tmp_path / "none"):
        with pytest.raises(LayoutError, match="expected"):
            bring_in(name, root, tmp_path / "out", LICENCE)


def test_whole_recordings_are_kept_where_bad_ones_are_to_be_left_out(tmp_path: Path) -> None:
    root = public_sets.speakervid(tmp_path / "set")
    next(root.rglob("merged_anno/d*0.json")).write_text("{")
    _, found = bring_in("speakervid", root, tmp_path / "out", LICENCE, skip_bad=True)
    assert len(found.problems) == 1 and len(rows(tmp_path / "out")) == 2
    root = public_sets.vico(public_sets.vico(tmp_path / "vico"), whole=True)
    _truncate(root / "videos" / "ab12cd34ef56.speaker.mp4")
    _, found = bring_in("vico", root, tmp_path / "other", LICENCE, skip_bad=True)
    assert [row["id"] for row in rows(tmp_path / "other")] == ["talk-listener"] and "speaker.mp4 is" in found.problems[0]


def test_no_licence_and_no_set_of_that_name(tmp_path: Path) -> None:
    root = public_sets.speakervid(tmp_path / "set")
    with pytest.raises(UsageError, match="no licence"):
        bring_in("speakervid", root, tmp_path / "out", " ")
    with pytest.raises(UsageError, match="no importer"):
        bring_in("voxceleb", root, tmp_path / "out", LICENCE)


def test_the_command(tmp_path: Path) -> None:
    root = public_sets.speakervid(tmp_path / "set")
    command = [sys.executable, "-m", "dyconv.cli", "import", "speakervid", str(root), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--licence", "research-only"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 conversations under research-only" in done.stdout and "the set lacks all media" in done.stdout
    done = subprocess.run([*command[:5], str(tmp_path), *command[6:], "--licence", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and "expected merged_anno" in done.stderr and "Traceback" not in done.stderr
