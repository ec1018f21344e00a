"""The diarizer: pyannote.audio's own pipeline with packaged weights, and folders as the hub has them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dyconv.errors import ModelMissing
from dyconv.media.audio import read_audio
from dyconv.models import registry
from dyconv.models.catalogue import MODELS
from dyconv.models.pyannote_community import PyannoteCommunity, hub_weight, snapshot
from dyconv.models.pyannote_small import PyannoteSmall
from dyconv.models.slots import Diarizer
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

_LIMIT = 0.15  # what issue 3 asks for on this recording, without collar, overlap scored


@pytest.fixture(scope="module")
def small() -> PyannoteSmall:
    return registry.load("pyannote_small")


@pytest.fixture(scope="module", params=["pyannote_ge2e", "pyannote_small"])
def diarizer(request: pytest.FixtureRequest) -> Any:
    return registry.load(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.diarization.export import WEIGHTS, export

    made = tmp_path_factory.mktemp("pipeline")
    export(WEIGHTS, made)
    return made


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    """Half a minute of a telephone call, packaged with pyannote.audio."""
    found = find_spec("pyannote.audio")
    assert found is not None and found.origin is not None
    return read_audio(Path(found.origin).parent / "sample" / "sample.wav")


@pytest.fixture(scope="module")
def heard(diarizer: Any, call: np.ndarray) -> Any:
    return diarizer.diarize(call)


def _error(found: Any) -> dict[str, float]:
    from training.diarization.measure import as_annotation, error, sample_item

    return error([(sample_item(), as_annotation(found))])


def test_speech_of_the_packaged_call_is_found(heard: Any) -> None:
    assert heard.activity.shape == (2, 750) and heard.activity.dtype == np.float32
    found = _error(heard)
    assert found["miss"] + found["fa"] <= _LIMIT


def test_the_default_tells_the_voices_of_the_packaged_call_apart(call: np.ndarray) -> None:
    name = next(spec.name for spec in MODELS if spec.slot == "diarizer" and spec.default)
    assert _error(registry.load(name).diarize(call))["der"] <= _LIMIT


@pytest.mark.xfail(strict=True, reason="the packaged weights mix up two women on one telephone line: see their card")
def test_voices_of_the_packaged_call_are_told_apart_by_what_was_trained_here(small: PyannoteSmall, call: np.ndarray) -> None:
    assert _error(small.diarize(call))["der"] <= _LIMIT


def test_overlap_is_a_probability_that_is_higher_where_two_speak(heard: Any) -> None:
    from training.diarization.measure import sample_item

    truth = np.zeros(750, bool)
    for span in sample_item().truth.get_overlap():
        truth[round(span.start * 25) : round(span.end * 25)] = True
    assert heard.overlap.shape == (750,) and heard.overlap.min() >= 0 and heard.overlap.max() <= 1
    assert heard.overlap[truth].mean() > 2 * heard.overlap[~truth].mean()


def test_the_pipeline_is_pyannotes_own(diarizer: Any) -> None:
    from pyannote.audio.pipelines import SpeakerDiarization

    assert isinstance(diarizer, Diarizer) and type(diarizer.pipeline) is SpeakerDiarization


def test_voices_come_longest_first_with_unit_vectors(heard: Any) -> None:
    assert (np.diff(heard.activity.sum(1)) <= 0).all()
    assert heard.activity.min() >= 0 and heard.activity.max() <= 1
    assert np.allclose(np.linalg.norm(heard.embeddings, axis=1), 1, atol=1e-5)


def test_same_samples_same_bytes(diarizer: Any, heard: Any, call: np.ndarray) -> None:
    again = diarizer.diarize(call)
    assert again.activity.tobytes() == heard.activity.tobytes()
    assert again.embeddings.tobytes() == heard.embeddings.tobytes()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 12.0])
def test_silence_has_no_voices(diarizer: Any, seconds: float) -> None:
    found = diarizer.diarize(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
    assert found.activity.shape == (0, -(-int(seconds * SAMPLE_RATE) // SAMPLES_PER_FRAME))
    assert found.embeddings.shape[0] == 0


def test_a_short_utterance_has_a_finite_embedding(diarizer: Any, call: np.ndarray) -> None:
    found = diarizer.diarize(call[int(11.5 * SAMPLE_RATE) : int(12.4 * SAMPLE_RATE)])
    assert found.activity.shape[1] == 23 and len(found.activity) >= 1
    assert np.isfinite(found.embeddings).all() and np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)


def test_number_of_voices_can_be_bounded(diarizer: Any, call: np.ndarray) -> None:
    assert len(diarizer.diarize(call, max_speakers=1).activity) == 1


def test_embedding_tells_a_deeper_voice_apart(diarizer: Any, call: np.ndarray) -> None:
    first, again = (call[int(a * SAMPLE_RATE) : int(b * SAMPLE_RATE)] for a, b in ((22, 24.5), (24.5, 27)))
    deeper = np.interp(np.arange(0, len(again), 0.75), np.arange(len(again)), again).astype(np.float32)
    one, same, other = (diarizer.embed(piece) for piece in (first, again, deeper))
    assert one @ same > max(one @ other, same @ other)
    assert diarizer.embed(call[:1000]).shape == one.shape


def test_frames_are_shared_without_changing_the_embeddings(small: PyannoteSmall, call: np.ndarray) -> None:
    embedding = small.pipeline._embedding
    windows = torch.from_numpy(np.stack([call[160_000:240_000], call[160_000:240_000], call[320_000:400_000]]))[:, None]
    masks = torch.zeros(3, 100)
    masks[0, :50] = masks[1, 50:] = 1
    found = embedding(windows, masks=masks)
    alone = embedding.model_(windows[:1], weights=masks[:1]).detach().numpy()
    assert np.allclose(found[:1], alone, atol=1e-4)
    assert np.isnan(found[2]).all()


def test_exported_checkpoints_load_with_pyannotes_own_loaders(folder: Path, small: PyannoteSmall, call: np.ndarray) -> None:
    from pyannote.audio import Model, Pipeline

    assert type(Model.from_pretrained(folder / "segmentation")).__name__ == "PyanNet"
    pipeline: Any = Pipeline.from_pretrained(folder)
    output = pipeline({"waveform": torch.from_numpy(call)[None], "sample_rate": SAMPLE_RATE, "uri": "call"})
    spoken = sum(output.speaker_diarization.label_duration(label) for label in output.speaker_diarization.labels())
    assert spoken == pytest.approx(float(small.diarize(call).activity.sum()) / 25, abs=0.05)


def test_a_folder_as_the_hub_has_it_is_read_without_pickle(folder: Path, small: PyannoteSmall, call: np.ndarray) -> None:
    found = PyannoteCommunity(folder).diarize(call)  # who speaks is not decided again there, when somebody does is the same
    assert np.allclose(found.activity.sum(0), small.diarize(call).activity.sum(0), atol=1e-3)


def test_a_checkpoint_with_code_in_it_is_refused(folder: Path, tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "run",)

    bad = tmp_path / "bad"
    for name in ("segmentation", "embedding", "plda"):
        (bad / name).mkdir(parents=True)
    (bad / "config.yaml").write_text((folder / "config.yaml").read_text())
    torch.save({"pyannote.audio": Bad()}, bad / "segmentation" / "pytorch_model.bin")
    with pytest.raises(ModelMissing, match="holds code"):
        PyannoteCommunity(bad)
    assert not (tmp_path / "run").exists()


def test_pieces_of_a_voice_are_heard_once_and_forgotten(call: np.ndarray) -> None:
    model: Any = registry.load("pyannote_ge2e")
    encoder, windows = model.pipeline._embedding.model_, torch.from_numpy(call[: 6 * SAMPLE_RATE])[None, None]
    with torch.inference_mode():
        whole = encoder(windows)
        pieces = len(encoder._heard)
        masked = encoder(windows, weights=torch.ones(1, 300))
    assert pieces == 23 and len(encoder._heard) == pieces
    assert torch.allclose(whole, masked, atol=1e-5) and float(whole.norm()) == pytest.approx(1, abs=1e-5)
    encoder.forget()
    assert not encoder._heard


def test_how_it_sounds_in_each_frame_names_the_voice(call: np.ndarray) -> None:
    from training.diarization.measure import sample_item

    found = registry.load("pyannote_ge2e").diarize(call)
    assert found.vectors.shape == (750, 256) and found.vectors.dtype == np.float32
    annotation = sample_item().truth
    truth = np.zeros((2, 750), bool)
    for span, _, label in annotation.itertracks(yield_label=True):
        truth[annotation.labels().index(label), round(span.start * 25) : round(span.end * 25)] = True
    first, second = truth[0] & ~truth[1], truth[1] & ~truth[0]
    half = np.arange(750) < 375  # learnt in one half of the call, asked in the other
    apart = found.vectors[first & half].mean(0) - found.vectors[second & half].mean(0)
    asked = ~half & (first | second)
    assert roc_auc_score(first[asked], (found.vectors @ apart)[asked]) > 0.75  # two women on one line


def test_other_files_than_the_voice_encoder_are_refused(tmp_path: Path) -> None:
    from dyconv.models.ge2e_net import load_voice_encoder

    torch.save({"model_state": {"lstm.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    (tmp_path / "torn.pt").write_bytes(b"\x80\x02torn")
    for name in ("other.pt", "torn.pt", "absent.pt"):
        with pytest.raises(ModelMissing, match=name):
            load_voice_encoder(tmp_path / name)


def test_the_hub_model_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DYCONV_CACHE", str(tmp_path))
    monkeypatch.delenv("DYCONV_PYANNOTE", raising=False)
    with pytest.raises(ModelMissing) as caught:
        registry.require("pyannote_community")
    assert "dyconv models pull pyannote_community" in caught.value.hint
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelMissing) as caught:
        snapshot(hub_weight(), tmp_path / "new")
    assert "accept the conditions" in caught.value.hint and "HF_TOKEN" in caught.value.hint


def test_a_local_folder_replaces_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("DYCONV_PYANNOTE", str(folder))
    assert registry.weight_path(hub_weight()) == folder
