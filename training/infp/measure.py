"""Measures trained weights on people they were not trained on.

python -m training.infp.measure --encoder E --renderer R [--stage2 S] --train BUILD --held-out BUILD --out report.json
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from dyconv.cli import run_alone
from dyconv.infp.stage1 import load_stage1
from dyconv.infp.stage2 import Guidance, Stage2
from dyconv.store import write_atomic
from training.infp.measure_stage1 import measure_stage1
from training.infp.measure_stage2 import measure_stage2, talkers_of

_LOG = logging.getLogger(__name__)
_Build = Annotated[str, typer.Option(help="folder or URI of a build")]


def measure(
    encoder: Annotated[Path, typer.Option(help="safetensors of Stage 1's encoder")],
    renderer: Annotated[Path, typer.Option(help="safetensors of Stage 1's renderer")],
    train: _Build,
    held_out: _Build,
    out: Annotated[Path, typer.Option(help="JSON file to write")],
    stage2: Annotated[Path | None, typer.Option(help="safetensors of Stage 2")] = None,
    guidance: Annotated[float | None, typer.Option(help="scale of both guidances; default: the weights'")] = None,
    every: Annotated[int, typer.Option(help="one of so many frames is looked at", min=1)] = 5,
) -> None:
    """Write what was measured as JSON, and log it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_grad_enabled(False)
    model = load_stage1(encoder, renderer)
    told, probe = measure_stage1(model, train, held_out, every=every)
    report: dict[str, Any] = {"encoder": model.encoder_hash, "stage1": told}
    if stage2 is not None:
        scales = None if guidance is None else Guidance(guidance, guidance)
        motion = Stage2.load(stage2, encoder_hash=model.encoder_hash)
        report["stage2"] = measure_stage2(motion, probe, talkers_of(held_out, model), guidance=scales)
    write_atomic(out, json.dumps(report, indent=1).encode())
    _LOG.info("%s", json.dumps(report, indent=1))


def main() -> None:
    run_alone(measure)


if __name__ == "__main__":
    main()
