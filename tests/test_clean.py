"""Clean-up: demucs' own networks through its own code, and the stage that decides whether to use them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.states import get_state, save_with_checksum
from safetensors.torch import save_file

from dyconv.errors import ModelMissing
from dyconv.media.audio import read_audio, write_audio
from dyconv.models import registry
from dyconv.models.demucs_enhancer import SHAPE, DemucsEnhancer
from dyconv.models.demucs_load import load_network, published, save_network
from dyconv.models.registry import weight_path
from dyconv.records import Clip, Drop, DropReason, Key, Source, source_clip
from dyconv.score_metrics import si_sdr_db
from dyconv.stages.base import Files
from dyconv.stages.clean import COPY, Clean, level_db
from dyconv.store import Store
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME, Span
from tests.speech_scenes import telephone

TINY = {**SHAPE, "channels": 8, "t_layers": 1, "t_heads": 2, "segment": 1}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tiny") / "model.safetensors"
    save_network(path, HTDemucs(**TINY), TINY)
    return path


def hiss(samples: int) -> np.ndarray:
    """Pink noise, RMS 0.05, float32 [samples]."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=samples))
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(hz, 40.0)), samples)
    return (noise * 0.05 / np.sqrt((noise**2).mean())).astype(np.float32)


def speech(seconds: int, rms: float = 0.05) -> np.ndarray:
    """The telephone conversation, float32."""
    samples = telephone().samples[: seconds * SAMPLE_RATE]
    return (samples * rms / np.sqrt((samples**2).mean())).astype(np.float32)


def packaged(folder: Path) -> tuple[Path, Path]:
    """Four stems at 44.1 kHz stereo, as the published htdemucs has them: in safetensors, and as demucs packs them."""
    from demucs.htdemucs import HTDemucs

    kwargs = {**TINY, "sources": ["drums", "bass", "other", "vocals"], "audio_channels": 2, "samplerate": 44_100}
    net = HTDemucs(**kwargs)
    save_network(folder / "stems.safetensors", net, kwargs)
    package = {"klass": HTDemucs, "args": (), "kwargs": {**kwargs, "segment": Fraction(1)}, "state": get_state(net, None, True)}
    save_with_checksum({**package, "training_args": {"seed": 42}}, folder / "tiny.th")
    (path,) = folder.glob("tiny-*.th")
    return folder / "stems.safetensors", path


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
        path, _ = packaged(tmp_path)
        mix = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
        speech = DemucsEnhancer(path).speech(mix)
        assert speech.shape == mix.shape and np.isfinite(speech).all()

    @pytest.mark.parametrize("klass", ["os.system", "demucs.solver.Solver", None])
    def test_no_other_class_is_made_from_a_file(self, tmp_path: Path, klass: str | None) -> None:
        about = {"args": "[]", "kwargs": "{}", **({"klass": klass} if klass else {})}
        save_file({"weight": torch.zeros(1)}, str(tmp_path / "bad.safetensors"), metadata=about)
        with pytest.raises(ModelMissing, match="expected one of"):
            load_network(tmp_path / "bad.safetensors")

    def test_a_package_of_a_local_repository(self, tmp_path: Path) -> None:
        """What `dyconv models pull htdemucs` brings: demucs' own format, written by demucs' own function."""
        net, path = packaged(tmp_path)
        mix = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
        assert np.array_equal(DemucsEnhancer(path).speech(mix), DemucsEnhancer(net).speech(mix))

    def test_a_package_that_does_not_match_its_name_is_refused(self, tmp_path: Path) -> None:
        _, path = packaged(tmp_path)
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(ModelMissing, match="Invalid checksum"):
            load_network(path)
        renamed = path.rename(tmp_path / "tiny.th")
        with pytest.raises(ModelMissing, match="no checksum in its name"):
            load_network(renamed)

    def test_a_package_that_would_run_something_is_refused(self, tmp_path: Path) -> None:
        class Touch:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "ran",))

        save_with_checksum({"klass": Touch(), "state": {}}, tmp_path / "bad.th")
        (path,) = tmp_path.glob("bad-*.th")
        with pytest.raises(ModelMissing, match="is not read"):
            load_network(path)
        assert not (tmp_path / "ran").exists()

    def test_another_pickle_is_no_safetensors(self, tmp_path: Path) -> None:
        torch.save({"klass": dict}, tmp_path / "955717e8.pt")
        with pytest.raises(ModelMissing, match="no safetensors"):
            load_network(tmp_path / "955717e8.pt")

    def test_a_file_elsewhere_is_named_by_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert published().sha256 and published().path.endswith(f"-{published().sha256[:8]}.th")
        monkeypatch.setenv("DYCONV_HTDEMUCS", str(tmp_path / "mine-01234567.th"))
        assert weight_path(published()) == tmp_path / "mine-01234567.th"

    def test_stems_without_speech_are_refused(self, tmp_path: Path) -> None:
        from demucs.htdemucs import HTDemucs

        kwargs = {**TINY, "sources": ["drums", "bass"]}
        save_network(tmp_path / "no.safetensors", HTDemucs(**kwargs), kwargs)
        with pytest.raises(ModelMissing, match="speech or vocals"):
            load_network(tmp_path / "no.safetensors")


class TestLearned:
    """What the default network does to a telephone conversation, which it was not trained on."""

    @pytest.mark.parametrize(("noise_db", "least_db"), [(0.0, 3.0), (-10.0, 2.0)])
    def test_takes_noise_from_under_speech(self, noise_db: float, least_db: float) -> None:
        said = speech(8)
        mix = said + hiss(len(said)) * np.float32(10 ** (noise_db / 20))
        found = registry.load("htdemucs_small").speech(mix)
        assert si_sdr_db(said, found) - si_sdr_db(said, mix) > least_db

    def test_clean_speech_comes_through(self) -> None:
        said = speech(8)
        assert si_sdr_db(said, registry.load("htdemucs_small").speech(said)) > 20

    def test_nothing_appears_above_a_telephone_band(self) -> None:
        from scipy.signal import resample_poly

        said = resample_poly(resample_poly(speech(8), 1, 2), 2, 1).astype(np.float32)
        found = registry.load("htdemucs_small").speech(said)
        power = np.abs(np.fft.rfft(found)) ** 2
        hz = np.fft.rfftfreq(len(found), 1 / SAMPLE_RATE)
        assert 10 * np.log10(power[hz > 4400].sum() / power[hz < 3800].sum()) < -35

    def test_clipped_speech_comes_through(self) -> None:
        clipped = np.clip(speech(8) * 40, -1, 1).astype(np.float32)
        found = registry.load("htdemucs_small").speech(clipped)
        assert np.isfinite(found).all() and si_sdr_db(clipped, found) > 12


def staged(folder: Path, mix: np.ndarray) -> tuple[Clip, Files]:
    clip = source_clip(Source("talk", "file:///talk.mp4"))
    frames = len(mix) // SAMPLES_PER_FRAME
    clip = replace(clip, span=Span.of_frames(0, frames))
    (folder / "scratch").mkdir(parents=True)
    files = Files(Store(folder / "out"), "work/clean", folder / "scratch")
    path = files.new(clip, Key.MIX)
    write_audio(path, mix[: frames * SAMPLES_PER_FRAME])
    return files.add(clip, (Key.MIX, path)), files


def ready(**fields: object) -> Clean:
    stage = Clean(**fields)  # type: ignore[arg-type]
    stage.setup()
    return stage


class TestStage:
    def test_clean_speech_is_copied_to_the_bit(self, tmp_path: Path) -> None:
        clip, files = staged(tmp_path, speech(10))
        (out,) = ready().process(clip, files)
        assert isinstance(out, Clip) and out.measures["clean.method"] == COPY
        assert read_audio(files.path(out, Key.CLEAN)).tobytes() == read_audio(files.path(clip, Key.MIX)).tobytes()

    def test_noise_is_taken_out_and_named(self, tmp_path: Path) -> None:
        said = speech(10)
        clip, files = staged(tmp_path, said + hiss(len(said)))
        (out,) = ready().process(clip, files)
        assert isinstance(out, Clip) and "HTDemucs" in str(out.measures["clean.method"])
        assert float(out.measures["clean.rest_db"] or 0) > -12
        clean, mix = read_audio(files.path(out, Key.CLEAN)), read_audio(files.path(out, Key.MIX))
        assert len(clean) == len(mix)
        assert si_sdr_db(said[: len(clean)], clean) - si_sdr_db(said[: len(mix)], mix) > 3

    def test_noise_far_louder_than_speech_can_be_refused(self, tmp_path: Path) -> None:
        said = speech(6, rms=0.01)
        clip, files = staged(tmp_path, said + hiss(len(said)))
        (out,) = ready(max_rest_db=0.0).process(clip, files)
        assert isinstance(out, Drop) and out.reason is DropReason.SEPARATION_POOR and "against the speech" in out.detail

    def test_a_long_segment_is_judged_by_probes(self, tmp_path: Path) -> None:
        said = speech(20)
        clip, files = staged(tmp_path, said + hiss(len(said)))
        (whole,) = ready().process(clip, files)
        (probed,) = ready(probes=3, probe_s=3.0).process(clip, files)
        assert isinstance(whole, Clip) and isinstance(probed, Clip)
        assert whole.measures["clean.method"] == probed.measures["clean.method"]
        assert abs(float(whole.measures["clean.rest_db"] or 0) - float(probed.measures["clean.rest_db"] or 0)) < 4


def test_level() -> None:
    assert level_db(np.zeros(4), np.ones(4)) == -99 and level_db(np.ones(4), np.zeros(4)) == 99
    assert level_db(np.full(4, 0.1), np.ones(4)) == pytest.approx(-20)
