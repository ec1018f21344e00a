"""Separation in overlaps: exact copies around them, no exchange of people, and what is not known stays the mix."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyconv.errors import ModelMissing
from dyconv.models import hub_separators, registry
from dyconv.models.pyannote_separation import PyannoteSeparation
from dyconv.models.speechbrain_separation import SpeechBrainSepformer
from dyconv.models.target_tasnet import TargetTasnet
from dyconv.score_metrics import si_sdr_db
from dyconv.speech.assign import levelled, own_sources
from dyconv.speech.overlap import CONTEXT, FADE, LONGEST, Piece, pieces, two_voices
from dyconv.speech.remix import estimated_si_sdr_db, exams
from dyconv.time import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, frame_samples


def harmonics(pitch: float, seconds: float, seed: int) -> np.ndarray:
    """A buzz with its own formants and syllables: no speech, but a voice to tell from another one."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    glide = pitch * (1 + 0.05 * np.sin(2 * np.pi * random.uniform(0.4, 0.9) * time + random.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(glide) / SAMPLE_RATE
    tones = sum(np.sin(k * phase) * np.exp(-(((k * pitch - 600 - 9 * pitch) / 900) ** 2)) for k in range(1, 24))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * random.uniform(2.5, 4.5) * time + random.uniform(0, 6))
    return (0.1 * tones * syllables).astype(np.float32)


def turns(frames: int, *spans: tuple[int, int, int]) -> np.ndarray:
    """Activity float32 [2, frames] of (person, start, end)."""
    out = np.zeros((2, frames), np.float32)
    for person, start, end in spans:
        out[person, start:end] = 1.0
    return out


def spoken(activity: np.ndarray) -> np.ndarray:
    """Two buzzes [2, N], silent where their owners are."""
    seconds = activity.shape[1] / FPS
    voices = np.stack([harmonics(110.0, seconds, 1), harmonics(230.0, seconds, 2)])
    return voices * np.repeat(activity, SAMPLES_PER_FRAME, axis=1)


def perfect(voices: np.ndarray, seen: list[Piece] | None = None) -> Any:
    """A separator of pieces that knows the truth."""

    def separate(piece: Piece, part: np.ndarray, active: np.ndarray) -> np.ndarray:
        if seen is not None:
            seen.append(piece)
        return voices[:, frame_samples(piece.start) : frame_samples(piece.stop)]

    return separate


TALK = turns(150, (0, 5, 60), (1, 50, 110), (0, 80, 90), (0, 120, 140))


class TestComposition:
    def test_what_one_says_alone_is_an_exact_copy(self) -> None:
        voices = spoken(TALK)
        mix = voices.sum(axis=0)
        found = two_voices(mix, TALK, perfect(voices))
        for person in range(2):
            alone = np.repeat((TALK[person] == 1) & (TALK[1 - person] == 0), SAMPLES_PER_FRAME)
            assert (found[person][alone] == mix[alone]).all()
            assert not found[1 - person][alone].any()

    def test_perfect_pieces_give_perfect_voices(self) -> None:
        voices = spoken(TALK)
        found = two_voices(voices.sum(axis=0), TALK, perfect(voices))
        edges = np.zeros(voices.shape[1], bool)
        for frame in np.flatnonzero(np.abs(np.diff(TALK, axis=1)).any(axis=0)) + 1:
            edges[frame_samples(frame) - FADE : frame_samples(frame) + FADE] = True
        np.testing.assert_allclose(found[:, ~edges], voices[:, ~edges], atol=1e-6)

    def test_where_pieces_sum_to_the_mix_so_do_the_voices(self) -> None:
        voices = spoken(TALK)
        mix = voices.sum(axis=0) + 0.01 * np.random.default_rng(0).standard_normal(voices.shape[1]).astype(np.float32)
        found = two_voices(mix, TALK, lambda piece, part, active: np.stack([0.3 * part, 0.7 * part]))
        inside = slice(frame_samples(5), frame_samples(110))
        assert np.abs(found.sum(axis=0)[inside] - mix[inside]).max() < 1 / 32768

    def test_a_long_overlap_comes_in_pieces_of_bounded_length(self) -> None:
        activity = turns(1000, (0, 0, 900), (1, 100, 1000))
        voices, seen = spoken(activity), list[Piece]()
        found = two_voices(voices.sum(axis=0), activity, perfect(voices, seen))
        assert len(seen) == 8 and max(piece.stop - piece.start for piece in seen) <= LONGEST + 2 * CONTEXT + 10
        inside = slice(frame_samples(101), frame_samples(899))
        np.testing.assert_allclose(found[:, inside], voices[:, inside], atol=1e-6)

    def test_overlaps_near_each_other_share_a_piece(self) -> None:
        both = np.zeros(300, bool)
        both[40:50] = both[60:75] = both[200:210] = True
        assert [(piece.start, piece.stop) for piece in pieces(both)] == [(14, 101), (174, 236)]

    def test_unknown_stays_the_mix(self) -> None:
        voices = spoken(TALK)
        mix = voices.sum(axis=0)
        found = two_voices(mix, TALK, lambda piece, part, active: None)
        inside = slice(frame_samples(51), frame_samples(59))
        assert (found[:, inside] == mix[inside]).all()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small network that has learnt nothing: it still knows spectra heard in enrolments."""
    import torch
    from safetensors.torch import save_file

    from dyconv.models.target_tasnet_net import Corrector, Shape

    torch.manual_seed(0)
    shape = Shape(fine=4, middle=4, coarse=4, recurrent=8, depth=1)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(Corrector(shape).state_dict(), path, metadata={"shape": json.dumps(shape.to_json())})
    return path


class TestTargetTasnet:
    def test_enrolment_says_whose_voice_is_whose(self, untrained: Path) -> None:
        voices = spoken(turns(100, (0, 0, 100), (1, 0, 100)))  # nobody is ever alone
        mix, activity = voices.sum(axis=0), np.ones((2, 100), np.float32)
        known = [harmonics(110.0, 5.0, 7), harmonics(230.0, 5.0, 8)]
        found = TargetTasnet(untrained).separate(mix, activity, known)
        for person in range(2):
            own, others = (si_sdr_db(voices[p], found[person]) for p in (person, 1 - person))
            assert own is not None and others is not None and own > 5.0 > others

    def test_nobody_gains_by_being_called_p0(self, untrained: Path) -> None:
        voices = spoken(TALK)
        mix, model = voices.sum(axis=0), TargetTasnet(untrained)
        known = [harmonics(110.0, 3.0, 7), harmonics(230.0, 2.0, 8)]
        found = model.separate(mix, TALK, known)
        exchanged = model.separate(mix, TALK[::-1], known[::-1])
        np.testing.assert_allclose(found, exchanged[::-1], atol=1e-5)

    def test_speech_alone_in_the_mix_stands_for_an_enrolment(self, untrained: Path) -> None:
        voices = spoken(TALK)
        found = TargetTasnet(untrained).separate(voices.sum(axis=0), TALK)
        inside = slice(frame_samples(51), frame_samples(59))
        assert (si_sdr_db(voices[0, inside], found[0, inside]) or 0.0) > 5.0

    def test_with_nothing_known_of_either_both_are_the_mix(self, untrained: Path) -> None:
        voices = spoken(turns(50, (0, 0, 50), (1, 0, 50)))
        mix = voices.sum(axis=0)
        for nothing in (mix[:0], np.zeros(32000, np.float32)):
            found = TargetTasnet(untrained).separate(mix, np.ones((2, 50), np.float32), [harmonics(110.0, 3.0, 7), nothing])
            assert (found == mix).all()

    def test_voices_and_rest_sum_to_the_mix(self, untrained: Path) -> None:
        """Nothing is invented: in no frequency do the two voices hold more than the mix does."""
        voices = spoken(TALK)
        mix = voices.sum(axis=0)
        found = TargetTasnet(untrained).separate(mix, TALK)
        rest = mix - found.sum(axis=0)
        inside = slice(frame_samples(50), frame_samples(60))
        assert (rest[inside] ** 2).sum() < (mix[inside] ** 2).sum()
        pcm = [np.rint(32768 * part) for part in (*found, rest)]
        assert np.abs(sum(pcm) - np.rint(32768 * mix)).max() <= 2  # of 16-bit steps: each of three is rounded

    def test_same_input_same_bytes(self, untrained: Path) -> None:
        mix = spoken(TALK).sum(axis=0)
        first, second = (TargetTasnet(untrained).separate(mix, TALK).tobytes() for _ in range(2))
        assert first == second

    @pytest.mark.parametrize("frames", [1, 3, 7])
    def test_a_word_at_the_very_end_of_a_mix_cut_short(self, untrained: Path, frames: int) -> None:
        activity = turns(40, (0, 0, 40), (1, 40 - frames, 40))
        mix = spoken(activity).sum(axis=0)[:-100]
        found = TargetTasnet(untrained).separate(mix, activity)
        assert found.shape == (2, len(mix)) and np.isfinite(found).all()

    def test_three_people_are_refused(self, untrained: Path) -> None:
        with pytest.raises(ValueError, match="two people, found 3"):
            TargetTasnet(untrained).separate(np.zeros(6400, np.float32), np.zeros((3, 10), np.float32))

    @pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ModelMissing, match="does not hold weights of target_tasnet"):
            TargetTasnet(tmp_path / "model.safetensors")


class TestRemix:
    def test_a_good_separator_has_good_marks_and_the_mix_has_none(self) -> None:
        """One voice below 1 kHz and one above: a filter separates them."""
        noise = np.random.default_rng(0).standard_normal((2, TALK.shape[1] * SAMPLES_PER_FRAME))
        voices = np.stack([_band(noise[p], below=p == 0) for p in range(2)]) * np.repeat(TALK, SAMPLES_PER_FRAME, axis=1)
        mix = voices.sum(axis=0)
        nothing = estimated_si_sdr_db(lambda exam, activity, enrolment: np.stack([exam] * 2), mix, voices, TALK, ())
        marks = estimated_si_sdr_db(
            lambda exam, activity, enrolment: np.stack([_band(exam, below=p == 0) for p in range(2)]), mix, voices, TALK, ()
        )
        for low, high in zip(nothing, marks, strict=True):
            assert low is not None and high is not None and low < 10.0 and high > 20.0

    def test_what_is_examined_is_kept_from_the_enrolment(self) -> None:
        rows = np.arange(1.0, 201.0, dtype=np.float32)[:, None] * np.ones((1, SAMPLES_PER_FRAME), np.float32)
        for exam in exams([rows, rows], 40, 0.0):
            for person in range(2):
                given = exam.enrolment[person].reshape(-1, SAMPLES_PER_FRAME)[:, 0]
                heard = exam.voices[person].reshape(-1, SAMPLES_PER_FRAME)[:, 0]
                asked = heard[heard > 0]
                kept = np.setdiff1d(rows[:, 0], given)
                assert len(kept) == len(asked) > 40
                np.testing.assert_allclose(asked / asked[0], kept / kept[0], rtol=1e-4)  # the same rows, at another level

    def test_levels_and_length_are_those_of_the_clip(self) -> None:
        voices = spoken(TALK) * np.array([[1.0], [0.5]], np.float32)
        heard: list[tuple[np.ndarray, np.ndarray]] = []

        def listen(exam: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray]) -> np.ndarray:
            heard.append((exam, activity))
            return np.stack([exam] * 2)

        louder = estimated_si_sdr_db(listen, voices.sum(axis=0), voices, TALK, ())
        assert [int(activity.all(axis=0).sum()) for _, activity in heard] == [10] * 3
        assert louder[0] is not None and louder[1] is not None and louder[0] > louder[1] + 3.0

    def test_unknown_without_overlap_or_without_enough_speech(self) -> None:
        apart = turns(100, (0, 0, 50), (1, 50, 100))
        voices = spoken(apart)
        silent = estimated_si_sdr_db(_never, voices.sum(axis=0), voices, apart, ())
        assert silent == [None, None]
        together = np.ones((2, 100), np.float32)
        assert estimated_si_sdr_db(_never, voices.sum(axis=0), voices, together, ()) == [None, None]


def _band(samples: np.ndarray, *, below: bool) -> np.ndarray:
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return np.asarray(0.05 * np.fft.irfft(spectrum * ((hz < 1000) == below), len(samples)), np.float32)


def _never(exam: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray]) -> np.ndarray:
    raise AssertionError("nothing to examine")


class TestUnnamedSources:
    def test_a_source_belongs_to_who_is_heard_in_it_alone(self) -> None:
        voices = spoken(TALK)
        noise = 1e-3 * np.random.default_rng(0).standard_normal(voices.shape[1]).astype(np.float32)
        sources = np.stack([noise, 3.0 * voices[1], 0.2 * voices[0]])
        own = own_sources(sources, TALK > 0.5)
        assert own is not None and (own == sources[[2, 1]]).all()
        np.testing.assert_allclose(levelled(own, voices.sum(axis=0)), voices, atol=1e-3)

    def test_sources_that_hold_both_alike_are_nobodys(self) -> None:
        mix = spoken(TALK).sum(axis=0)
        assert own_sources(np.stack([mix, 0.9 * mix]), TALK > 0.5) is None
        assert own_sources(np.stack([mix, mix]), np.ones((2, 150), bool)) is None


class TestResearchSlots:
    def test_pyannote_names_what_to_install(self, tmp_path: Path) -> None:
        if _installed("asteroid"):
            pytest.skip("asteroid is installed")
        with pytest.raises(ModelMissing, match="asteroid") as caught:
            PyannoteSeparation(tmp_path)
        assert 'pip install "pyannote.audio[separation]' in str(caught.value.hint)

    def test_speechbrain_names_what_to_install(self, tmp_path: Path) -> None:
        if _installed("speechbrain"):
            pytest.skip("speechbrain is installed")
        with pytest.raises(ModelMissing) as caught:
            SpeechBrainSepformer(tmp_path)
        assert "pip install speechbrain" in str(caught.value.hint)

    @pytest.mark.parametrize("name", ["pyannote_separation", "speechbrain_sepformer"])
    def test_a_folder_of_ones_own_is_used_where_it_lies(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        variable = {"pyannote_separation": hub_separators.PYANNOTE_VARIABLE}.get(name, hub_separators.SEPFORMER_VARIABLE)
        monkeypatch.setenv(variable, str(tmp_path))
        weight = hub_separators.hub_weight(variable, "some/model", "pyannote_files")
        assert Path(weight.path) == tmp_path and weight.fetch is None

    def test_the_real_pipeline_with_small_random_models(self) -> None:
        """pyannote's own SpeechSeparation runs here; its sources land in the overlap of their owners."""
        voices = spoken(LONG_TALK)
        mix = voices.sum(axis=0)
        model = PyannoteSeparation(Path(), pipeline=_pipeline_of_two_bands())
        found = model.separate(mix, LONG_TALK)
        alone = np.repeat((LONG_TALK[0] == 1) & (LONG_TALK[1] == 0), SAMPLES_PER_FRAME)
        assert (found[0][alone] == mix[alone]).all()
        inside = slice(frame_samples(101), frame_samples(139))
        assert not np.array_equal(found[0, inside], found[1, inside])
        for person in range(2):
            own, others = (si_sdr_db(voices[p, inside], found[person, inside]) for p in (person, 1 - person))
            assert own is not None and others is not None and own > others


LONG_TALK = turns(250, (0, 0, 140), (1, 100, 250))


def _pipeline_of_two_bands() -> Any:
    """A SpeechSeparation pipeline whose model parts sound at 2.1 kHz, and whose embedding is a coarse spectrum."""
    import torch
    from pyannote.audio import Model
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    from dyconv.models.pyannote_separation import made

    class TwoBands(Model):
        def __init__(self) -> None:
            super().__init__(sample_rate=SAMPLE_RATE)
            known = Specifications(
                problem=Problem.MULTI_LABEL_CLASSIFICATION,
                resolution=Resolution.FRAME,
                duration=5.0,
                classes=["a", "b"],
                permutation_invariant=True,
            )
            self.specifications = (known, known)

        def num_frames(self, num_samples: int) -> int:
            return num_samples // 640

        def receptive_field_size(self, num_frames: int = 1) -> int:
            return 640 * num_frames

        def receptive_field_center(self, frame: int = 0) -> int:
            return 640 * frame + 320

        def forward(self, waveforms: Any) -> Any:
            spectrum = torch.fft.rfft(waveforms[:, 0])
            low = torch.fft.rfftfreq(waveforms.shape[-1], 1 / SAMPLE_RATE) < 2100
            bands = torch.stack([torch.fft.irfft(spectrum * part, waveforms.shape[-1]) for part in (low, ~low)], dim=-1)
            frames = bands[:, : bands.shape[1] // 640 * 640].reshape(len(bands), -1, 640, 2)
            power = frames.square().mean(dim=2)
            return (power > 0.2 * power.amax(dim=2, keepdim=True)).float() * (power > 1e-5), bands

    class CoarseSpectrum(Model):
        dimension = 16

        def __init__(self) -> None:
            super().__init__(sample_rate=SAMPLE_RATE)
            self.specifications = Specifications(
                problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=0.5
            )

        def forward(self, waveforms: Any, weights: Any = None) -> Any:
            power = torch.stft(waveforms[:, 0], 512, 160, window=torch.hann_window(512), return_complex=True).abs()
            bands = torch.log(power[:, :256].reshape(len(power), 16, 16, -1).mean(dim=2) + 1e-3)
            wanted = torch.ones(len(power), 1) if weights is None else weights
            wanted = torch.nn.functional.interpolate(wanted[:, None], bands.shape[-1])[:, 0]
            total = (bands * wanted[:, None]).sum(dim=2) / (wanted.sum(dim=1, keepdim=True) + 1e-6)
            return total - total.mean(dim=1, keepdim=True)

    steps = {
        "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
        "clustering": {"method": "centroid", "min_cluster_size": 1, "threshold": 0.3},
        "separation": {"leakage_removal": False, "asr_collar": 0.1},
    }
    return made(TwoBands(), CoarseSpectrum(), steps, segmentation_step=0.5, embedding_exclude_overlap=True)


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def test_packaged_weights_on_strangers() -> None:
    """A dozen overlaps of held-out speakers: more than what their spectra alone give, and nobody exchanged."""
    if not Path(os.environ.get("DYCONV_REAL_DATA", "../shared/data"), "speech").is_dir():
        pytest.skip("no DYCONV_REAL_DATA")
    from training.separation.measure import overlaps_of_strangers

    model = registry.load("target_tasnet")
    gained = []
    for item in overlaps_of_strangers(12):
        mix = item.voices.sum(axis=0)
        found = model.separate(mix, item.activity, list(item.enrolment))
        inside = np.repeat(item.both, SAMPLES_PER_FRAME)
        for person in range(2):
            true = item.voices[person, inside]
            gained.append((si_sdr_db(true, found[person, inside]) or 0.0) - (si_sdr_db(true, mix[inside]) or 0.0))
    assert np.mean(gained) > 6.0
