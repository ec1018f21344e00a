"""Inside `target_tasnet`: nobody is preferred, it begins with what spectra say, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dyconv.models.target_tasnet_hints import HOP, SEEN, Hints, analyse, at_unit_level, columns, hints, known, synthesise
from dyconv.models.target_tasnet_net import Corrector, Shape
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.separation.compose import FRAMES, Composer
from training.separation.lessons import lesson
from training.separation.train import Learner, first_voice, follow, given, improvement_db, noise_db
from training.separation.voices import Voice

SMALL = Shape(fine=4, middle=6, coarse=6, recurrent=12, depth=1)


def buzz(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """A tone with harmonics that comes in syllables, int16."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.06 * np.sin(2 * np.pi * random.uniform(0.4, 0.9) * time))) / SAMPLE_RATE
    tones = sum(np.sin(k * phase) / k for k in range(1, 20))
    return np.rint(6000 * np.asarray(tones) * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time + seed))).astype(np.int16)


@pytest.fixture(scope="module")
def voices() -> list[Voice]:
    return [Voice(f"ocean/{seed}", buzz(pitch, 14.0, seed), "") for seed, pitch in enumerate((105.0, 160.0, 215.0))]


@pytest.fixture(scope="module")
def told(voices: list[Voice]) -> Hints:
    return _told(voices, exchanged=False)


def _told(voices: list[Voice], *, exchanged: bool) -> Hints:
    item = Composer(voices, 4, plain=True).draw((0, 2))
    order = [1, 0] if exchanged else [0, 1]
    alone = (item.activity * (1 - item.activity[::-1]))[order]
    first, second = (known(torch.from_numpy(item.enrolment[person])) for person in order)
    return hints(
        at_unit_level(torch.from_numpy(item.voices.sum(axis=0))), (first, second), columns(torch.from_numpy(alone.copy()))
    )


class TestHints:
    def test_the_other_order_is_the_same_with_signs_changed(self, voices: list[Voice], told: Hints) -> None:
        for found, expected in zip(_told(voices, exchanged=True), told.exchanged(), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-3)

    def test_odds_favour_who_speaks_alone(self, voices: list[Voice], told: Hints) -> None:
        turn, loud = told.features[2, 0], told.features[5] > told.features[5].median()
        assert (turn.abs() == 1).sum() > 10
        assert float((told.odds[:SEEN] * turn)[loud & (turn.abs() == 1)].mean()) > 0.5

    @pytest.mark.parametrize("pitch", [105.0, 160.0, 215.0])
    def test_pitch_is_found(self, pitch: float) -> None:
        found = known(torch.from_numpy(buzz(pitch, 3.0, 5).astype(np.float32))).pitch
        expected = np.log(pitch / 65.0) / np.log(400.0 / 65.0) * len(found) - 0.5
        assert abs(int(found.argmax()) - expected) < 1.5 and float(found.sum()) == pytest.approx(1.0, abs=0.01)

    def test_spectrum_and_back(self) -> None:
        samples = torch.from_numpy(buzz(150.0, 2.56, 1).astype(np.float32))
        spectrum = analyse(samples)
        assert spectrum.shape == (321, len(samples) // HOP + 1)
        np.testing.assert_allclose(synthesise(spectrum, len(samples)), samples, atol=0.05)


class TestCorrector:
    def test_it_begins_with_what_the_spectra_say(self, told: Hints) -> None:
        net = Corrector(SMALL).eval()
        with torch.inference_mode():
            np.testing.assert_allclose(net.mask(told).real, torch.sigmoid(told.odds / 0.7), atol=1e-5)

    def test_masks_of_the_two_sum_to_one_in_either_order(self, told: Hints) -> None:
        net = Corrector(SMALL).eval()
        torch.nn.init.normal_(net.out.weight)
        with torch.inference_mode():
            first, second = net.mask(told), net.mask(told.exchanged())
        assert float((first - torch.sigmoid(told.odds / 0.7)).abs().mean()) > 0.01
        np.testing.assert_allclose(first + second, torch.ones_like(first), atol=1e-5)

    def test_any_length_goes_through(self, told: Hints) -> None:
        net = Corrector(SMALL).eval()
        for count in (1, 2, 7, 129):
            part = Hints(told.features[..., :count], told.odds[:, :count], told.pitch)
            assert net.mask(part).shape == (321, count)


class TestLessons:
    def test_enrolment_comes_from_elsewhere(self) -> None:
        """Also of a voice that is hardly longer than an excerpt: the two together are never longer than the voice."""
        for seconds in (5.2, 11.0, 40.0):
            short = [Voice(f"ocean/{at}", buzz(100.0 + 50 * at, seconds, at), "") for at in range(2)]
            for seed in range(4):
                item = Composer(short, seed, plain=True, enrol_s=(8.0, 24.0)).draw()
                for person in range(2):
                    assert SAMPLE_RATE <= len(item.enrolment[person]) <= 24 * SAMPLE_RATE
                    assert len(item.enrolment[person]) + FRAMES * SAMPLES_PER_FRAME <= len(short[0].samples)

    def test_a_network_learns(self, voices: list[Voice]) -> None:
        torch.manual_seed(1)
        composer = Composer(voices, 2, enrol_s=(1.0, 2.0))
        lessons = [found for found in (lesson(composer.draw()) for _ in range(9)) if found is not None][:4]
        told, sounds, both = given(lessons, [False, True, False, True])
        net, mean = Corrector(SMALL), Corrector(SMALL)
        learner = Learner(net)
        losses = []
        for _ in range(20):
            loss = noise_db(first_voice(net, told, sounds[:, 0]), sounds, both).mean()

            learner.step(loss, 1e-2)
            follow(mean, net, 0.5)
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.5
        better = improvement_db(first_voice(mean.eval(), told, sounds[:, 0]), sounds, both)
        assert float(better.mean()) > 3.0

    def test_perfect_voices_have_no_noise(self, voices: list[Voice]) -> None:
        item = lesson(Composer(voices, 3, plain=True).draw())
        assert item is not None
        _, sounds, both = given([item], [True])
        assert float(noise_db(sounds[:, 1], sounds, both).max()) < -29.0
        assert float(noise_db(sounds[:, 0] / 2, sounds, both).min()) > -15.0
        assert float(improvement_db(sounds[:, 1], sounds, both).min()) > 20.0
