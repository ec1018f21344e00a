"""pyannote.audio's `SpeechSeparation` pipeline (PixIT, Kalda et al. 2024) as a separator: for research, from the hub.

The pipeline finds voices by itself, over the whole sound. Which of its sources is p0's and which is p1's is decided by the
attribution: a person's source is the one heard while they speak alone. Its sources are used in overlaps only; where one
person speaks, the voice is the mix, as with every separator here.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.speech.assign import levelled, own_sources
from dyconv.speech.overlap import Piece, SeparatePiece, two_voices
from dyconv.time import SAMPLE_RATE, SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from pyannote.audio.pipelines.speech_separation import SpeechSeparation

_PACKAGES = ("asteroid", "transformers", "speechbrain")
_INSTALL = 'pip install "pyannote.audio[separation]==4.0.7" speechbrain==1.0.3'


class PyannoteSeparation:
    """Voices by the pipeline.

    Args:
        folder: `config.yaml` of the pipeline, beside `segmentation/pytorch_model.bin` (see `dyconv.models.hub_separators`).
        pipeline: a finished pipeline instead.

    Raises:
        ModelMissing: with the command that installs what is missing, or where the folder holds something else.
    """

    method = "pyannote_separation: the mix where one speaks, the SpeechSeparation pipeline's sources in overlap"

    def __init__(self, folder: Path, *, pipeline: SpeechSeparation | None = None) -> None:
        self._pipeline = load(folder) if pipeline is None else pipeline

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Voices float32 [2, N] of mono 16 kHz `mix` [N] and activity [2, T] in 0 to 1; enrolment is not used."""
        active = np.asarray(activity) >= 0.5
        if not active.all(axis=0).any():
            return two_voices(mix, activity, lambda piece, part, spoken: None)
        return two_voices(mix, activity, from_sources(self._sources(mix), active))

    def _sources(self, mix: np.ndarray) -> np.ndarray:
        """The pipeline's sources float32 [S, N]; none where it hears nobody."""
        import torch

        waveform = torch.from_numpy(np.ascontiguousarray(mix, np.float32))[None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about fewer voices than asked for
            file = {"waveform": waveform, "sample_rate": SAMPLE_RATE, "uri": "clip"}
            result: Any = self._pipeline(file, min_speakers=2)
        sources = result[1]
        out = np.zeros((0 if sources is None else sources.data.shape[1], len(mix)), np.float32)
        for row, source in zip(out, () if sources is None else sources.data.T, strict=True):
            part = source[: len(row)]
            row[: len(part)] = part
        return out


def from_sources(sources: np.ndarray, active: np.ndarray) -> SeparatePiece:
    """Voices of pieces from sources [S, N] of the whole clip, whose speakers are known by who speaks alone when."""
    own = own_sources(sources, active)

    def piece_of(piece: Piece, part: np.ndarray, spoken: np.ndarray) -> np.ndarray | None:
        if own is None:
            return None
        voices = np.zeros((2, len(part)), np.float32)
        found = own[:, piece.start * SAMPLES_PER_FRAME : piece.stop * SAMPLES_PER_FRAME]
        voices[:, : found.shape[1]] = found
        return levelled(voices, part)

    return piece_of


def load(folder: Path) -> SpeechSeparation:
    """The pipeline of a folder, its checkpoint read without running anything in it.

    Raises:
        ModelMissing: with the command that installs what is missing, or where the folder holds something else.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise ModelMissing(f"pyannote's separation needs {', '.join(absent)}, not installed here", hint=f"run: {_INSTALL}")
    import yaml

    from dyconv.models.pyannote_load import checkpoint

    config_file = folder / "config.yaml"
    config = yaml.safe_load(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
    given = dict((config.get("pipeline") or {}).get("params", {}))
    if not str((config.get("pipeline") or {}).get("name")).endswith("SpeechSeparation") or "embedding" not in given:
        raise ModelMissing(f"no SpeechSeparation pipeline in {folder}", hint="run: dyconv models pull pyannote_separation")
    given.pop("segmentation", None)
    model = checkpoint(folder / "segmentation" / "pytorch_model.bin")
    return made(model, given.pop("embedding"), config.get("params", {}), **given)


def made(segmentation: Any, embedding: Any, parameters: dict[str, Any], **options: Any) -> SpeechSeparation:
    """The pipeline of a separation model and an embedding model (or its hub id), the hyper-parameters of its steps set."""
    from dyconv.models.pyannote_load import quiet_import

    quiet_import()
    from pyannote.audio.pipelines.speech_separation import SpeechSeparation

    token = os.environ.get("HF_TOKEN")
    pipeline = SpeechSeparation(segmentation=segmentation, embedding=embedding, token=token, **options)
    pipeline.instantiate(parameters)
    return pipeline
