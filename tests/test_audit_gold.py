"""Gold labels: what was accepted or corrected scores as it should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dyconv.audit.decisions import Decision, decide, turns_data
from dyconv.audit.gold import gold, is_gold, write_gold
from dyconv.audit.overlay import Annotations
from dyconv.errors import UsageError
from dyconv.records import Clip, Drop, Key
from dyconv.runner import kept_clips
from dyconv.score import score
from dyconv.stages.base import Files
from dyconv.store import Store
from dyconv.truth import Truth, TruthTurn, parse_truth, read_truth
from tests.test_score import Attribute, Cut, Follow, Norm, Whole, made


@dataclass(frozen=True)
class Seen(Whole):
    """Clips that keep their faces."""

    gives: ClassVar[frozenset[Key]] = Whole.gives | {Key.FACES}

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        kept = {key: clip.assets[key] for key in (Key.VIDEO, Key.MIX, Key.SPEECH, Key.FACES)}
        yield replace(clip.child(clip.span), assets=kept)


def judged(store: Store, *said: tuple[str, dict[str, Any]], which: int = 0) -> list[Decision]:
    clip = list(kept_clips(store))[which]
    return [decide(clip, "ann", kind, data) for kind, data in said]


def scored(store: Store, decisions: list[Decision], folder: Path) -> dict[str, Any]:
    (path,) = write_gold(gold(store, Annotations.gathered(decisions)), folder)
    return score(store, read_truth(path), folder)


def test_what_was_accepted_scores_as_right(tmp_path: Path) -> None:
    store, _ = made(tmp_path, Norm(scale=2), Follow(scale=2), Seen())
    found = scored(store, judged(store, ("accept", {})), tmp_path / "gold")
    assert (found["der"], found["speaker_confusion"], found["abstain_rate"]) == pytest.approx((0.0, 0.0, 0.0))
    assert found["face_recall"] == 1.0 and found["face_iou_mean"] == pytest.approx(1.0) and found["identity_switches"] == 0
    assert found["cut_recall"] is None and found["si_sdr_db"] is None
    (path,) = (tmp_path / "gold").iterdir()
    truth = read_truth(path)
    assert (truth.known, truth.duration, path.name) == (((1.5, 9.5),), 9.5, "conversation.truth.json")
    assert truth.turns[-1] == TruthTurn(None, 8.5, 9.5)
    assert truth.faces[0].boxes[0][1:] in ((10, 20, 50, 70), (100, 20, 140, 70))  # pixels of the source, not of VIDEO
    first = path.read_bytes()
    scored(store, judged(store, ("accept", {})), tmp_path / "gold")
    assert path.read_bytes() == first


def test_corrections_show_what_the_build_got_wrong(tmp_path: Path) -> None:
    store, _ = made(tmp_path, Attribute(swapped=True), Seen())
    accepted = scored(store, judged(store, ("accept", {})), tmp_path / "a")
    assert accepted["speaker_confusion"] == pytest.approx(0.0)  # nobody noticed
    swapped = scored(store, judged(store, ("accept", {}), ("swap", {"what": "voices"})), tmp_path / "b")
    assert swapped["speaker_confusion"] == pytest.approx(7 / 8) and swapped["der"] == pytest.approx(0.0)
    names = scored(store, judged(store, ("accept", {}), ("swap", {"what": "people"})), tmp_path / "c")
    assert names["speaker_confusion"] == pytest.approx(0.0)
    clip = next(iter(kept_clips(store)))
    right = [{**turn, "end_s": turn["end_s"] - 1} for turn in turns_data(clip.turns[:1])]
    moved = scored(store, judged(store, ("turns", {"turns": right}), ("accept", {})), tmp_path / "d")
    assert moved["der"] > 1  # a second of speech was right, and 7 s of what was found are too many


def test_what_nobody_judged_does_not_count(tmp_path: Path) -> None:
    store, _ = made(tmp_path, Cut(apart=True), Attribute(swapped=True), Seen())
    found = scored(store, judged(store, ("accept", {}), ("swap", {"what": "voices"}), which=1), tmp_path / "gold")
    assert found["speaker_confusion"] == pytest.approx(3 / 4)  # of the second half only, with its off-screen second
    truth = read_truth(next((tmp_path / "gold").iterdir()))
    assert truth.known == ((5.5, 9.5),) and min(turn.start for turn in truth.turns) == 5.5
    assert score(store, replace(truth, known=None), tmp_path)["speaker_confusion"] == pytest.approx(3 / 4)
    assert score(store, replace(truth, known=None), tmp_path)["der"] > found["der"]


def test_unsure_stretches_and_unmended_faults_are_unknown(tmp_path: Path) -> None:
    store, _ = made(tmp_path, Seen())
    unsure = [
        {"person": "p1", "start_s": 0, "end_s": 2},
        {"person": None, "start_s": 3, "end_s": 4, "unsure": True},
        {"person": "p0", "start_s": 6, "end_s": 7},
    ]
    scored(store, judged(store, ("turns", {"turns": unsure}), ("accept", {})), tmp_path / "gold")
    truth = read_truth(next((tmp_path / "gold").iterdir()))
    assert truth.known == ((1.5, 4.5), (5.5, 9.5)) and len(truth.turns) == 2
    for said in (
        [("mark", {"what": "speaker"}), ("accept", {})],
        [("mark", {"what": "identity"}), ("swap", {"what": "voices"}), ("accept", {})],
        [("turns", {"turns": []})],
        [("accept", {}), ("reject", {"reason": "noise"})],
        [("accept", {}), ("takedown", {"why": "asked"})],
    ):
        assert list(gold(store, Annotations.gathered(judged(store, *said)))) == []
    mended = Annotations.gathered(judged(store, ("mark", {"what": "turns"}), ("turns", {"turns": []}), ("accept", {})))
    assert [(item.source, item.clips, item.corrected) for item in gold(store, mended)] == [("conversation", 1, 1)]
    bleeding = Annotations.gathered(judged(store, ("mark", {"what": "bleed"}), ("accept", {})))
    assert all(is_gold(verdict) for verdict in bleeding.verdicts().values())


def test_only_a_build_has_gold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output folder of a run"):
        list(gold(Store(tmp_path), Annotations()))


@pytest.mark.parametrize("known", [[[0, 5], [4, 8]], [[1]], [[2, 1]], [[0, 99]], "all", [["0", 1]]])
def test_a_truth_says_clearly_what_it_knows(known: Any) -> None:
    data = Truth("x.mp4", 10.0, None, ("p0", "p1"), known=((0.0, 2.0), (2.0, 9.5))).to_json()
    assert parse_truth(data).known == ((0.0, 2.0), (2.0, 9.5))
    with pytest.raises(UsageError, match="known"):
        parse_truth({**data, "known": known})
