"""Voice activity, lip motion, the decoder, turns, voices and bleed, each against known answers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dyconv.models import registry
from dyconv.models.lip_motion import LipMotion, canonical
from dyconv.models.silero import WINDOW, windows_to_frames
from dyconv.models.slots import FaceTrack
from dyconv.models.turn_gate import TurnGate
from dyconv.records import Turn
from dyconv.speech.attribute import TurnRules, attribute
from dyconv.speech.bleed import FLOOR_DB, bleed_db
from dyconv.speech.decode import Evidence, TurnModel
from dyconv.speech.enrol import enrolment
from dyconv.speech.heard import fit, learn_shares, own_voice
from dyconv.speech.lips import read_lips
from dyconv.speech.overlap import gate
from dyconv.speech.turns import activity, close_gaps, drop_short, runs, speaker_changes
from dyconv.speech.voice import compare_voices, voice_features
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, Span
from tests.speech_scenes import Speech, face_points, opening_of, telephone

masks = arrays(bool, st.integers(1, 60))


@pytest.fixture(scope="module")
def talk() -> Speech:
    return telephone()


def evidence(speech: np.ndarray, *lips: np.ndarray | float) -> Evidence:
    rows = np.stack([np.broadcast_to(np.asarray(row, float), speech.shape) for row in lips])
    return Evidence(speech, rows, np.zeros_like(rows), np.ones(rows.shape, bool), np.zeros(len(speech)))


class TestVoiceActivity:
    def test_finds_the_reference_speech(self, talk: Speech) -> None:
        found = registry.load("silero").speech(talk.samples) >= 0.5
        reference = talk.spoken["a"] | talk.spoken["b"]
        assert len(found) == talk.frames
        assert (found != reference).mean() < 0.04

    def test_is_the_packaged_model(self, talk: Speech) -> None:
        import torch
        from silero_vad import load_silero_vad

        model = load_silero_vad()
        part = talk.samples[7 * SAMPLE_RATE : 7 * SAMPLE_RATE + 40 * WINDOW]
        with torch.no_grad():
            streamed = [float(model(torch.from_numpy(part[i : i + WINDOW]), SAMPLE_RATE)) for i in range(0, len(part), WINDOW)]
        ours = registry.load("silero")._windows(part)
        assert np.allclose(ours, streamed, atol=1e-4)

    def test_silence_and_nothing(self) -> None:
        vad = registry.load("silero")
        assert vad.speech(np.zeros(SAMPLE_RATE, np.float32)).max() < 0.1
        assert vad.speech(np.zeros(0, np.float32)).shape == (0,)
        assert vad.speech(np.zeros(641, np.float32)).shape == (2,)

    def test_windows_to_frames_is_a_mean_over_each_frame(self) -> None:
        # Frame 0 holds window 0 (512 samples) and a quarter of window 1's 512; frame 3 ends with the last window.
        frames = windows_to_frames(np.array([1.0, 0.0, 0.0, 0.0, 1.0]), 4)
        assert np.allclose(frames, [512 / 640, 0, 0, 512 / 640])


class TestLipMotion:
    def test_a_rigid_head_does_not_speak(self) -> None:
        """Nodding, turning and size leave the canonical shape as it is."""
        points = face_points(np.full(100, 0.02), 3, noise_px=0.0)
        points *= np.linspace(1.0, 1.6, 100, dtype=np.float32)[:, None, None]
        shape, misfit = canonical(points, np.ones(100, bool))
        assert np.ptp(shape, axis=0).max() < 1e-3
        assert misfit.max() < 1e-3

    def test_tells_speaker_from_listener(self, talk: Speech) -> None:
        speech = registry.load("silero").speech(talk.samples)
        present = np.ones(talk.frames, bool)
        alone = talk.spoken["b"] & ~talk.spoken["a"]
        for name, sign in (("b", 1), ("a", -1)):
            opening = opening_of(talk.samples, talk.spoken[name])
            odds = LipMotion().score(FaceTrack(face_points(opening, 1), present), talk.samples, speech)
            assert (sign * odds[alone] > 0).mean() > 0.85

    def test_absent_and_short_tracks_say_nothing(self, talk: Speech) -> None:
        points = face_points(np.full(50, 0.02), 3)
        speech = np.ones(50, np.float32)
        present = np.zeros(50, bool)
        assert not LipMotion().score(FaceTrack(points, present), talk.samples[: 50 * 640], speech).any()
        present[:30] = True
        odds = LipMotion().score(FaceTrack(points, present), talk.samples[: 50 * 640], speech)
        assert odds.dtype == np.float32 and odds[:30].any() and not odds[30:].any()

    def test_still_lips_of_a_profile_say_nothing(self, talk: Speech) -> None:
        speech = np.ones(100, np.float32)
        args = talk.samples[: 100 * 640], speech
        ahead, aside = (FaceTrack(face_points(np.full(100, 0.02), 3, yaw=yaw), np.ones(100, bool)) for yaw in (0.0, 1.25))
        assert LipMotion().score(ahead, *args).max() < -2
        assert not LipMotion().score(aside, *args).any()


class TestDecoder:
    def test_follows_clear_evidence(self) -> None:
        speech = np.r_[np.zeros(25), np.ones(150), np.zeros(25)]
        lips = np.r_[np.zeros(25), np.full(75, 3.0), np.full(75, -3.0), np.zeros(25)]
        turns = TurnRules().turns(attribute(evidence(speech, lips, -lips), (), TurnModel()))
        assert [turn.person for turn in turns] == ["p0", "p1"]
        edges = [frame for turn in turns for frame in (turn.span.frames.start, turn.span.frames.stop)]
        assert np.abs(np.array(edges) - [25, 100, 100, 175]).max() <= 2
        assert min(turn.confidence for turn in turns) > 0.95

    def test_overlap_when_both_lips_move(self) -> None:
        decoding = TurnModel().decode(evidence(np.ones(100), 3.0, 3.0))
        assert decoding.persons[:, 10:-10].min() > 0.9

    def test_still_lips_are_somebody_elses_speech(self) -> None:
        found = attribute(evidence(np.ones(100), -3.0, -3.0), (), TurnModel())
        assert found.decoding.other[10:-10].min() > 0.9
        (turn,) = TurnRules().turns(found)
        assert turn.person is None and not turn.unsure

    def test_useless_lips_are_undecided(self) -> None:
        (turn,) = TurnRules().turns(attribute(evidence(np.ones(100), 0.0, 0.0), (), TurnModel()))
        assert turn.person is None and turn.unsure and turn.confidence < 0.8

    def test_somebody_unseen_speaks_while_the_seen_is_still(self) -> None:
        known = evidence(np.ones(100), -3.0, 0.0)
        known.seen[1] = False
        assert TurnModel().decode(known).persons[1].min() > 0.8

    @given(arrays(float, (3, 40), elements=st.floats(-4, 4)), arrays(float, 40, elements=st.floats(0, 1)))
    def test_posteriors_are_probabilities_and_turns_are_sound(self, lips: np.ndarray, speech: np.ndarray) -> None:
        three = TurnModel().decode(evidence(speech, *lips))
        assert np.isfinite(three.persons).all() and three.persons.min() >= 0 and three.persons.max() <= 1
        turns = TurnRules().turns(attribute(evidence(speech, *lips[:2]), (), TurnModel()))
        assert turns == sorted(turns, key=lambda turn: turn.span)
        for turn in turns:
            assert 0 <= turn.span.start < turn.span.end <= len(speech) / FPS
            assert 0 <= turn.confidence <= 1
        for person in ("p0", "p1", None):
            own = [turn.span for turn in turns if turn.person == person]
            assert all(first.end <= second.start for first, second in itertools.pairwise(own))
        spoken = activity(turns, len(speech)).any(axis=0)
        for turn in turns:
            if turn.person is None:
                assert not spoken[turn.span.frames.start : turn.span.frames.stop].any()


class TestHeard:
    """Whose a heard voice is: 400 frames, in which two people take turns of a second."""

    first = (np.arange(400) // 25) % 2 == 0
    alone = np.stack([first, ~first]).astype(float)
    speech, nobody = np.ones(400), np.zeros(400)

    def test_a_person_split_over_two_voices_has_both(self) -> None:
        early = np.arange(400) < 200
        heard = np.stack([self.first & early, self.first & ~early, ~self.first]).astype(float)
        shares = learn_shares(heard, self.speech, self.alone, self.nobody)
        assert shares[:2, 0].min() > 0.35 and shares[2, 1] > 0.8
        likely = fit(heard, shares, ((), (0,), (1,), ()))
        assert (likely[self.first, 1] > likely[self.first, 2]).all() and (likely[~self.first, 2] > likely[~self.first, 1]).all()
        assert own_voice(shares, 0.3) in ([0, 2], [1, 2])

    def test_a_voice_of_everybody_says_nothing(self) -> None:
        heard = np.ones((1, 400))
        likely = fit(heard, learn_shares(heard, self.speech, self.alone, self.nobody), ((), (0,), (1,), ()))
        assert np.allclose(likely[:, 1], likely[:, 2])
        assert own_voice(learn_shares(heard, self.speech, self.alone, self.nobody)) is None

    def test_two_at_once_are_an_overlap(self) -> None:
        heard = np.ones((2, 400)) * 0.95
        shares = learn_shares(self.alone, self.speech, self.alone, self.nobody)
        likely = fit(heard, shares, ((), (0,), (1,), (0, 1), ()))
        assert (likely.argmax(axis=1) == 3).all()

    def test_voices_take_their_faces_along(self) -> None:
        """Lips are known for a quarter of the time; a third voice is of nobody on screen."""
        third = np.arange(400) >= 350
        heard = np.stack([self.first & ~third, ~self.first & ~third, third]).astype(float)
        lips = np.where(self.first, 3.0, -3.0) * (np.arange(400) < 100)
        known = replace(evidence(self.speech, lips, -lips), heard=heard)
        known.lips[:, 350:] = -3.0
        known.seen[:, 100:350] = False
        found = attribute(known, (), TurnModel())
        assert ((found.decoding.persons[0] > 0.5) == self.first)[100:350].mean() > 0.9
        assert found.decoding.other[360:].min() > 0.8
        assert own_voice(found.shares, 0.5) == [0, 1]


class TestLips:
    def test_a_face_is_read_by_its_own_scale(self) -> None:
        """One face scores 2 higher throughout; one scores the same whoever speaks, and says nothing."""
        speaks = np.stack([TestHeard.first, ~TestHeard.first]).astype(float)
        noise = np.random.default_rng(0).normal(0, 1, (2, 400))
        scores = np.stack([np.where(speaks[0], 4.0, 0.5), np.full(400, 2.0)]) + noise
        read = read_lips(scores, np.ones((2, 400), bool), np.ones(400), speaks)
        assert (np.sign(read[0]) == np.where(speaks[0], 1, -1)).mean() > 0.9
        assert np.abs(read[1].mean()) < 0.8 and np.ptp(read[1]) < 0.5 * np.ptp(read[0])

    def test_unseen_is_unknown(self) -> None:
        seen = np.stack([TestHeard.first, TestHeard.first])
        read = read_lips(np.full((2, 400), 3.0), seen, np.ones(400), np.full((2, 400), 0.5))
        assert not read[~seen].any()


class TestEnrolment:
    def test_longest_stretches_in_order_of_time(self) -> None:
        samples = np.repeat(np.arange(1, 1501), SAMPLES_PER_FRAME).astype(np.float32) / 1500
        alone = np.zeros((2, 1500))
        alone[0, 100:500] = alone[0, 700:720] = alone[0, 1000:1300] = 1.0
        alone[1, 0:12] = 0.95
        voices = enrolment(samples, alone)
        assert voices.shape == (2, 24 * SAMPLE_RATE) and not voices[1].any()
        frames = np.rint(voices[0].reshape(-1, SAMPLES_PER_FRAME)[:, 320] * 1500).astype(int) - 1
        assert (np.diff(frames) > 0).all() and set(frames) <= {*range(102, 498), *range(1002, 1298)}

    def test_nobody(self) -> None:
        assert enrolment(np.zeros(640 * 50, np.float32), np.zeros((2, 50))).shape == (2, 0)


class TestVoices:
    def test_a_voice_once_seen_is_known_off_screen(self, talk: Speech) -> None:
        """Lips are known for the first 24 s only; the rest is told by voice."""
        speech = registry.load("silero").speech(talk.samples)
        lips = np.stack([np.where(talk.spoken[name], 3.0, -3.0) for name in "ab"])
        lips[:, 24 * FPS :] = 0.0
        found = attribute(evidence(speech, *lips), [voice_features(talk.samples, talk.frames)], TurnModel())
        late = np.arange(talk.frames) >= 24 * FPS
        assert found.voices.separation > 1.5
        for person, (name, partner) in enumerate(("ab", "ba")):
            alone = talk.spoken[name] & ~talk.spoken[partner] & late
            assert (found.decoding.persons[person][alone] > 0.5).mean() > 0.8

    def test_one_voice_under_two_names_is_not_told_apart(self, talk: Speech) -> None:
        features = voice_features(talk.samples, talk.frames)
        own = np.flatnonzero(talk.spoken["b"] & ~talk.spoken["a"])
        first, second = np.zeros(talk.frames, bool), np.zeros(talk.frames, bool)
        first[own[: len(own) // 2]] = True
        second[own[len(own) // 2 :]] = True
        other = talk.spoken["a"] & ~talk.spoken["b"]
        same, two = compare_voices(features, first, second), compare_voices(features, talk.spoken["b"] & ~other, other)
        assert same.separation < 1.5 < two.separation

    def test_too_little_speech_is_no_evidence(self, talk: Speech) -> None:
        features = voice_features(talk.samples, talk.frames)
        few = np.zeros(talk.frames, bool)
        few[200:210] = True
        found = compare_voices(features, talk.spoken["b"], few)
        assert found.separation == 0.0 and not found.odds.any()

    def test_vectors_of_two_voices_lie_apart_and_those_of_both_at_once_between(self) -> None:
        random = np.random.default_rng(5)
        ours, theirs = random.normal(size=(2, 128))
        first, second, both = (np.arange(600) // 25 % 3 == kind for kind in range(3))
        place = np.where(first, 1.0, np.where(second, 0.0, 0.5))[:, None]
        vectors = place * ours + (1 - place) * theirs + random.normal(size=(600, 128))
        found = compare_voices(vectors, first, second)
        assert found.separation > 5
        assert (found.odds[first] > 0).mean() > 0.99 and (found.odds[second] < 0).mean() > 0.99
        solo = np.abs(found.odds) / 2
        assert (found.together[both] > solo[both]).mean() > 0.9 and (found.together[~both] < solo[~both]).mean() > 0.9

    def test_vectors_of_one_voice_do_not_lie_apart(self) -> None:
        vectors = np.random.default_rng(6).normal(size=(600, 128))
        half = np.arange(600) // 25 % 2 == 0
        assert compare_voices(vectors, half, ~half).separation < 1.0


class TestTurns:
    @given(masks)
    def test_runs_cover_what_is_true(self, mask: np.ndarray) -> None:
        again = np.zeros_like(mask)
        for start, end in runs(mask):
            assert start < end
            again[start:end] = True
        assert (again == mask).all()

    @given(masks, st.integers(0, 6))
    def test_gaps_and_short_runs(self, mask: np.ndarray, frames: int) -> None:
        closed, kept = close_gaps(mask, frames), drop_short(mask, frames)
        assert (closed | ~mask).all() and (mask | ~kept).all()
        assert all(end - start >= frames for start, end in runs(kept))
        assert all(end - start > frames for start, end in runs(~closed) if start > 0 and end < len(mask))


class TestGate:
    @given(arrays(bool, (2, 20)), st.integers(0, 2**31))
    def test_samples_are_the_mix_or_nothing_beyond_the_fades(self, active: np.ndarray, seed: int) -> None:
        mix = np.random.default_rng(seed).uniform(-1, 1, 20 * SAMPLES_PER_FRAME).astype(np.float32)
        voices = TurnGate().separate(mix, active.astype(np.float32))
        fade = SAMPLE_RATE * 20 // 1000
        for own, other, voice in zip(active, active[::-1], voices, strict=True):
            near = np.zeros(len(mix), bool)
            for edge in np.flatnonzero(np.diff(own.astype(int))) + 1:
                near[edge * SAMPLES_PER_FRAME - fade : edge * SAMPLES_PER_FRAME + fade] = True
            inside = np.repeat(own, SAMPLES_PER_FRAME)
            assert (voice[inside & ~near] == mix[inside & ~near]).all()
            assert not voice[~inside & ~near].any()
            assert not voice[~inside & np.repeat(other, SAMPLES_PER_FRAME)].any()  # nothing of the partner alone

    def test_onset_into_silence_is_whole(self) -> None:
        own = np.array([False, True, True, False])
        gain = gate(own, np.zeros(4, bool), 4 * SAMPLES_PER_FRAME)
        assert (gain[SAMPLES_PER_FRAME : 3 * SAMPLES_PER_FRAME] == 1).all()
        assert 0 < gain[SAMPLES_PER_FRAME - 1] < 1 and gain[0] == gain[-1] == 0
        assert np.abs(np.diff(gain)).max() < 0.01  # no click

    def test_overlap_is_the_mix_in_both(self) -> None:
        mix = np.random.default_rng(0).uniform(-1, 1, 4 * SAMPLES_PER_FRAME).astype(np.float32)
        voices = TurnGate().separate(mix, np.ones((2, 4), np.float32))
        assert (voices == mix).all() and "overlap" in TurnGate.method


class TestBleed:
    @pytest.mark.parametrize("leak_db", [-20.0, -6.0, 0.0])
    def test_a_made_leak_is_measured(self, leak_db: float) -> None:
        random = np.random.default_rng(1)
        first, second = random.normal(0, 0.1, (2, 50 * SAMPLES_PER_FRAME)).astype(np.float32)
        only = np.arange(50) >= 25
        first[25 * SAMPLES_PER_FRAME :] = 0.0
        track = first + second * np.float32(10 ** (leak_db / 20))
        assert bleed_db(track, second, only) == pytest.approx(leak_db, abs=0.5)

    def test_doubt_counts_by_its_probability(self) -> None:
        """The person's own second, doubted by 1 %, against a second that is surely the partner's, equally loud."""
        loud = np.full(25 * SAMPLES_PER_FRAME, 0.1, np.float32)
        quiet = np.zeros_like(loud)
        chance = np.r_[np.full(25, 0.01), np.ones(25)]
        found = bleed_db(np.r_[loud, quiet], np.r_[quiet, loud], chance)
        assert found == pytest.approx(-20.0, abs=0.01)

    def test_nothing_to_measure(self) -> None:
        silence = np.zeros(10 * SAMPLES_PER_FRAME, np.float32)
        assert bleed_db(silence, silence, np.ones(10)) is None
        assert bleed_db(silence, silence + 0.1, np.zeros(10)) is None
        assert bleed_db(silence, silence + 0.1, np.ones(10)) == FLOOR_DB


def test_lip_motion_on_real_heads(real_data: Path) -> None:
    """One labelled pair of real face crops: the one who speaks and one who is silent while others speak."""
    media = pytest.importorskip("av")
    if not all(registry.missing(registry.get(name)) == [] for name in ("mediapipe_face", "mediapipe_mesh")):
        pytest.skip("mesh weights are not on this machine")
    detector, mesh, vad = (registry.load(name) for name in ("mediapipe_face", "mediapipe_mesh", "silero"))
    medians = {}
    for label, name in (("speaks", "msdwild__speaking_mp4s__4.mp4"), ("silent", "msdwild__0.mp4")):
        path = real_data / "heads" / name
        if not path.is_file():
            pytest.skip(f"{name} is not in {real_data}")
        with media.open(str(path)) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        with media.open(str(path)) as container:
            resampler = media.AudioResampler("flt", "mono", SAMPLE_RATE)
            parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        samples = np.concatenate(parts)[: len(images) * SAMPLES_PER_FRAME]
        samples = np.pad(samples, (0, len(images) * SAMPLES_PER_FRAME - len(samples)))
        face = detector.detect(images[0])[0]
        points = np.stack([mesh.landmarks(image, face.box, face.keypoints)[0] for image in images])
        speech = vad.speech(samples)
        odds = LipMotion().score(FaceTrack(points, np.ones(len(images), bool)), samples, speech)
        medians[label] = float(np.median(odds[speech >= 0.5]))
    assert medians["speaks"] > 1.0 > -1.0 > medians["silent"]


def test_speaker_changes_know_the_answer() -> None:
    order = ["p0", "p0", None, "p1", "p0", "p1", "p1"]
    turns = [Turn(person, Span.of(start, start + 1), 1.0) for start, person in enumerate(order)]
    assert speaker_changes(turns) == speaker_changes(turns[::-1]) == 3
    assert speaker_changes(turns[:3]) == speaker_changes([]) == 0
