"""Score: every measure on cases whose answer is known, and a whole build made to differ from its truth on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dyconv.arrays import save_arrays
from dyconv.cli import build
from dyconv.errors import UsageError
from dyconv.faces import POINTS, FaceArrays, save_faces
from dyconv.media.audio import read_audio, write_audio
from dyconv.media.video import VideoWriter
from dyconv.recipe import Recipe
from dyconv.records import PERSONS, Clip, Drop, DropReason, Key, Person, Source, Track, Turn
from dyconv.runner import RunOptions, run
from dyconv.score import score
from dyconv.score_metrics import (
    Seen,
    Speech,
    cut_scores,
    face_scores,
    identity_map,
    iou,
    match,
    overlap_s,
    si_sdr_db,
    speaker_scores,
    unattributed_share,
)
from dyconv.score_sync import SyncMeter
from dyconv.score_voices import gained_in_overlap, places, swaps
from dyconv.stages.base import Files, Stage
from dyconv.stages.normalize import Normalize
from dyconv.store import Store
from dyconv.time import SAMPLE_RATE, Span, seconds
from dyconv.truth import Truth, TruthFace, TruthTurn, write_truth
from tests.mediagen import make_media, times_cfr


@pytest.mark.parametrize(
    ("truth", "found", "precision", "recall", "error"),
    [
        ([9.2, 18.2], [9.2, 18.2], 1.0, 1.0, 0.0),
        ([9.2, 18.2], [9.28], 1.0, 0.5, 0.08),
        ([9.2], [9.3], 0.0, 0.0, None),
        ([9.2], [9.16, 9.2, 9.24], 1 / 3, 1.0, 0.0),
        ([1.0, 1.08], [1.04, 1.12], 1.0, 1.0, 0.04),
        ([], [3.0], 0.0, None, None),
        ([], [], None, None, None),
        ([3.0], [], 0.0, 0.0, None),
    ],
)
def test_cuts(
    truth: list[float], found: list[float], precision: float | None, recall: float | None, error: float | None
) -> None:
    scores = cut_scores(truth, found)
    assert scores["cut_precision"] == precision and scores["cut_recall"] == recall
    assert scores["cut_error_s_p95"] == (None if error is None else pytest.approx(error))


@given(st.lists(st.integers(1, 400), unique=True, max_size=6), st.lists(st.integers(1, 400), unique=True, max_size=6))
def test_cuts_are_matched_once(truth: list[int], found: list[int]) -> None:
    scores = cut_scores([cut / 25 for cut in truth], [cut / 25 for cut in found])
    if truth and found:
        assert scores["cut_precision"] * len(found) == pytest.approx(scores["cut_recall"] * len(truth))  # type: ignore[operator]


def test_iou() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_match_takes_the_best_total() -> None:
    assert match(np.array([[9.0, 8.0], [8.0, 1.0]])) == [(0, 1), (1, 0)]
    assert match(np.array([[1.0, 0.0]])) == [(0, 0)] and match(np.zeros((0, 3))) == [] and match(np.zeros((2, 2))) == []


TURNS = [Speech("a", 0, 4), Speech("b", 4, 8)]


@pytest.mark.parametrize(
    ("found", "der", "confusion"),
    [
        (TURNS, 0.0, 0.0),
        ([Speech("a", 0, 5), Speech("b", 5, 8)], 1 / 8, 1 / 8),  # a second of b's given to a
        ([Speech("b", 0, 4), Speech("a", 4, 8)], 0.0, 1.0),  # names swapped: DER maps them back, confusion does not
        ([Speech("a", 0, 4)], 0.5, 0.0),  # half missed
        ([*TURNS, Speech("a", 4, 6)], 2 / 8, 0.0),  # two seconds too much
        ([], 1.0, 0.0),
    ],
)
def test_speakers(found: list[Speech], der: float, confusion: float) -> None:
    scores = speaker_scores(TURNS, found, [(0, 10)])
    assert scores == {"der": pytest.approx(der), "speaker_confusion": pytest.approx(confusion)}


def test_speakers_with_overlap_and_only_inside_spans() -> None:
    truth = [Speech("a", 0, 4), Speech("b", 2, 6)]
    assert speaker_scores(truth, [Speech("a", 0, 4), Speech("b", 4, 6)], [(0, 6)])["der"] == pytest.approx(2 / 8)
    assert speaker_scores(TURNS, [Speech("a", 0, 4)], [(0, 4)])["der"] == 0.0
    assert speaker_scores(TURNS, [Speech("a", 0, 4)], [])["der"] is None


def test_unattributed() -> None:
    assert unattributed_share(TURNS, TURNS) == pytest.approx(0.0)
    assert unattributed_share(TURNS, [Speech("b", 2, 6), Speech("a", 5, 6)]) == pytest.approx(0.5)
    assert unattributed_share(TURNS, []) == 1.0 and unattributed_share([], TURNS) is None
    assert overlap_s(TURNS, [Speech("x", 3, 5)]) == 2.0


@given(st.floats(-30, 40), st.floats(0.01, 10), st.floats(-1, 1))
def test_si_sdr_of_known_noise(ratio: float, gain: float, offset: float) -> None:
    """Noise orthogonal to the signal, at a given ratio, whatever the gain and the constant offset."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    signal, noise = np.sin(2 * np.pi * 100 * time), np.sin(2 * np.pi * 200 * time)
    estimate = gain * (signal + noise * 10 ** (-ratio / 20)) + offset
    assert si_sdr_db(signal, estimate) == pytest.approx(ratio, abs=1e-3)


def test_si_sdr_at_its_ends_and_against_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=4000), rng.normal(size=4000)
    assert si_sdr_db(signal, signal * 0.5) == 100.0 and si_sdr_db(np.zeros(100), noise[:100]) is None
    assert si_sdr_db(signal, np.zeros(4000)) == -100.0
    estimate = signal + 0.3 * noise
    other = scale_invariant_signal_distortion_ratio(torch.tensor(estimate), torch.tensor(signal), zero_mean=True)
    assert si_sdr_db(signal, estimate) == pytest.approx(float(other), abs=1e-3)


LEFT, RIGHT = (0.0, 0.0, 40.0, 40.0), (100.0, 0.0, 140.0, 40.0)


def both(time: float, first: str, second: str) -> list[Seen]:
    tracks = {first: LEFT, second: RIGHT}
    return [Seen("a", time, LEFT, tracks), Seen("b", time, RIGHT, tracks)]


def test_faces() -> None:
    good = [seen for time in range(4) for seen in both(time, "i0", "i1")]
    assert face_scores([good]) == {"face_recall": 1.0, "identity_switches": 0, "face_iou_mean": 1.0}
    assert identity_map(good) == {"i0": "a", "i1": "b"}
    swapped = [seen for time in range(4) for seen in both(time, *(("i0", "i1") if time < 3 else ("i1", "i0")))]
    assert face_scores([swapped]) == {"face_recall": 0.75, "identity_switches": 2, "face_iou_mean": 1.0}
    assert face_scores([good, [replace(seen, time=9) for seen in both(9, "i1", "i0")]])["identity_switches"] == 0
    shifted = [Seen("a", 0, LEFT, {"i0": (10, 0, 50, 40)})]
    assert face_scores([shifted])["face_iou_mean"] == pytest.approx(0.6)
    missed = [Seen("a", 0, LEFT, {}), Seen("a", 1, LEFT, {"i0": (30, 0, 70, 40)})]
    assert face_scores([missed]) == {"face_recall": 0.0, "identity_switches": 0, "face_iou_mean": None}
    assert face_scores([[]])["face_recall"] is None


# A build of 8 s made by stages that know the truth and err on purpose. One shot of both, a cut at 4 s, one shot of both
# with the people's places changed. The media's clock starts at START.

START = Fraction(3, 2)
SIZE = (160, 96)
PLACES = {"left": (10, 20, 50, 70), "right": (100, 20, 140, 70)}
TRUTH = Truth(
    media="talk.mp4",
    duration=9.5,
    layout="cuts",
    people=("a", "b"),
    cuts=(5.5,),
    turns=(
        TruthTurn("a", 1.5, 3.5),
        TruthTurn("b", 3.5, 5.5),
        TruthTurn("a", 5.5, 7.5),
        TruthTurn("b", 7.5, 8.5),
        TruthTurn(None, 8.5, 9.5),
    ),
    faces=tuple(
        TruthFace(person, start, start + 4, tuple((start + second, *PLACES[place]) for second in range(4)))
        for start, places in ((1.5, ("left", "right")), (5.5, ("right", "left")))
        for person, place in zip(("a", "b"), places, strict=True)
    ),
    voices={"a": "a.wav", "b": "b.wav"},
)


def tone(person: str) -> np.ndarray:
    """A voice of 8 s: a tone of its own while the person speaks. The third voice is in neither file."""
    time = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    on = np.zeros(len(time), bool)
    for turn in TRUTH.turns:
        if turn.person == person:
            on |= (time >= turn.start - 1.5) & (time < turn.end - 1.5)
    return (0.25 * np.sin(2 * np.pi * (200 if person == "a" else 300) * time) * on).astype(np.float32)


@dataclass(frozen=True)
class Fetch(Stage):
    name: ClassVar[str] = "download"
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        path = files.new(clip, Key.MEDIA, ".mp4")
        with VideoWriter(path, *SIZE) as writer:
            for _ in range(5):
                writer.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        yield replace(files.add(clip, (Key.MEDIA, path)), span=Span(START, START + 8))


@dataclass(frozen=True)
class Cut(Stage):
    late: str = "0"  # seconds
    apart: bool = False  # two segments, or one
    name: ClassVar[str] = "scenes"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    splits: ClassVar[bool] = True

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        cut = 4 + seconds(self.late)
        shots = (Span(Fraction(0), cut), Span(cut, Fraction(8)))
        for part in [(shots[0],), (shots[1],)] if self.apart else [shots]:
            span = Span(part[0].start, part[-1].end)
            child = clip.child(span.shift(START), shots=tuple(shot.shift(-span.start) for shot in part))
            yield replace(child, assets=dict(clip.assets))


@dataclass(frozen=True)
class Norm(Stage):
    scale: int = 1  # VIDEO is this many times as large as the source
    name: ClassVar[str] = "normalize"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MEDIA})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        video, mix = files.new(clip, Key.VIDEO), files.new(clip, Key.MIX)
        with VideoWriter(video, SIZE[0] * self.scale, SIZE[1] * self.scale) as writer:
            for _ in range(2):
                writer.write(np.zeros((SIZE[1] * self.scale, SIZE[0] * self.scale, 3), np.uint8))
        write_audio(mix, part_of(tone("a") + tone("b"), clip))
        yield files.add(clip, (Key.VIDEO, video), (Key.MIX, mix)).measured(av_offset_s=-0.012)


def part_of(samples: np.ndarray, clip: Clip) -> np.ndarray:
    begin = int((clip.span.start - START) * SAMPLE_RATE)
    return samples[begin : begin + int(clip.span.duration * SAMPLE_RATE)]


@dataclass(frozen=True)
class Follow(Stage):
    scale: int = 1
    confused: bool = False  # identities stay at their place when the people change places
    name: ClassVar[str] = "tracks"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.FACES})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        arrays, tracks = {}, []
        for shot, span in enumerate(clip.shots):
            first = clip.span.start + span.start < Fraction(11, 2)
            for index, place in enumerate(("left", "right")):
                identity = index if first or self.confused else 1 - index
                frames = np.array(span.frames)
                boxes = np.tile(np.array(PLACES[place], np.float32) * self.scale, (len(frames), 1))
                name = f"t{shot}{index}"
                arrays[name] = FaceArrays(frames, boxes, np.ones(len(frames)), np.zeros((len(frames), POINTS, 3)))
                tracks.append(Track(name, shot, frames[0].item(), frames[-1].item() + 1, 40.0, 1.0, f"i{identity}"))
        path = files.new(clip, Key.FACES)
        save_faces(path, arrays)
        yield replace(files.add(clip, (Key.FACES, path)), tracks=tuple(tracks))


@dataclass(frozen=True)
class Attribute(Stage):
    swapped: bool = False  # every voice given to the wrong face
    drop_second: bool = False
    name: ClassVar[str] = "people"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX, Key.FACES})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.SPEECH})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        if self.drop_second and clip.span.start > 2:
            yield Drop(clip, DropReason.NOT_DYADIC, "expected two people, found more")
            return
        names = {"a": "p1", "b": "p0", None: None}  # p0 is the one with identity i1
        if self.swapped:
            names = {"a": "p0", "b": "p1", None: None}
        turns = []
        for turn in TRUTH.turns:
            span = Span.of(turn.start, turn.end).intersect(clip.span)
            if span:
                turns.append(Turn(names[turn.person], span.shift(-clip.span.start), 0.9))
        path = files.new(clip, Key.SPEECH)
        save_arrays(path, {name: np.zeros(clip.frames, np.float32) for name in ("vad", "p0", "p1", "unsure")})
        people = (Person("p0", "i1", True, True), Person("p1", "i0", True, True))
        yield replace(files.add(clip, (Key.SPEECH, path)), turns=tuple(turns), people=people)


@dataclass(frozen=True)
class Whole(Stage):
    name: ClassVar[str] = "clips"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.VIDEO, Key.MIX, Key.SPEECH})
    splits: ClassVar[bool] = True

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        kept = {key: clip.assets[key] for key in (Key.VIDEO, Key.MIX, Key.SPEECH)}
        yield replace(clip.child(clip.span), assets=kept)


@dataclass(frozen=True)
class Part(Stage):
    leak: float = 0.0  # amplitude of the partner in each voice
    exchange: bool = False  # the two voices change places in the second half
    name: ClassVar[str] = "separate"
    needs: ClassVar[frozenset[Key]] = frozenset({Key.MIX, Key.SPEECH})
    gives: ClassVar[frozenset[Key]] = frozenset({Key.P0_VOICE, Key.P1_VOICE})

    def process(self, clip: Clip, files: Files) -> Iterator[Clip | Drop]:
        for person, own, other in zip(PERSONS, "ba", "ab", strict=True):
            path = files.new(clip, Key.of(person, "voice"))
            voice = tone(own) + self.leak * tone(other)
            if self.exchange:
                voice[4 * SAMPLE_RATE :] = tone(other)[4 * SAMPLE_RATE :]
            write_audio(path, part_of(voice, clip))
            clip = files.add(clip, (Key.of(person, "voice"), path))
        yield clip


def made(root: Path, *changed: Stage) -> tuple[Store, Path]:
    """Run the stages with some of them changed; returns the build and the truth's file."""
    plain: tuple[Stage, ...] = (Fetch(), Cut(), Norm(), Follow(), Attribute(), Whole(), Part())
    named = {stage.name: stage for stage in changed}
    recipe = Recipe("errs", "", tuple(named.get(stage.name, stage) for stage in plain))
    truth = root / "truth" / "truth.json"
    truth.parent.mkdir(parents=True)
    write_truth(truth, TRUTH)
    for person in "ab":
        write_audio(truth.parent / f"{person}.wav", tone(person))
    manifest = root / "m.csv"
    manifest.write_text("id,url,licence\nconversation,http://127.0.0.1/talk.mp4,own\n")
    run(recipe, manifest, str(root / "out"), RunOptions(backend="local", workers=0, pack=False))
    return Store(root / "out"), truth


def scored(root: Path, *changed: Stage) -> dict:  # type: ignore[type-arg]
    store, truth = made(root, *changed)
    return score(store, TRUTH, truth.parent)


def test_a_perfect_build(tmp_path: Path) -> None:
    found = scored(tmp_path)
    # 16-bit rounding is all that keeps the voices from being the truth's
    assert found.pop("si_sdr_db") > 60 and found.pop("si_sdr_improvement_db") > 55
    assert found == {
        "cut_precision": 1.0,
        "cut_recall": 1.0,
        "cut_error_s_p95": 0.0,
        "face_recall": 1.0,
        "identity_switches": 0,
        "face_iou_mean": pytest.approx(1.0),
        "der": pytest.approx(0.0),
        "speaker_confusion": pytest.approx(0.0),
        "abstain_rate": pytest.approx(0.0),
        "si_sdr_improvement_overlap_db": None,  # nobody overlaps
        "bleed_db": -100.0,
        "speaker_swaps": 0,
        "av_offset_s": -0.012,
        "av_offset_frames": None,  # nobody measured it
        "kept_hours": round(8 / 3600, 6),
        "dropped": {},
    }


def test_cuts_between_segments_and_late_ones(tmp_path: Path) -> None:
    assert scored(tmp_path / "a", Cut(apart=True))["cut_recall"] == 1.0
    late = scored(tmp_path / "b", Cut(late="0.04"))
    assert (late["cut_precision"], late["cut_error_s_p95"]) == (1.0, pytest.approx(0.04))
    assert scored(tmp_path / "c", Cut(late="0.2"))["cut_recall"] == 0.0


def test_faces_in_other_pixels_and_identities_that_stay_behind(tmp_path: Path) -> None:
    assert scored(tmp_path / "a", Norm(scale=2), Follow(scale=2))["face_recall"] == 1.0
    confused = scored(tmp_path / "b", Follow(confused=True))
    assert (confused["face_recall"], confused["identity_switches"]) == (0.5, 2)


def test_voices_given_to_the_wrong_face(tmp_path: Path) -> None:
    found = scored(tmp_path, Attribute(swapped=True))
    assert found["der"] == pytest.approx(0.0)  # which forgives names
    assert found["speaker_confusion"] == pytest.approx(7 / 8)


def test_what_is_dropped_counts_as_unattributed(tmp_path: Path) -> None:
    found = scored(tmp_path, Cut(apart=True), Attribute(drop_second=True))
    assert (found["der"], found["abstain_rate"]) == (pytest.approx(0.0), pytest.approx(0.5))
    assert (found["dropped"], found["kept_hours"]) == ({"NOT_DYADIC": 1}, round(4 / 3600, 6))
    assert found["face_recall"] == 1.0 and found["cut_recall"] == 1.0


def test_bleed(tmp_path: Path) -> None:
    found = scored(tmp_path, Part(leak=0.1))
    assert found["bleed_db"] == pytest.approx(-20.0, abs=0.1)
    # a speaks for 4 s and b for 3 s: 10 lg(4/3 / 0.01) and 10 lg(3/4 / 0.01)
    assert found["si_sdr_db"] == pytest.approx(20.0, abs=0.1)


def test_voices_that_change_places(tmp_path: Path) -> None:
    found = scored(tmp_path, Part(exchange=True))
    assert found["speaker_swaps"] == 1 and found["speaker_confusion"] == pytest.approx(0.0)  # the turns are right


def test_without_true_voices_the_mix_is_the_partner(tmp_path: Path) -> None:
    store, truth = made(tmp_path, Part(leak=0.1))
    found = score(store, replace(TRUTH, voices={}), truth.parent)
    assert found["bleed_db"] == pytest.approx(-20.0, abs=0.1) and found["speaker_swaps"] == 0
    assert found["si_sdr_db"] is None and found["si_sdr_improvement_overlap_db"] is None


def test_swaps_are_lasting_changes() -> None:
    assert swaps(np.ones(50)) == swaps(-np.ones(50)) == 0  # exchanged throughout is confusion, not a swap
    assert swaps(np.repeat([1.0, -1.0], 10)) == 1
    assert swaps(np.repeat([1.0, -1.0, 1.0], 10)) == 2
    assert swaps(np.repeat([1.0, -1.0, 1.0], [10, 2, 10])) == 0  # a backchannel in the wrong track
    assert swaps(np.zeros(9)) == 0


def test_places_follow_the_voices_and_not_their_level() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 8 * 6400)).astype(np.float32) * 0.1
    own = places([0.2 * first, 3 * second + 0.1 * first], [first, second])
    assert own.sum() == pytest.approx(8 * 0.4) and (own > 0).all()
    assert (places([second, first], [first, second]) < 0).all()
    assert not places([first + second, first + second], [first, second]).any()  # undecided
    assert not places([np.zeros_like(first)] * 2, [first, second]).any()  # neither


def test_gain_in_overlap_looks_nowhere_else() -> None:
    rng = np.random.default_rng(0)
    true, other = rng.normal(size=(2, 50 * 640))
    both = np.repeat([0.0, 1.0, 0.0], [20, 20, 10])
    inside = np.repeat(both > 0, 640)
    mix = true + other
    estimate = np.where(inside, true + 0.1 * other, other)
    assert gained_in_overlap(true, estimate, mix, both) == pytest.approx(20.0, abs=0.2)
    assert gained_in_overlap(true, np.zeros_like(true), mix, both) == -30.0
    assert gained_in_overlap(true, estimate, mix, np.repeat([0.0, 1.0, 0.0], [20, 5, 25])) is None  # too short


def test_nothing_where_the_truth_says_nothing(tmp_path: Path) -> None:
    store, truth = made(tmp_path)
    bare = Truth(media="talk.mp4", duration=9.5, layout="cuts", people=("a", "b"))
    found = score(store, bare, truth.parent)
    nothing = ("face_recall", "identity_switches", "der", "speaker_confusion", "abstain_rate", "si_sdr_db", "bleed_db")
    assert all(found[name] is None for name in nothing) and found["cut_recall"] is None and found["cut_precision"] == 0.0


def test_command(tmp_path: Path) -> None:
    store, truth = made(tmp_path)
    runner = CliRunner()
    result = runner.invoke(build(), ["score", store.root, "--truth", str(truth), "--json", "--write"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert list(found) == [
        *("cut_precision", "cut_recall", "cut_error_s_p95", "face_recall", "identity_switches", "face_iou_mean"),
        *("der", "speaker_confusion", "abstain_rate"),
        *("si_sdr_db", "si_sdr_improvement_db", "si_sdr_improvement_overlap_db", "bleed_db", "speaker_swaps"),
        *("av_offset_s", "av_offset_frames", "kept_hours", "dropped"),
    ]
    assert json.loads((Path(store.root) / "score.json").read_text()) == found
    with pytest.raises(UsageError, match="no source 'other'"):
        score(store, TRUTH, truth.parent, "other")
    with pytest.raises(UsageError, match="has no ledger"):
        score(Store(tmp_path / "empty"), TRUTH, truth.parent)
    (truth.parent / "a.wav").unlink()
    with pytest.raises(UsageError, match="not there"):
        score(store, TRUTH, truth.parent)


def test_sound_against_picture_is_measured_on_what_was_written(tmp_path: Path) -> None:
    """A source at 30 fps that starts at 1.5 s; its clip as it should be, and with the sound 120 ms late."""
    media = make_media(
        tmp_path / "talk.mp4", duration=5.0, times=times_cfr(5.0, 30), events=(1.1, 2.7, 3.9), start=1.5, audio_rate=48000
    )
    stage = Normalize()
    store, scratch = Store(tmp_path / "store"), tmp_path / "scratch"
    scratch.mkdir()
    stored = store.put(media.path, "talk.mp4")
    clip = Clip(
        id="talk",
        source=Source(id="talk", url="http://127.0.0.1/talk.mp4"),
        span=Span(START, START + Fraction(24, 5)),
        shots=(Span(Fraction(0), Fraction(24, 5)),),
        assets={Key.MEDIA: stored},
    )
    files = Files(store, "out", scratch)
    done = next(stage.process(clip, files))
    assert isinstance(done, Clip)
    video, mix = files.path(done, Key.VIDEO), files.path(done, Key.MIX)
    meter = SyncMeter(store.local("talk.mp4"), None)
    right = meter.offset_s(done, video, mix)
    assert right is not None and abs(right) <= 0.02
    late = np.concatenate([np.zeros(int(0.12 * SAMPLE_RATE), np.float32), read_audio(mix)])[: len(read_audio(mix))]
    write_audio(tmp_path / "late.flac", late)
    assert meter.offset_s(done, video, tmp_path / "late.flac") == pytest.approx(right + 0.12, abs=0.004)
