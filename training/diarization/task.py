"""pyannote.audio's speaker diarization task, with a second thing to learn that makes the first come sooner."""

from __future__ import annotations

from typing import Any

import torch
from pyannote.audio.tasks import SpeakerDiarization
from torch import nn

_NOBODY = -100  # frames that do not count
_WEIGHT = 0.4


class NamedSpeakers(SpeakerDiarization):
    """Besides who speaks when, which of all training voices it is, told from the second LSTM layer where one speaks alone.

    Telling voices apart by permutation-invariant loss alone takes tens of thousands of steps to begin. Naming them is an
    ordinary classification, and what it learns is what the layer above needs. The classifier is dropped after training.
    """

    model: Any  # set by the model itself
    listened = 1  # the LSTM layer it is told from

    def setup_loss_func(self) -> None:
        super().setup_loss_func()
        width = self.model.hparams.lstm["hidden_size"] * 2
        self.model.loss_func = nn.Linear(width, len(self.prepared_data["metadata-labels"]))
        self._heard: list[torch.Tensor] = []
        self.model.lstm[self.listened].register_forward_hook(lambda module, given, made: self._keep(made[0]))

    def _keep(self, hidden: torch.Tensor) -> None:
        self._heard[:] = [hidden]

    def collate_fn(self, batch: list[dict[str, Any]], stage: str = "train") -> dict[str, Any]:
        """The task's batch and, as `names`, the voice of each frame int64 [batch, frames]."""
        out: dict[str, Any] = super().collate_fn(batch, stage)
        names = []
        for chunk in batch:
            active = torch.from_numpy(chunk["y"].data)
            labels = torch.as_tensor([int(label) for label in chunk["y"].labels], dtype=torch.long)
            if not len(labels):
                names.append(torch.full((active.shape[0],), _NOBODY))
                continue
            names.append(torch.where(active.sum(1) == 1, labels[active.argmax(1)], _NOBODY))
        out["names"] = torch.stack(names)
        return out

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        made = super().training_step(batch, batch_idx)
        names = batch["names"]
        if made is None or len(names) != len(self._heard[0]) or not bool((names != _NOBODY).any()):
            return made
        scores = self.model.loss_func(self._heard[0].float())
        named = nn.functional.cross_entropy(scores.flatten(0, 1), names.flatten(), ignore_index=_NOBODY)
        self.named = float(named.detach())
        return {"loss": made["loss"] + _WEIGHT * named, "segmentation": made["loss"].detach()}
