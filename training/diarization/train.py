"""Train the small segmentation or embedding model through pyannote.audio's own tasks.

    python -m training.diarization.train segmentation --corpus CORPUS --out DIR --minutes 80
    python -m training.diarization.train embedding --corpus CORPUS --out DIR --minutes 20

Every five minutes DIR gets `last.ckpt` (a pyannote checkpoint; `--resume` goes on from it) and a line in `log.jsonl`.
Held out from training while it runs: a tenth of the training voices (`*.development` of the corpus).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["PYANNOTE_METRICS_ENABLED"] = "0"

import lightning
import numpy as np
import torch
from pyannote.audio.models.embedding import XVectorMFCC
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.tasks.embedding.arcface import SupervisedRepresentationLearningWithArcFace
from pyannote.core import Segment

from training.diarization.protocol import MappedAudio, protocol
from training.diarization.task import NamedSpeakers

SINCNET = {"stride": 20}  # 30 frames a second: half the work of the published models
LSTM = {"hidden_size": 128, "num_layers": 3, "monolithic": False, "dropout": 0.1}
_MEL = {"n_fft": 512, "win_length": 400, "hop_length": 320, "n_mels": 64, "f_min": 60.0}
MFCC: dict[str, Any] = {"n_mfcc": 40, "melkwargs": _MEL}
CHUNK_S = 8.0
DIMENSION = 192
_SAVE_S = 300.0
_WARM_UP = 0.03  # of the time


class Budget(lightning.Callback):
    """Learning rate, checkpoints and log by the wall clock: a training lasts as long as it was given."""

    def __init__(self, folder: Path, minutes: float, rate: float) -> None:
        self.folder, self.seconds, self.rate = folder, minutes * 60, rate
        self.before, self.steps = 0.0, 0
        self.losses: list[float] = []
        self.began = self.saved = time.monotonic()

    @property
    def state_key(self) -> str:
        return "Budget"

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self._elapsed(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before, self.steps = state_dict["elapsed"], state_dict["steps"]

    def _elapsed(self) -> float:
        return self.before + time.monotonic() - self.began

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        done = min(self._elapsed() / self.seconds, 1.0)
        warm = min(done / _WARM_UP, 1.0)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate * max(warm * 0.5 * (1 + math.cos(math.pi * done)), 1e-3)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        if outputs is not None:
            self.losses.append(float(outputs.get("segmentation", outputs["loss"]).detach()))
        over = self._elapsed() >= self.seconds
        if over or time.monotonic() - self.saved > _SAVE_S:
            self.saved = time.monotonic()
            trainer.save_checkpoint(self.folder / "next.ckpt")
            os.replace(self.folder / "next.ckpt", self.folder / "last.ckpt")
            named = getattr(pl_module.task, "named", 0.0)
            self.write(loss=float(np.mean(self.losses[-200:])), named=round(named, 3), **held_out(pl_module))
        if over:
            trainer.should_stop = True

    def write(self, **values: float) -> None:
        line = {"minutes": round(self._elapsed() / 60, 1), "steps": self.steps, **values}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


@torch.inference_mode()
def held_out(model: Any) -> dict[str, float]:
    """The held-out metric of either kind of model, with the model left in training mode."""
    model.eval()
    measured = _local_der(model) if isinstance(model, PyanNet) else _equal_error(model)
    model.train()
    return measured


def _local_der(model: Any, batches: int = 16) -> dict[str, float]:
    """Diarization error within chunks of development conversations, by the task's own metric."""
    task = model.task
    model.validation_metric.reset()
    total = len(task.prepared_data["validation"])
    chosen = np.linspace(0, total - 1, min(total, batches * 16)).astype(int)
    for start in range(0, len(chosen), 16):
        batch = task.collate_fn([task.val__getitem__(int(index)) for index in chosen[start : start + 16]], stage="val")
        scores = model.powerset.to_multilabel(model(batch["X"])).transpose(1, 2)
        model.validation_metric(scores, batch["y"].transpose(1, 2))
    found = {name: float(value) for name, value in model.validation_metric.compute().items()}
    model.validation_metric.reset()
    return {name.rsplit("/", 1)[-1]: round(value, 4) for name, value in found.items()}


def _equal_error(model: Any) -> dict[str, float]:
    """Equal error rate of cosine similarity between 3 s pieces of development voices, same speed of each."""
    labels, pieces = [], []
    for file in model.task.protocol.development():
        for start in (2.0, 9.0, 16.0):
            labels.append(file["annotation"].labels()[0])
            pieces.append(model.audio.crop(file, Segment(start, start + 3.0))[0])
    vectors = torch.nn.functional.normalize(torch.cat([model(part) for part in torch.stack(pieces).split(32)]))
    similar = (vectors @ vectors.T).numpy()
    names = np.array(labels)
    base = np.array([name.split("@")[0] for name in names])
    same = (names[:, None] == names[None]) & ~np.eye(len(names), dtype=bool)
    other = base[:, None] != base[None]
    steps = np.linspace(-1, 1, 401)
    missed = np.array([(similar[same] < step).mean() for step in steps])
    wrong = np.array([(similar[other] >= step).mean() for step in steps])
    at = int(np.argmin(np.abs(missed - wrong)))
    return {"eer": round(float(missed[at] + wrong[at]) / 2, 4), "at": round(float(steps[at]), 3)}


def segmentation_model(corpus: Path) -> PyanNet:
    task = NamedSpeakers(
        protocol(corpus, "Conversations"),
        duration=CHUNK_S,
        max_speakers_per_chunk=3,
        max_speakers_per_frame=2,
        batch_size=8,
        num_workers=0,
    )
    return _fixed_filters(PyanNet(task=task, sincnet=SINCNET, lstm=LSTM))


def _fixed_filters(model: Any) -> Any:
    """Filter bank as it is made (mel-spaced band passes): nothing is lost, and there is time for three times the steps."""
    for layer in (model.sincnet.wav_norm1d, model.sincnet.conv1d[0]):
        layer.requires_grad_(False)
    return model


def embedding_model(corpus: Path) -> XVectorMFCC:
    task = SupervisedRepresentationLearningWithArcFace(
        protocol(corpus, "Voices"),
        min_duration=1.5,
        duration=3.0,
        num_classes_per_batch=48,
        num_chunks_per_class=1,
        margin=11.5,
        scale=24.0,
        num_workers=0,
    )
    return XVectorMFCC(mfcc=MFCC, dimension=DIMENSION, task=task)


def _half(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The network in bfloat16 where that is faster, its output and so the loss in float32."""

    def call(*args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(*args, **kwargs).float()

    return call


def begin_from(model: Any, path: Path) -> None:
    """Take over the weights of another training as far as they fit; the layers of one LSTM may have become several."""
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]  # our own checkpoint
    split = {
        re.sub(r"^lstm\.((?:weight|bias)_[ih]h)_l(\d)(_reverse)?$", r"lstm.\2.\1_l0\3", name): value
        for name, value in state.items()
    }
    model.prepare_data()
    model.setup()
    own = model.state_dict()
    model.load_state_dict(
        {name: value for name, value in split.items() if name in own and own[name].shape == value.shape}, strict=False
    )


def train(model: Any, folder: Path, minutes: float, rate: float, *, resume: bool) -> None:
    """Fit the model for so many minutes in all, those before a resume included."""
    folder.mkdir(parents=True, exist_ok=True)
    model.audio = MappedAudio(sample_rate=16000, mono="downmix")
    model.configure_optimizers = lambda: torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad], lr=rate, weight_decay=1e-3
    )
    model.forward = _half(model.forward)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        gradient_clip_val=1.0,
        callbacks=[Budget(folder, minutes, rate)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    last = folder / "last.ckpt"
    trainer.fit(model, ckpt_path=str(last) if resume and last.exists() else None, weights_only=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("segmentation", "embedding"))
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--begin-from", type=Path, help="checkpoint of another training whose weights to begin with")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lightning.seed_everything(args.seed)
    model = segmentation_model(args.corpus) if args.what == "segmentation" else embedding_model(args.corpus)
    if args.begin_from:
        begin_from(model, args.begin_from)
    train(model, args.out, args.minutes, args.rate, resume=args.resume)


if __name__ == "__main__":
    main()
