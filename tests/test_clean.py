"""Clean-up: demucs' own networks through its own code, and the stage that decides whether to use them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dyconv.errors import ModelMissing
from dyconv.media.audio import read_audio, write_audio
from dyconv.models import registry
from dyconv.models.demucs_enhancer import SHAPE, DemucsEnhancer, load_network, save_network
from dyconv.records import Clip, Drop, DropReason, Key, Source, source_clip
from dyconv.score_metrics import si_sdr_db
from dyconv.stages.base import Files
from dyconv.stages.clean import COPY, Clean, level_db
from dyconv.store import Store
from dyconv.time import SAMPLE_RATE, Span, frame_samples
from tests.speech_scenes import telephone

TINY = {**SHAPE, "channels": 8, "t_layers": 1, "t_heads": 2, "segment": 1}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    save_network(path, HTDemucs(**TINY), TINY)
    return path


def music(samples: int) -> np.ndarray:
    """Chords with sharp attacks, RMS 0.05."""
    time = np.arange(samples) / SAMPLE_RATE
    out = np.zeros(samples)
    for index, root in enumerate((220.0, 246.9, 174.6, 196.0) * (samples // (4 * SAMPLE_RATE // 2) + 1)):
        start = index * SAMPLE_RATE // 2
        if start >= samples:
            break
        inside = time[start:] - time[start]
        for ratio in (1.0, 1.25, 1.5, 2.0, 3.0, 4.0):
            out[start:] += np.sin(2 * np.pi * root * ratio * inside) * np.exp(-3 * inside) / ratio
    return (out * 0.05 / np.sqrt((out**2).mean())).astype(np.float32)


class TestEnhancer:
    def test_same_input_same_output_of_the_same_length(self, tiny: Path) -> None:
        mix = np.random.default_rng(0).normal(0, 0.1, 30_001).astype(np.float32)
        first, second = DemucsEnhancer(tiny).speech(mix), DemucsEnhancer(tiny).speech(mix)
        assert first.shape == mix.shape and first.dtype == np.float32
        assert first.tobytes() == second.tobytes()

    def test_silence_stays_silence(self, tiny: Path) -> None:
        assert not DemucsEnhancer(tiny).speech(np.zeros(16_000, np.float32)).any()

    def test_level_goes_through(self, tiny: Path) -> None:
        mix = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
        model = DemucsEnhancer(tiny)
        assert np.allclose(model.speech(mix * 0.01), model.speech(mix) * 0.01, atol=1e-5)

    def test_blocks_of_a_long_sound_join(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mix = np.random.default_rng(0).normal(0, 0.1, 16 * SAMPLE_RATE).astype(np.float32)
        model = DemucsEnhancer(tiny)
        whole = model.speech(mix)
        monkeypatch.setattr("dyconv.models.demucs_enhancer._BLOCK_S", 4)
        parts = model.speech(mix)
        assert len(parts) == len(whole)
        assert si_sdr_db(whole, parts) > 15, "each part is the same network's; only levels and context at the joins differ"

    def test_the_published_kind_is_stereo_at_44_khz_with_vocals(self, tmp_path: Path) -> None:
        """Four stems at 44.1 kHz stereo, as demucs' htdemucs has them, in the same file format and through the same code."""
        from demucs.htdemucs import HTDemucs

        kwargs = {**TINY, "sources": ["drums", "bass", "other", "vocals"], "audio_channels": 2, "samplerate": 44_100}
        save_network(tmp_path / "stems.safetensors", HTDemucs(**kwargs), kwargs)
        mix = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
        speech = DemucsEnhancer(tmp_path / "stems.safetensors").speech(mix)
        assert speech.shape == mix.shape and np.isfinite(speech).all()

    @pytest.mark.parametrize("klass", ["os.system", "demucs.solver.Solver", None])
    def test_no_other_class_is_made_from_a_file(self, tmp_path: Path, klass: str | None) -> None:
        about = {"args": "[]", "kwargs": "{}", **({"klass": klass} if klass else {})}
        save_file({"weight": torch.zeros(1)}, str(tmp_path / "bad.safetensors"), metadata=about)
        with pytest.raises(ModelMissing, match="expected one of"):
            load_network(tmp_path / "bad.safetensors")

    def test_a_pickle_is_refused(self, tmp_path: Path) -> None:
        torch.save({"klass": dict}, tmp_path / "955717e8.th")
        with pytest.raises(ModelMissing, match="no safetensors"):
            load_network(tmp_path / "955717e8.th")

    def test_stems_without_speech_are_refused(self, tmp_path: Path) -> None:
        from demucs.htdemucs import HTDemucs

        kwargs = {**TINY, "sources": ["drums", "bass"]}
        save_network(tmp_path / "no.safetensors", HTDemucs(**kwargs), kwargs)
        with pytest.raises(ModelMissing, match="speech or vocals"):
            load_network(tmp_path / "no.safetensors")


class TestLearned:
    """What the default network does to sound it was not trained on: a telephone conversation, and chords made here."""

    def test_takes_music_from_under_speech(self) -> None:
        speech = telephone().samples
        speech = speech * 0.05 / np.sqrt((speech**2).mean())
        mix = (speech + music(len(speech))).astype(np.float32)
        found = registry.load("htdemucs_small").speech(mix)
        gain = si_sdr_db(speech, found) - si_sdr_db(speech, mix)
        assert gain > 3.0

    def test_noise_and_telephone_band_give_nothing_above_the_band(self) -> None:
        from scipy.signal import resample_poly

        speech = resample_poly(resample_poly(telephone().samples, 1, 2), 2, 1).astype(np.float32)
        found = registry.load("htdemucs_small").speech(speech)
        power = np.abs(np.fft.rfft(found)) ** 2
        hz = np.fft.rfftfreq(len(found), 1 / SAMPLE_RATE)
        assert 10 * np.log10(power[hz > 4400].sum() / power[hz < 3800].sum()) < -25


def staged(folder: Path, mix: np.ndarray) -> tuple[Clip, Files]:
    clip = source_clip(Source("talk", "file:///talk.mp4"))
    frames = len(mix) // 640
    clip = replace(clip, span=Span.of_frames(0, frames))
    (folder / "scratch").mkdir(parents=True)
    files = Files(Store(folder / "out"), "work/clean", folder / "scratch")
    path = files.new(clip, Key.MIX)
    write_audio(path, mix[: frame_samples(Fraction(frames))])
    return files.add(clip, (Key.MIX, path)), files


def ready(**fields: object) -> Clean:
    stage = Clean(**fields)  # type: ignore[arg-type]
    stage.setup()
    return stage


class TestStage:
    def test_clean_speech_is_copied_to_the_bit(self, tmp_path: Path) -> None:
        clip, files = staged(tmp_path, telephone().samples[: 10 * SAMPLE_RATE])
        (out,) = ready().process(clip, files)
        assert isinstance(out, Clip) and out.measures["clean.method"] == COPY
        assert read_audio(files.path(out, Key.CLEAN)).tobytes() == read_audio(files.path(clip, Key.MIX)).tobytes()

    def test_music_is_taken_out_and_named(self, tmp_path: Path) -> None:
        speech = telephone().samples[: 10 * SAMPLE_RATE]
        speech = speech * 0.05 / np.sqrt((speech**2).mean())
        clip, files = staged(tmp_path, (speech + music(len(speech))).astype(np.float32))
        (out,) = ready().process(clip, files)
        assert isinstance(out, Clip) and "HTDemucs" in str(out.measures["clean.method"])
        assert float(out.measures["clean.rest_db"] or 0) > -12
        assert len(read_audio(files.path(out, Key.CLEAN))) == len(read_audio(files.path(out, Key.MIX)))

    def test_music_far_louder_than_speech_can_be_refused(self, tmp_path: Path) -> None:
        speech = telephone().samples[: 6 * SAMPLE_RATE]
        speech = speech * 0.01 / np.sqrt((speech**2).mean())
        clip, files = staged(tmp_path, (speech + 3 * music(len(speech))).astype(np.float32))
        (out,) = ready(max_rest_db=0.0).process(clip, files)
        assert isinstance(out, Drop) and out.reason is DropReason.SEPARATION_POOR and "against the speech" in out.detail

    def test_a_long_segment_is_judged_by_probes(self, tmp_path: Path) -> None:
        speech = telephone().samples[: 20 * SAMPLE_RATE]
        speech = speech * 0.05 / np.sqrt((speech**2).mean())
        clip, files = staged(tmp_path, (speech + music(len(speech))).astype(np.float32))
        (whole,) = ready().process(clip, files)
        (probed,) = ready(probes=3, probe_s=3.0).process(clip, files)
        assert isinstance(whole, Clip) and isinstance(probed, Clip)
        assert whole.measures["clean.method"] == probed.measures["clean.method"]
        assert abs(float(whole.measures["clean.rest_db"] or 0) - float(probed.measures["clean.rest_db"] or 0)) < 4


def test_level() -> None:
    assert level_db(np.zeros(4), np.ones(4)) == -99 and level_db(np.ones(4), np.zeros(4)) == 99
    assert level_db(np.full(4, 0.1), np.ones(4)) == pytest.approx(-20)
