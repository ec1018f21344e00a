"""A SpeechBrain SepFormer (Subakan et al. 2021) as a separator: for research, by hub id or from a local folder.

The network gives two unnamed sources of each overlap and the second around it. Whose they are is decided by who is heard
alone in that second; where nobody is, both voices stay the mix.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dyconv.errors import ModelMissing
from dyconv.speech.assign import levelled, own_sources
from dyconv.speech.overlap import Piece, two_voices
from dyconv.time import SAMPLE_RATE

_INSTALL = "pip install speechbrain==1.0.3"


class SpeechBrainSepformer:
    """Voices by SpeechBrain's separation interface.

    Args:
        folder: `hyperparams.yaml` and its checkpoints. The yaml makes the objects it names: it is trusted as code is.

    Raises:
        ModelMissing: with the command that installs SpeechBrain, or where the folder holds something else.
    """

    method = "speechbrain_sepformer: the mix where one speaks, SepFormer's sources in overlap"

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("speechbrain") is None:
            raise ModelMissing("speechbrain is not installed", hint=f"run: {_INSTALL}")
        self._model: Any = _model(folder)
        self._rate = int(self._model.hparams.sample_rate)

    def separate(self, mix: np.ndarray, activity: np.ndarray, enrolment: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Voices float32 [2, N] of mono 16 kHz `mix` [N] and activity [2, T] in 0 to 1; enrolment is not used."""
        return two_voices(mix, activity, self._piece)

    def _piece(self, piece: Piece, part: np.ndarray, active: np.ndarray) -> np.ndarray | None:
        import torch
        from scipy.signal import resample_poly

        heard = part if self._rate == SAMPLE_RATE else resample_poly(part, self._rate, SAMPLE_RATE).astype(np.float32)
        with torch.inference_mode():
            sources = self._model.separate_batch(torch.from_numpy(np.ascontiguousarray(heard))[None])[0].numpy().T
        if self._rate != SAMPLE_RATE:
            sources = resample_poly(sources, SAMPLE_RATE, self._rate, axis=1)
        voices = np.zeros((len(sources), len(part)), np.float32)
        voices[:, : sources.shape[1]] = sources[:, : len(part)]
        own = own_sources(voices, active)
        return None if own is None else levelled(own, part)


def _model(folder: Path) -> Any:
    from speechbrain.inference.separation import SepformerSeparation

    if not (folder / "hyperparams.yaml").is_file():
        raise ModelMissing(f"no SpeechBrain model in {folder}", hint="run: dyconv models pull speechbrain_sepformer")
    try:
        return SepformerSeparation.from_hparams(source=str(folder), savedir=str(folder))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelMissing(f"the SepFormer in {folder} cannot be loaded: {error}", hint="fetch it again") from error
