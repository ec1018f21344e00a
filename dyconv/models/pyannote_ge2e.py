"""The default diarizer: pyannote.audio's pipeline with published weights that need no hub, out of two wheels on PyPI.

Segmentation is PyanNet as published in 2022 (`pyannote/segmentation`, Bredin & Laurent 2021: up to three voices in 5 s,
overlap included), which whisperx carries; voices are told apart by Resemblyzer's GE2E encoder and agglomerative clustering.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dyconv.models.pyannote_diarizer import PipelineDiarizer
from dyconv.models.pyannote_load import checkpoint, pipeline, quiet_import
from dyconv.models.slots import Diarization

_STEP = 0.2  # windows of 5 s every second
_PARAMETERS = {
    "segmentation": {"min_duration_off": 0.0, "threshold": 0.45},
    # Weighted linkage: from 0.22 to 0.28 nothing changes much on AMI and on composed conversations.
    "clustering": {"method": "weighted", "min_cluster_size": 6, "threshold": 0.26},
}


class PyannoteGe2e(PipelineDiarizer):
    """Args: the segmentation's checkpoint and the voice encoder's, as the wheels have them."""

    def __init__(self, segmentation: Path, voices: Path) -> None:
        quiet_import()
        from dyconv.models.ge2e_net import load_voice_encoder

        self._encoder = load_voice_encoder(voices)
        made = pipeline(
            checkpoint(segmentation),
            self._encoder,
            _PARAMETERS,
            clustering="AgglomerativeClustering",
            segmentation_step=_STEP,
            embedding_exclude_overlap=True,
            segmentation_batch_size=16,
            embedding_batch_size=24,
        )
        super().__init__(made)

    def diarize(self, samples: np.ndarray, *, min_speakers: int = 1, max_speakers: int | None = None) -> Diarization:
        """As the slot says; voices are compared at one level."""
        from dyconv.models.ge2e_net import levelled

        self._encoder.forget()
        level = levelled(samples)
        found = super().diarize(level, min_speakers=min_speakers, max_speakers=max_speakers)
        return replace(found, vectors=self._encoder.around(level, found.activity.shape[1]))
