"""An overlay applied when shards are written: what it changes, what stays, and that nothing comes back by accident."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dyconv.audit.application import KEPT_OVERLAY, Application, keep_overlay, pack_audited
from dyconv.audit.decisions import Decision, decide
from dyconv.audit.overlay import Annotations, Overlay
from dyconv.cli import build as command_line
from dyconv.errors import UsageError
from dyconv.records import Clip, Key
from dyconv.runner import RunOptions, kept_clips, run
from dyconv.shards import check, open_shards, read_index
from dyconv.shards.table import read_table
from dyconv.store import Store, sha256_of
from dyconv.time import Span
from tests import small_build as small

RECIPE = replace(small.RECIPE, name="audited", pack=(Key.VIDEO, Key.MIX, Key.SPEECH), samples_per_shard=1)
FIRST, SECOND = "other_00000000_00002000", "talk_00000000_00002000"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audited") / "build"
    small.small_build(root, RECIPE, pack=True)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "build"))


def clips(root: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in kept_clips(Store(root))}


def overlay(path: Path, *decisions: Decision) -> Path:
    Overlay(path).add(*decisions)
    return path


def pack(root: Path, monkeypatch: pytest.MonkeyPatch, *options: object) -> str:
    """`dyconv pack` in this process; the recipe is the one of these tests."""
    from dyconv import recipes

    monkeypatch.setattr(recipes, "load", lambda name: RECIPE)
    result = CliRunner().invoke(command_line(), ["pack", str(root), *map(str, options)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def shards(root: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted((root / "shards").iterdir()) if path.name != "overlay.jsonl"}


def work(root: Path) -> dict[str, str]:
    parts = [path for part in ("work", "ledger") for path in sorted((root / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): sha256_of(path) for path in parts}


def test_a_pack_applies_decisions_and_leaves_the_build_alone(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, plain = work(root), shards(root)
    talk = clips(root)[SECOND]
    turns = [{"person": "p0", "start_s": 0, "end_s": 0.5}, {"person": "p1", "start_s": 0.4, "end_s": 2}]
    said = overlay(tmp_path / "o.sqlite", decide(talk, "ann", "turns", {"turns": turns}), decide(talk, "ann", "swap"))
    out = pack(root, monkeypatch, "--overlay", said)
    assert "1 swapped, 1 corrected" in out and "1 shards written, 1 unchanged" in out
    assert work(root) == before
    assert shards(root)["clips-000000.tar"] == plain["clips-000000.tar"]
    assert check(Store(root), deep=True).ok
    sample = next(sample for sample in open_shards(root) if sample.id == SECOND)
    assert [(turn.person, turn.span) for turn in sample.clip.turns] == [("p1", Span.of(0, "0.5")), ("p0", Span.of("0.4", 2))]
    assert [track.person for track in sample.clip.tracks] == ["p1", "p0"]
    found = sample.arrays(Key.SPEECH)
    old = small_speech(talk, root)
    assert np.array_equal(found["p0"], old["p1"]) and np.array_equal(found["vad"], old["vad"])
    row = next(row for row in read_table(root / "shards" / "clips.parquet") if row["id"] == SECOND)
    assert (row["p0_speaking_share"], row["p1_speaking_share"]) == (0.8, 0.25)
    assert read_index(Store(root)).overlay == Overlay(said).annotations().version


def small_speech(clip: Clip, root: Path) -> dict[str, np.ndarray]:
    from dyconv.arrays import load_arrays

    return load_arrays(Store(root).verified(clip.assets[Key.SPEECH]))


def test_packs_are_deterministic_and_another_overlay_rewrites_what_it_changes(
    root: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, talk = (clips(root)[name] for name in (FIRST, SECOND))
    one = overlay(tmp_path / "one.sqlite", decide(other, "ann", "accept"), decide(talk, "ann", "reject", {"reason": "bleed"}))
    two = overlay(tmp_path / "two.sqlite", decide(talk, "bob", "accept"))
    plain = shards(root)
    pack(root, monkeypatch, "--overlay", one)
    first = shards(root)
    assert [row["id"] for row in read_table(root / "shards" / "clips.parquet")] == [FIRST]
    pack(root, monkeypatch, "--overlay", Overlay(one).export(tmp_path / "export"))
    assert shards(root) == first  # the export is the same overlay
    elsewhere = Path(shutil.copytree(made, tmp_path / "elsewhere"))
    pack(elsewhere, monkeypatch, "--overlay", one)
    assert shards(elsewhere) == first
    pack(root, monkeypatch, "--overlay", two)
    assert [sample.clip.measures.get("audit.state") for sample in open_shards(root)] == [None, "accepted"]
    pack(root, monkeypatch, "--overlay", one, "--overlay", two)  # bob came later
    assert [sample.clip.measures["audit.state"] for sample in open_shards(root)] == ["accepted", "accepted"]
    assert "decisions" not in pack(root, monkeypatch, "--no-overlay")
    assert shards(root) == plain and not Store(root).exists(KEPT_OVERLAY)


def test_what_was_taken_down_does_not_come_back(
    root: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = clips(root)[SECOND]
    down = overlay(tmp_path / "down.sqlite", decide(talk, "ann", "takedown", {"why": "he asked"}))
    old = overlay(tmp_path / "old.sqlite", decide(talk, "bob", "accept"))
    pack(root, monkeypatch, "--overlay", down)
    assert "1 taken down" in pack(root, monkeypatch)
    manifest = tmp_path / "manifest.csv"
    shutil.copy(made.parent / "build.csv", manifest)
    run(RECIPE, manifest, str(root), RunOptions(backend="local", workers=0, pack=True))
    assert [sample.id for sample in open_shards(root)] == [FIRST]  # a run packs at its end
    with pytest.raises(UsageError, match=r"1 clip \(talk_00000000_00002000\) were taken down"):
        pack(root, monkeypatch, "--overlay", old)
    assert [sample.id for sample in open_shards(root)] == [FIRST]
    pack(root, monkeypatch, "--overlay", old, "--overlay", down)
    pack(root, monkeypatch, "--no-overlay")
    assert len(list(open_shards(root))) == 2


def test_everything_may_be_left_out(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [decide(clip, "ann", "reject", {"reason": "other"}) for clip in clips(root).values()]
    pack(root, monkeypatch, "--overlay", overlay(tmp_path / "o.sqlite", *said))
    assert list(open_shards(root)) == [] and check(Store(root)).ok
    pack(root, monkeypatch, "--no-overlay")
    assert len(list(open_shards(root))) == 2


def test_stale_and_lost_clips_are_told(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = clips(root)[SECOND]
    earlier, lost = replace(talk, layout="pip"), replace(talk, id="left_00000000_00001000")
    said = overlay(
        tmp_path / "o.sqlite",
        decide(earlier, "ann", "reject", {"reason": "face"}),
        decide(lost, "ann", "reject", {"reason": "face"}),
    )
    out = pack(root, monkeypatch, "--overlay", said)
    assert f"1 clip ({SECOND}) changed since a review" in out and "1 clip (left_00000000_00001000) with decisions not in" in out
    assert len(list(open_shards(root))) == 2
    assert len(Overlay(said).all()) == 2


def test_an_application_without_files_leaves_out_what_it_cannot_exchange(root: Path) -> None:
    talk = clips(root)[SECOND]
    application = Application(Annotations.gathered([decide(talk, "ann", "swap", {"what": "voices"})]))
    found = {clip.id: clip for clip in application.clips(kept_clips(Store(root)))}
    assert Key.SPEECH not in found[SECOND].assets and Key.SPEECH in found[FIRST].assets
    assert application.applied.swapped == [SECOND] and application.applied.gone == []


def test_what_only_one_person_has_goes_with_them(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe may pack the face of p0 alone; when names are exchanged it is p1's, and stays in the shard."""
    store = Store(root)
    talk = clips(root)[SECOND]
    face = replace(talk, assets={**talk.assets, Key.P0_FACE: talk.assets[Key.VIDEO]})
    annotations = Annotations.gathered([decide(face, "ann", "swap")])
    keep_overlay(store, annotations)
    pack_audited(store, replace(RECIPE, pack=(Key.MIX, Key.P0_FACE)), [face])
    (sample,) = open_shards(root)
    assert Key.P1_FACE in sample and Key.P0_FACE not in sample
