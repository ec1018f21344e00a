"""The diarizer: pyannote.audio's own pipeline with packaged weights, and folders as the hub has them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dyconv.errors import ModelMissing
from dyconv.media.audio import read_audio
from dyconv.models import registry
from dyconv.models.pyannote_community import PyannoteCommunity, hub_weight, snapshot
from dyconv.models.pyannote_small import PyannoteSmall
from dyconv.models.slots import Diarizer
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

_LIMIT = 0.15  # what issue 3 asks for on this recording, without collar, overlap scored


@pytest.fixture(scope="module")
def small() -> PyannoteSmall:
    return registry.load("pyannote_small")


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
def heard(small: PyannoteSmall, call: np.ndarray) -> Any:
    return small.diarize(call)


def test_speech_of_the_packaged_call_is_found(heard: Any) -> None:
    from training.diarization.measure import as_annotation, error, sample_item

    assert heard.activity.shape == (2, 750) and heard.activity.dtype == np.float32
    found = error([(sample_item(), as_annotation(heard))])
    assert found["miss"] + found["fa"] <= _LIMIT


@pytest.mark.xfail(strict=True, reason="the packaged weights mix up two women on one telephone line: see their card")
def test_voices_of_the_packaged_call_are_told_apart(heard: Any) -> None:
    from training.diarization.measure import as_annotation, error, sample_item

    assert error([(sample_item(), as_annotation(heard))])["der"] <= _LIMIT


def test_the_pipeline_is_pyannotes_own(small: PyannoteSmall) -> None:
    from pyannote.audio.pipelines import SpeakerDiarization

    assert isinstance(small, Diarizer) and type(small.pipeline) is SpeakerDiarization


def test_voices_come_longest_first_with_unit_vectors(heard: Any) -> None:
    assert (np.diff(heard.activity.sum(1)) <= 0).all()
    assert heard.activity.min() >= 0 and heard.activity.max() <= 1
    assert np.allclose(np.linalg.norm(heard.embeddings, axis=1), 1, atol=1e-5)


def test_same_samples_same_bytes(small: PyannoteSmall, heard: Any, call: np.ndarray) -> None:
    again = small.diarize(call)
    assert again.activity.tobytes() == heard.activity.tobytes()
    assert again.embeddings.tobytes() == heard.embeddings.tobytes()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 12.0])
def test_silence_has_no_voices(small: PyannoteSmall, seconds: float) -> None:
    found = small.diarize(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
    assert found.activity.shape == (0, -(-int(seconds * SAMPLE_RATE) // SAMPLES_PER_FRAME))
    assert found.embeddings.shape[0] == 0


def test_a_short_utterance_has_a_finite_embedding(small: PyannoteSmall, call: np.ndarray) -> None:
    found = small.diarize(call[int(11.5 * SAMPLE_RATE) : int(12.4 * SAMPLE_RATE)])
    assert found.activity.shape[1] == 23 and len(found.activity) >= 1
    assert np.isfinite(found.embeddings).all() and np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)


def test_number_of_voices_can_be_bounded(small: PyannoteSmall, call: np.ndarray) -> None:
    assert len(small.diarize(call, max_speakers=1).activity) == 1


def test_embedding_tells_a_deeper_voice_apart(small: PyannoteSmall, call: np.ndarray) -> None:
    first, again = (call[int(a * SAMPLE_RATE) : int(b * SAMPLE_RATE)] for a, b in ((22, 24.5), (24.5, 27)))
    deeper = np.interp(np.arange(0, len(again), 0.75), np.arange(len(again)), again).astype(np.float32)
    one, same, other = (small.embed(piece) for piece in (first, again, deeper))
    assert one @ same > max(one @ other, same @ other)
    assert small.embed(call[:1000]).shape == one.shape


def test_frames_are_shared_without_changing_the_embeddings(small: PyannoteSmall, call: np.ndarray) -> None:
    embedding = small.pipeline._embedding
    windows = torch.from_numpy(np.stack([call[160_000:240_000], call[160_000:240_000], call[320_000:400_000]]))[:, None]
    masks = torch.zeros(3, 100)
    masks[0, :50] = masks[1, 50:] = 1
    found = embedding(windows, masks=masks)
    alone = embedding.model_(windows[:1], weights=masks[:1]).detach().numpy()
    assert np.allclose(found[:1], alone, atol=1e-4)
    assert np.isnan(found[2]).all()


def test_exported_checkpoints_load_with_pyannotes_own_loaders(folder: Path, heard: Any, call: np.ndarray) -> None:
    from pyannote.audio import Model, Pipeline

    assert type(Model.from_pretrained(folder / "segmentation")).__name__ == "PyanNet"
    pipeline: Any = Pipeline.from_pretrained(folder)
    output = pipeline({"waveform": torch.from_numpy(call)[None], "sample_rate": SAMPLE_RATE, "uri": "call"})
    spoken = sum(output.speaker_diarization.label_duration(label) for label in output.speaker_diarization.labels())
    assert spoken == pytest.approx(float(heard.activity.sum()) / 25, abs=0.05)


def test_a_folder_as_the_hub_has_it_is_read_without_pickle(folder: Path, heard: Any, call: np.ndarray) -> None:
    found = PyannoteCommunity(folder).diarize(call)  # who speaks is not decided again there, when somebody does is the same
    assert np.allclose(found.activity.sum(0), heard.activity.sum(0), atol=1e-3)


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
