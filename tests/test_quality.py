"""The quality report: which conversations, what is done to their sound, how numbers are added up and judged."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyconv.score_voices import mean_energy_db
from dyconv.stages.people import People
from dyconv.synth.compose import PersonInput
from dyconv.synth.render import Conversation, Shot
from dyconv.time import SAMPLE_RATE
from dyconv.truth import TruthTurn, read_truth
from pipelines.quality.building import LAST, quality_recipe
from pipelines.quality.composing import shifted, telephone, with_heard_turns
from pipelines.quality.extras import _truth as truth_of
from pipelines.quality.extras import real_truths
from pipelines.quality.identities import CLIPS, Cast, packaged_cast
from pipelines.quality.scenes import OVERLAPS, Scene, plan
from pipelines.quality.telling import markdown
from pipelines.quality.totals import TARGETS, offsets, totals

PEOPLE = Cast({name: PersonInput(Path(name)) for name in CLIPS}, (Path("n.wav"),) * 4, real=True)
MUSIC = [Path(f"/music/{index}.ogg") for index in range(12)]


def test_the_full_set_is_as_wide_as_it_says() -> None:
    scenes = plan(PEOPLE, MUSIC, "full")
    plain = [scene for scene in scenes if not scene.shift_ms]
    assert len(plain) >= 40 and len({name for scene in plain for name in (scene.a, scene.b)}) >= 12
    assert {scene.layout for scene in plain} == {"two-shot", "side", "stacked", "pip", "cuts"}
    assert {scene.overlap for scene in plain} == set(OVERLAPS)
    assert all(scene.a != scene.b and 20 <= scene.seconds <= 30 for scene in scenes)
    assert {scene.shift_ms for scene in scenes} == {0, 40, -40, 80, -80, 200, -200}
    conditions = [condition for scene in plain for condition in scene.conditions]
    assert {conditions.count(name) for name in ("off-screen voice", "telephone band")} == {4}
    assert conditions.count("music or noise") == 10
    assert plan(PEOPLE, MUSIC, "full") == scenes
    small = plan(PEOPLE, MUSIC, "small")
    assert len(small) == 11 and {scene.id for scene in small if not scene.shift_ms} <= {scene.id for scene in scenes}


def test_ids_name_content_and_not_the_machine() -> None:
    scene = Scene("side", "a", "b", 0.1, 20.0, seed=1, under="/here/music.ogg")
    assert replace(scene, under="/there/music.ogg").id == scene.id
    changed = (replace(scene, overlap=0.2), replace(scene, seed=2), replace(scene, shift_ms=40), replace(scene, telephone=True))
    assert len({scene.id, *(other.id for other in changed)}) == 5


def test_without_real_media_there_are_photographs_with_packaged_voices(tmp_path: Path) -> None:
    cast = packaged_cast(tmp_path)
    assert set(cast.people) == {"a", "b"} and not cast.real and not cast.narrators
    scenes = plan(cast, [], "full")
    assert {scene.under for scene in scenes if scene.under} <= {"pink", "babble", "white"}
    for person in cast.people.values():
        assert person.picture.is_file() and person.voice is not None and person.voice.is_file()


def conversation(**changes: Any) -> Conversation:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    low, high = np.sin(2 * np.pi * 300 * time), np.sin(2 * np.pi * 5000 * time)
    voice = ((low + high) * (time >= 0.5) * (time < 1.5)).astype(np.float32)
    turns = (TruthTurn("a", 0.5, 1.5),)
    plain = Conversation(
        {}, voice, turns, [Shot(0, 50, "side")], "side", 64, 64, Fraction(25), {"a": voice, "b": np.zeros_like(voice)}
    )
    return replace(plain, **changes)


def test_sound_is_shifted_with_its_truth() -> None:
    before = conversation()
    for seconds in (0.2, -0.2):
        after = shifted(before, seconds)
        assert [(turn.start, turn.end) for turn in after.turns] == [(0.5 + seconds, 1.5 + seconds)]
        begin = int((0.5 + seconds) * SAMPLE_RATE)
        for samples in (after.mix, after.voices["a"]):
            assert len(samples) == len(before.mix) and not samples[: begin - 1].any()
            assert np.array_equal(samples[begin : begin + SAMPLE_RATE], before.mix[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2])
    edge = conversation(turns=(TruthTurn("a", 0.0, 0.1), TruthTurn("a", 0.1, 0.5)))
    assert [(turn.start, turn.end) for turn in shifted(edge, -0.2).turns] == [(0.0, 0.3)]


def test_a_telephone_has_no_treble() -> None:
    after = telephone(conversation())
    middle = slice(SAMPLE_RATE * 3 // 4, SAMPLE_RATE * 5 // 4)
    for samples in (after.mix, after.voices["a"]):
        assert np.sqrt(np.mean(samples[middle] ** 2)) == pytest.approx(np.sqrt(0.5), rel=0.02)  # one sine of two is left


def test_turns_are_what_a_voice_detector_hears_within_what_was_planned(tmp_path: Path) -> None:
    """A real voice with a second of noise that level alone takes for speech."""
    from dyconv.synth.sound import read_sound

    cast = packaged_cast(tmp_path)
    voice = read_sound(cast.people["a"].voice or Path())[: 3 * SAMPLE_RATE]
    hiss = 0.01 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    both = np.concatenate([voice, hiss])
    planned = (TruthTurn("a", 0.0, 5.0), TruthTurn("off-screen", 1.0, 2.0))
    turns = with_heard_turns(conversation(mix=both, turns=planned, voices={"a": both, "b": np.zeros_like(both)})).turns
    own = [turn for turn in turns if turn.person == "a"]
    assert sum(turn.end - turn.start for turn in own) > 1.5 and max(turn.end for turn in own) < 3.3
    assert [turn for turn in turns if turn.person == "off-screen"] == [planned[1]]


def row(name: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "id": name, "layout": "side", "overlap": 0.1, "people": ["a", "b"], "conditions": [], "shift_ms": 0, "kept": True,
        "end": "kept", "reason": None, "speech_s": 10.0, "overlap_s": 1.0, "speaker_confusion": 0.0, "abstain_rate": 0.0,
        "der": 0.1, "speaker_swaps": 0, "si_sdr_improvement_overlap_db": 9.0, "bleed_db": -30.0, "offsets_frames": {},
    }  # fmt: skip
    return {**plain, **changes}


def test_totals_weigh_by_speech_and_count_what_is_dropped() -> None:
    rows = [
        row("one", speaker_confusion=0.04, speech_s=30.0),
        row("two", layout="cuts", speaker_confusion=0.0, bleed_db=-10.0),
        row(
            "three", kept=False, reason="NOT_DYADIC", speaker_confusion=None, abstain_rate=1.0, conditions=["off-screen voice"]
        ),
        row("late", shift_ms=40, speaker_confusion=1.0),
    ]
    found = totals(rows)
    assert found["all"]["speaker_confusion"] == pytest.approx(0.03) and found["all"]["conversations"] == 3
    assert found["all"]["abstain_rate"] == 0.0 and found["all"]["abstain_with_drops"] == pytest.approx(0.2)
    assert found["all"]["dropped"] == {"NOT_DYADIC": 1} and found["off-screen voice"]["kept"] == 0
    assert found["all"]["bleed_db"] == pytest.approx(10 * np.log10((29 * 1e-3 + 9 * 1e-1) / 38), abs=0.01)
    assert found["both on screen"]["conversations"] == 2 and found["layout cuts"]["conversations"] == 1


def test_levels_are_averaged_by_energy() -> None:
    assert mean_energy_db([-100.0, -10.0]) == pytest.approx(-13.01, abs=0.01)
    assert mean_energy_db([None, -20.0], [1.0, 5.0]) == pytest.approx(-20.0)
    assert mean_energy_db([None]) is None and mean_energy_db([]) is None


def test_shifts_are_found_on_top_of_what_a_clip_has_of_its_own() -> None:
    own, name = {"people.av_offset_frames": 2.0}, "people.av_offset_frames"
    rows = [
        row("base", offsets_frames=own),
        row("right", shift_ms=80, offsets_frames={name: 4.4}),
        row("wrong", shift_ms=-80, offsets_frames={name: 2.0}),
        row("unknown", shift_ms=200),
    ]
    found = offsets(rows)
    assert (found["tracks"], found["within_a_frame"], found["shifted"], found["shifts_found"]) == (1, 0.0, 3, 1)
    own = offsets([row("own", people=["sync", "desk"], offsets_frames={name: -3.0})])
    assert (own["within_a_frame"], own["within_a_frame_of_zero"]) == (1.0, 0.0)
    assert found["shifted_copies"][0]["errors"] == [0.4] and found["shifted_copies"][2]["errors"] == []


def test_a_report_says_what_is_met_missed_and_not_measured() -> None:
    rows = [row("one", layout="two-shot", speaker_confusion=0.05)]
    report = {"totals": totals(rows), "av_offset": offsets(rows), "sample": {"der": 0.1}, "conversations": rows, "real": []}
    report["targets"] = [target.row(report) for target in TARGETS]
    judged = {item["what"]: item["met"] for item in report["targets"]}
    assert judged["speaker confusion, both on screen"] is False and judged["bleed elsewhere, dB"] is True
    assert judged["speaker confusion, alternating shots"] is None
    page = markdown({**report, "about": "Some.", "command": "make quality"})
    assert "| speaker confusion, both on screen | <= 0.03 | 0.05 | missed | 0.02 |" in page and "not measured" in page


def test_the_recipe_is_the_demo_up_to_the_voices() -> None:
    recipe = quality_recipe("lip_motion")
    people = recipe.stage("people")
    assert recipe.stages[-1].name == LAST and isinstance(people, People) and people.active_speaker == "lip_motion"


def test_an_rttm_becomes_a_truth() -> None:
    rttm = "SPEAKER x 1 0.0 2.0 <NA> <NA> s1 <NA> <NA>\nSPEAKER x 1 2.0 3.0 <NA> <NA> s2 <NA> <NA>\n"
    rttm += "SPEAKER x 1 4.5 9.0 <NA> <NA> s3 <NA> <NA>\n"
    truth = truth_of("x.mp4", 10.0, rttm)
    assert truth.people == ("s2", "s3") and truth.turns[-1] == TruthTurn("s3", 4.5, 10.0) and truth.turns[0].person == "s1"


def test_real_conversations_have_truths(tmp_path: Path, real_data: Path) -> None:
    for media, path in real_truths(real_data, tmp_path).values():
        assert media.is_file() and len(read_truth(path).people) == 2
