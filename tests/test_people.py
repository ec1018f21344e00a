"""The people stage on simulated faces over a real telephone conversation with reference turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dyconv.arrays import load_arrays
from dyconv.media.audio import read_channels
from dyconv.models.lip_motion import LipMotion
from dyconv.models.slots import AvOffset, Diarization, FaceTrack
from dyconv.records import Clip, Drop, DropReason, Key
from dyconv.speech.turns import activity, speaker_changes
from dyconv.stages.base import check_contract
from dyconv.stages.people import People
from tests.speech_scenes import Speech, confusion, opening_of, telephone, write_segment

TWO_SHOT = [(0.0, 30.0, "ab")]
MIXED = [(0.0, 10.6, "ab"), (10.6, 14.56, "a"), (14.56, 18.04, "b"), (18.04, 21.72, "ab"), (21.72, 24.96, "b"),
         (24.96, 27.52, "a"), (27.52, 30.0, "ab")]  # fmt: skip
LISTENERS = [(0.0, 10.0, "ab"), (10.0, 14.6, "b"), (14.6, 18.0, "a"), (18.0, 21.6, "b"), (21.6, 30.0, "a")]


@pytest.fixture(scope="module")
def talk() -> Speech:
    return telephone()


@pytest.fixture(scope="module")
def mouths(talk: Speech) -> dict[str, np.ndarray]:
    """Mouths of `a` and `b` by their own turns, `s` still, `e` that moves with everything that is heard."""
    everything = talk.spoken["a"] | talk.spoken["b"]
    return {
        "a": opening_of(talk.samples, talk.spoken["a"]),
        "b": opening_of(talk.samples, talk.spoken["b"]),
        "s": np.full(talk.frames, 0.01),
        "e": opening_of(talk.samples, everything),
    }


class Known:
    """A diarizer that hears these voices, bool [K, T], with every fifth second of one mistaken for another's."""

    def __init__(self, *rows: np.ndarray) -> None:
        self.rows = np.stack(rows).astype(np.float32)
        wrong = (np.arange(self.rows.shape[1]) // 25) % 5 == 4
        self.rows[:, wrong] = np.roll(self.rows, 1, axis=0)[:, wrong]

    def diarize(self, samples: np.ndarray, *, min_speakers: int = 1, max_speakers: int | None = None) -> Diarization:
        return Diarization(self.rows, np.eye(len(self.rows), dtype=np.float32))


class Late(LipMotion):
    """Lip motion that also claims to know a shift."""

    def __init__(self, frames: float, confidence: float) -> None:
        self.found = AvOffset(frames, confidence)

    def offset(self, track: FaceTrack, samples: np.ndarray, speech: np.ndarray) -> AvOffset | None:
        assert len(track.present) == len(speech) == len(samples) // 640
        return self.found


def run(
    folder: Path,
    talk: Speech,
    shots: Sequence[tuple[float, float, str]],
    mouths: Mapping[str, np.ndarray],
    *,
    yaw: float = 0.0,
    diarizer: Known | None = None,
    lips: LipMotion | None = None,
    channels: np.ndarray | None = None,
    **fields: float,
) -> Clip | Drop:
    clip, files = write_segment(folder, talk, shots, mouths, yaw=yaw, channels=channels)
    stage = People(**{"min_seen": 1, "active_speaker": "lip_motion", "diarizer": "", **fields})
    stage.setup()
    for name, model in (("_diarizer", diarizer), ("_lips", lips)):
        if model is not None:
            object.__setattr__(stage, name, model)
    outputs = list(stage.process(clip, files))
    check_contract(stage, clip, outputs)
    if isinstance(outputs[0], Clip):
        speech = load_arrays(files.path(outputs[0], Key.SPEECH))
        assert set(speech) == {"vad", "p0", "p1", "unsure"}
        if Key.ENROLMENT in outputs[0].assets:
            check_enrolment(outputs[0], talk, read_channels(files.path(outputs[0], Key.ENROLMENT)))
        for row in speech.values():
            assert row.dtype == np.float32 and row.shape == (talk.frames,)
            assert row.min() >= 0 and row.max() <= 1
    return outputs[0]


def check_enrolment(clip: Clip, talk: Speech, voices: np.ndarray) -> None:
    """Up to 24 s of each, of nothing but frames in which only this person is said to speak."""
    assert voices.shape[0] == 2 and 24 * 16_000 >= voices.shape[1] >= 8_000
    given = activity(clip.turns, clip.frames) > 0
    for person, voice in enumerate(voices):
        used = voice[: np.flatnonzero(voice).max(initial=0) + 1]
        alone = np.repeat(given[person] & ~given[1 - person], 640)
        own = talk.samples[: len(alone)][alone]
        middle = used[320 : 320 + 1600]  # a tenth of a second after the fade
        assert not len(used) or any(
            np.allclose(own[at : at + 1600], middle, atol=1e-4) for at in range(0, len(own) - 1600, 320)
        )


@pytest.mark.parametrize("shots", [TWO_SHOT, MIXED, LISTENERS], ids=["two-shot", "mixed", "listeners"])
def test_speakers_are_right(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray], shots: list) -> None:
    out = run(tmp_path, talk, shots, mouths, min_seen=2)
    assert isinstance(out, Clip), out
    wrong, missed = confusion(out, talk.spoken)
    assert wrong <= 0.05 and missed <= 0.12
    assert {person.identity for person in out.people} == {"a", "b"}
    assert all(person.seen and person.heard for person in out.people)
    by_identity = {person.identity: person.id for person in out.people}
    assert all(track.person == by_identity[track.identity] for track in out.tracks)
    for person in ("p0", "p1", None):
        own = [turn.span for turn in out.turns if turn.person == person]
        assert all(first.end <= second.start for first, second in pairwise(own))
    assert all(0 <= turn.span.start < turn.span.end <= out.span.duration for turn in out.turns)


def test_a_partner_who_is_only_heard(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    out = run(tmp_path / "one", talk, [(0.0, 30.0, "b")], mouths)
    assert isinstance(out, Clip), out
    assert [(p.identity, p.seen, p.heard) for p in out.people] == [("b", True, True), (None, False, True)]
    wrong, missed = confusion(out, talk.spoken)
    assert wrong <= 0.05 and missed <= 0.12
    refused = run(tmp_path / "two", talk, [(0.0, 30.0, "b")], mouths, min_seen=2)
    assert isinstance(refused, Drop) and refused.reason is DropReason.FACES_NOT_TWO
    assert "expected 2" in refused.detail and "b for 30.0 s" in refused.detail


def test_p0_is_seen_longest_and_leftmost_among_equals(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    left = run(tmp_path / "left", talk, [(0.0, 30.0, "ba")], mouths)
    longest = run(tmp_path / "long", talk, [(0.0, 20.0, "ba"), (20.0, 30.0, "a")], mouths)
    assert isinstance(left, Clip) and isinstance(longest, Clip)
    assert left.person("p0").identity == "b" and longest.person("p0").identity == "a"


def test_a_silent_third_face_is_no_obstacle(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    out = run(tmp_path, talk, [(0.0, 30.0, "sab")], mouths)
    assert isinstance(out, Clip), out
    assert {person.identity for person in out.people} == {"a", "b"}
    assert [track.person for track in out.tracks].count(None) == 1
    assert confusion(out, talk.spoken)[0] <= 0.05


def test_too_few_rounds_are_no_conversation(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """The sample has several rounds; nobody has fifty in half a minute."""
    (tmp_path / "several").mkdir()
    (tmp_path / "fifty").mkdir()
    several = run(tmp_path / "several", talk, [(0.0, 30.0, "ab")], mouths, min_changes=3)
    assert isinstance(several, Clip), several
    fifty = run(tmp_path / "fifty", talk, [(0.0, 30.0, "ab")], mouths, min_changes=50)
    assert isinstance(fifty, Drop) and fifty.reason is DropReason.NOT_DYADIC
    assert fifty.detail == f"expected the floor to change 50 times, found {speaker_changes(several.turns)}"


def test_three_who_talk_are_not_two(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """The second speaker's turns are shared between two faces."""
    late = np.arange(talk.frames) >= 18 * 25
    three = dict(mouths, b=np.where(late, mouths["s"], mouths["b"]), c=np.where(late, mouths["b"], mouths["s"]))
    out = run(tmp_path, talk, [(0.0, 30.0, "abc")], three)
    assert isinstance(out, Drop) and out.reason is DropReason.NOT_DYADIC


def test_a_voice_off_screen_beside_two_still_faces(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    out = run(tmp_path, talk, [(0.0, 30.0, "st")], {"s": mouths["s"], "t": mouths["s"]})
    assert isinstance(out, Drop) and out.reason is DropReason.NOT_DYADIC
    assert "somebody else" in out.detail


def test_useless_lips_are_abstained_from(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """Profiles: their still mesh proves nothing, so nobody is given the speech."""
    out = run(tmp_path, talk, [(0.0, 30.0, "st")], {"s": mouths["s"], "t": mouths["s"]}, yaw=1.25)
    assert isinstance(out, Drop) and out.reason is DropReason.ATTRIBUTION_UNSURE


@pytest.mark.parametrize("letters", ["e", "es"])
def test_one_voice_is_no_conversation(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray], letters: str) -> None:
    out = run(tmp_path, talk, [(0.0, 30.0, letters)], mouths)
    assert isinstance(out, Drop) and out.reason is DropReason.NOT_DYADIC
    assert "one voice" in out.detail


def test_one_voice_seen_now_and_then_still(tmp_path: Path, talk: Speech) -> None:
    """A single speaker whose lips are missed for whole seconds: the voice shows that nobody else is there."""
    own = talk.spoken["b"] & ~talk.spoken["a"]
    keep = np.repeat(own, 640)
    alone = Speech(np.where(keep, talk.samples[: len(keep)], 0.0).astype(np.float32), {"a": own})
    gaps = (np.arange(talk.frames) // 50) % 2 == 1
    mouth = np.where(gaps, 0.01, opening_of(talk.samples, own))
    out = run(tmp_path, alone, [(0.0, 30.0, "b")], {"b": mouth})
    assert isinstance(out, Drop) and out.reason in (DropReason.NOT_DYADIC, DropReason.ATTRIBUTION_UNSURE)


def test_no_speech_and_no_face(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    silent = Speech(np.zeros_like(talk.samples), talk.spoken)
    quiet = run(tmp_path / "quiet", silent, TWO_SHOT, mouths)
    assert isinstance(quiet, Drop) and quiet.reason is DropReason.NOT_DYADIC
    nobody = run(tmp_path / "nobody", talk, [(0.0, 30.0, "")], mouths)
    assert isinstance(nobody, Drop) and nobody.reason is DropReason.FACES_NOT_TWO


def test_same_input_same_bytes(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    first, second = (run(tmp_path / name, talk, TWO_SHOT, mouths) for name in "ab")
    assert isinstance(first, Clip) and first == second


def test_unsure_turns_belong_to_nobody(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """A higher bar for confidence leaves more undecided and gives less away."""
    low = run(tmp_path / "low", talk, MIXED, mouths, min_confidence=0.5, max_abstain=1.0)
    high = run(tmp_path / "high", talk, MIXED, mouths, min_confidence=0.97, max_abstain=1.0)
    assert isinstance(low, Clip) and isinstance(high, Clip)
    given = [activity(out.turns, out.frames).any(axis=0).sum() for out in (low, high)]
    assert given[1] < given[0]
    assert any(turn.unsure and turn.person is None for turn in high.turns)


def test_heard_voices_keep_to_their_faces(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    """Faces seen for eighteen seconds only: whose voice is whose is learnt there, and holds while nobody is on screen."""
    shots = [(0.0, 18.0, "ab"), (18.0, 30.0, "")]
    voices = Known(talk.spoken["b"], talk.spoken["a"])
    out = run(tmp_path, talk, shots, mouths, diarizer=voices)
    assert isinstance(out, Clip), out
    wrong, missed = confusion(out, talk.spoken)
    assert wrong <= 0.05 and missed <= 0.2
    assert out.measures["people.voices"] == 2.0
    agreements = [turn.agreement for turn in out.turns if turn.agreement is not None]
    assert agreements and np.mean(agreements) > 0.7
    assert Clip.from_json(out.to_json()).turns[0].agreement == pytest.approx(out.turns[0].agreement, abs=1e-4)


def test_voices_that_contradict_the_lips_are_not_swapped_in_silence(
    tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]
) -> None:
    """The diarizer has both people under one voice, and a second that means nothing: lips decide as without it."""
    everything = talk.spoken["a"] | talk.spoken["b"]
    odd = (np.arange(talk.frames) // 40) % 2 == 0
    out = run(tmp_path, talk, TWO_SHOT, mouths, diarizer=Known(everything & odd, everything & ~odd))
    assert isinstance(out, Clip), out
    assert confusion(out, talk.spoken)[0] <= 0.05


def test_one_person_silent_throughout(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    own = talk.spoken["b"] & ~talk.spoken["a"]
    alone = Speech(np.where(np.repeat(own, 640), talk.samples[: len(own) * 640], 0.0).astype(np.float32), {"b": own})
    out = run(
        tmp_path, alone, TWO_SHOT, {"a": mouths["s"], "b": opening_of(talk.samples, own)}, diarizer=Known(own, ~own & False)
    )
    assert isinstance(out, Drop) and out.reason is DropReason.NOT_DYADIC


def test_a_shift_is_reported_and_refused_beyond_the_limit(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray]) -> None:
    args = talk, TWO_SHOT, mouths
    free = run(tmp_path / "free", *args, lips=Late(5.0, 0.9))
    assert isinstance(free, Clip)
    assert free.measures["people.av_offset_frames"] == 5.0 and free.measures["people.sync_confidence"] == 0.9
    assert free.measures["p0.av_offset_frames"] == free.measures["p1.av_offset_frames"] == 5.0
    late = run(tmp_path / "late", *args, lips=Late(5.0, 0.9), max_offset_frames=2.0)
    dubbed = run(tmp_path / "dubbed", *args, lips=Late(1.0, 0.1), min_sync_confidence=0.3)
    assert isinstance(late, Drop) and isinstance(dubbed, Drop)
    assert late.reason is dubbed.reason is DropReason.OUT_OF_SYNC
    assert "found +5.0 frames" in late.detail and late.clip.measures["people.av_offset_frames"] == 5.0
    inside = run(tmp_path / "inside", *args, lips=Late(-1.5, 0.9), max_offset_frames=2.0, min_sync_confidence=0.3)
    assert isinstance(inside, Clip)


@pytest.mark.parametrize(("first", "said"), [("a", "p0=0,p1=1"), ("b", "p0=1,p1=0")])
def test_channels_go_to_their_faces(tmp_path: Path, talk: Speech, mouths: dict[str, np.ndarray], first: str, said: str) -> None:
    second = "b" if first == "a" else "a"
    sound = talk.samples[: talk.frames * 640]
    channels = np.stack([sound * np.repeat(talk.spoken[name], 640) for name in (first, second)]).astype(np.float32)
    out = run(tmp_path, talk, TWO_SHOT, mouths, channels=channels)
    assert isinstance(out, Clip), out
    assert out.person("p0").identity == "a" and out.measures["people.channels"] == said
    assert confusion(out, talk.spoken)[0] <= 0.03
