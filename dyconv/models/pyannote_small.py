"""pyannote.audio's pipeline with a small segmentation and a small embedding model of our own.

PyanNet with powerset output (Plaquet & Bredin 2023: up to three voices a window, two at once) and an x-vector network on
MFCC (Snyder et al. 2018), trained by `training/diarization`; agglomerative clustering. No hub, no licence to accept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyconv.models.pyannote_diarizer import PipelineDiarizer
from dyconv.models.pyannote_load import built, pipeline, quiet_import, specifications
from dyconv.models.pyannote_refine import refined, window_vectors

if TYPE_CHECKING:
    from pyannote.audio import Model
    from pyannote.audio.pipelines import SpeakerDiarization

_WINDOWS = 16  # of segmentation in one batch
_VOICES = 24  # of embedding in one batch


class PyannoteSmall(PipelineDiarizer):
    """Args: config.json, segmentation.safetensors and embedding.safetensors of one model.

    step: how far apart the windows are, as a share of their length; the config's own if None. Smaller is slower and steadier.
    """

    def __init__(self, config: Path, segmentation: Path, embedding: Path, *, step: float | None = None) -> None:
        super().__init__(small_pipeline(config, segmentation, embedding, step=step))

    def _decided(self, activity: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """The voices of the whole clip decided again, which makes up for a small segmentation network."""
        if len(activity) < 2:
            return activity
        speech = np.minimum(activity.sum(0), 1.0)
        return refined(activity, window_vectors(self.pipeline._embedding.model_, samples, speech))

    def _centroid(self, found: np.ndarray | None, samples: np.ndarray, activity: np.ndarray, row: int) -> np.ndarray:
        """From what the voice says after all, not from the pipeline's windows."""
        return super()._centroid(found if len(activity) < 2 else None, samples, activity, row)


def small_pipeline(config: Path, segmentation: Path, embedding: Path, *, step: float | None = None) -> SpeakerDiarization:
    """The pipeline object itself."""
    quiet_import()
    values = json.loads(config.read_text(encoding="utf-8"))
    made = values["pipeline"]
    return pipeline(
        small_model(config, "segmentation", segmentation),
        small_model(config, "embedding", embedding),
        made["params"],
        clustering=made["clustering"],
        segmentation_step=step or made["segmentation_step"],
        embedding_exclude_overlap=made["embedding_exclude_overlap"],
        segmentation_batch_size=_WINDOWS,
        embedding_batch_size=_VOICES,
    )


def small_model(config: Path, kind: str, weights: Path) -> Model:
    """One of the two models: hyper-parameters from the config, weights (stored in half precision) as float32."""
    from safetensors.torch import load_file

    values = json.loads(config.read_text(encoding="utf-8"))[kind]
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(weights).items()}
    return built(values["architecture"], values["hyper_parameters"], specifications(kind, values["specifications"]), state)
