"""From training to inference, and from the repository to pyannote's own format.

    python -m training.diarization.export --pack SEGMENTATION.ckpt EMBEDDING.ckpt     writes dyconv/weights/pyannote_small
    python -m training.diarization.export --to DIR                                    writes what Pipeline.from_pretrained reads

DIR becomes a folder as the hub has it: config.yaml, segmentation/pytorch_model.bin, embedding/pytorch_model.bin and a plda/
that changes nothing (the pipeline wants one). `Model.from_pretrained(DIR / "segmentation")` works too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from dyconv.models.pyannote_load import PIPELINE, checkpoint, quiet_import
from dyconv.models.pyannote_small import small_model

WEIGHTS = Path(__file__).resolve().parents[2] / "dyconv" / "weights" / "pyannote_small"
KINDS = ("segmentation", "embedding")


def pack(segmentation: Path, embedding: Path, target: Path, pipeline: dict[str, Any]) -> None:
    """Write config.json and weights in half precision from two training checkpoints.

    Args:
        pipeline: clustering, segmentation_step, embedding_exclude_overlap and params of the pipeline.
    """
    quiet_import()
    target.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"pipeline": pipeline}
    for kind, path in zip(KINDS, (segmentation, embedding), strict=True):
        model: Any = checkpoint(path)
        made_for = model.specifications
        about: dict[str, Any] = {"duration": made_for.duration}
        if kind == "segmentation":
            about |= {"speakers": len(made_for.classes), "at_once": made_for.powerset_max_classes}
        else:
            about |= {"min_duration": made_for.min_duration}
        config[kind] = {
            "architecture": f"{type(model).__module__}.{type(model).__name__}",
            "hyper_parameters": dict(model.hparams),
            "specifications": about,
        }
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, target / f"{kind}.safetensors")
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def export(source: Path, folder: Path) -> None:
    """Write the packaged model as a pyannote pipeline folder."""
    quiet_import()
    from pyannote.audio import __version__

    made = json.loads((source / "config.json").read_text(encoding="utf-8"))["pipeline"]
    for kind in KINDS:
        model: Any = small_model(source / "config.json", kind, source / f"{kind}.safetensors")
        kept: dict[str, Any] = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": "2.0.0",
        }
        model.on_save_checkpoint(kept)
        kept["pyannote.audio"]["versions"]["pyannote.audio"] = __version__
        (folder / kind).mkdir(parents=True, exist_ok=True)
        torch.save(kept, folder / kind / "pytorch_model.bin")
    _no_plda(folder / "plda", model.dimension)
    params = {key: made[key] for key in ("clustering", "segmentation_step", "embedding_exclude_overlap")}
    params |= {kind: f"$model/{kind}" for kind in (*KINDS, "plda")}
    params |= {"segmentation_batch_size": 16, "embedding_batch_size": 24}
    config = {"dependencies": {"pyannote.audio": __version__}, "pipeline": {"name": PIPELINE, "params": params}}
    config["params"] = made["params"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _no_plda(folder: Path, dimension: int) -> None:
    """A PLDA that leaves vectors as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    zeros, same = np.zeros(dimension), np.eye(dimension)
    np.savez(folder / "xvec_transform.npz", mean1=zeros, mean2=zeros, lda=same)
    np.savez(folder / "plda.npz", mu=zeros, tr=same, psi=np.ones(dimension))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, nargs=2, metavar=("SEGMENTATION", "EMBEDDING"))
    parser.add_argument("--to", type=Path, help="folder for a pyannote pipeline")
    parser.add_argument("--threshold", type=float, help="distance of centroids up to which clusters are one voice")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    if args.pack:
        config = args.weights / "config.json"
        pipeline = json.loads(config.read_text())["pipeline"] if config.exists() else PIPELINE_DEFAULTS
        if args.threshold is not None:
            pipeline["params"]["clustering"]["threshold"] = args.threshold
        pack(args.pack[0], args.pack[1], args.weights, pipeline)
    if args.to:
        export(args.weights, args.to)


PIPELINE_DEFAULTS: dict[str, Any] = {
    "clustering": "AgglomerativeClustering",
    "segmentation_step": 0.25,
    "embedding_exclude_overlap": True,
    "params": {
        "segmentation": {"min_duration_off": 0.4},
        "clustering": {"method": "average", "threshold": 0.6, "min_cluster_size": 4},
    },
}


if __name__ == "__main__":
    main()
