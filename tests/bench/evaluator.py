"""Frames a second of the evaluator's picture metrics in batches, against the same metrics in a plain loop, frame by frame.

python -m tests.bench.evaluator --out out/bench_evaluator.json [--device cuda] [--frames 64] [--size 512]

Both in one run, on the same frames and device. The plain loop is what one writes first: frames go to the device one by one,
torchmetrics' functions and the bare networks are called, every number is fetched at once. Weights are random: they cost the
same time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

CHUNK = 32  # frames, as the evaluator reads them
ROUNDS = 2  # one after the other; the best counts, as machines are noisy
WANTED = 5  # times the plain loop, on a GPU


def main(
    out: Annotated[Path, typer.Option(help="JSON file with every number")] = Path("out/bench_evaluator.json"),
    device: Annotated[str, typer.Option(help="cpu or cuda; the GPU where there is one if not given")] = "",
    frames: Annotated[int, typer.Option(help="frames of the video, in steps of 16")] = 32,
    size: Annotated[int, typer.Option(help="pixels of its side")] = 512,
) -> None:
    """Measure, print a table, write the numbers."""
    from rich.console import Console
    from rich.table import Table

    found = measure(device, frames, size)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")
    table = Table("frames/s", "batched", "plain loop", "ratio", title=f"{frames} frames of {size} px on {found['device']}")
    for name, row in found["metrics"].items():
        table.add_row(name, *(f"{row[key]:.1f}" for key in ("batched", "plain", "ratio")))
    Console(highlight=False).print(table)


def measure(name: str = "", frames: int = 32, size: int = 512) -> dict[str, Any]:
    """Frames a second by metric, and of all together, on the device of that name, or the GPU where there is one."""
    import torch

    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 256, (frames, size, size, 3), np.uint8)
    made = np.clip(truth + draw.normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    metrics: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as folder, torch.inference_mode():
        ways = ways_of(device, random_weights(Path(folder)))
        for metric, (batched, plain) in ways.items():
            rounds = [[_seconds(one, truth, made, device) for one in (batched, plain)] for _ in range(ROUNDS)]
            seconds = np.min(rounds, axis=0).tolist()
            metrics[metric] = {"batched": frames / seconds[0], "plain": frames / seconds[1], "ratio": seconds[1] / seconds[0]}
    spent = [sum(1 / row[key] for row in metrics.values()) for key in ("batched", "plain")]
    metrics["all"] = {"batched": 1 / spent[0], "plain": 1 / spent[1], "ratio": spent[1] / spent[0]}
    return {"device": str(device), "frames": frames, "size": size, "wanted_ratio": WANTED, "metrics": metrics}


Way = Callable[[np.ndarray, np.ndarray], None]


def _seconds(way: Way, truth: np.ndarray, made: np.ndarray, device: Any) -> float:
    import torch

    way(truth[:16], made[:16])  # libraries choose their algorithms, memory is taken
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    way(truth, made)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def random_weights(folder: Path) -> dict[str, Path]:
    """Files as the published ones are, of alexnet, inception_fid and i3d."""
    import torch
    from torch import nn
    from torchvision.models import alexnet

    from training.evaluation.i3d_net import I3d

    states = {
        "alexnet": nn.ModuleDict({"features": alexnet(weights=None).features}).state_dict(),
        "inception_fid": blank_inception().state_dict(),
        "i3d": I3d().state_dict(),
    }
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in states}


def blank_inception() -> Any:
    """torch-fidelity's Inception as it is before weights are loaded; it cannot be made without a file of them."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any) -> None:
            """Nothing is loaded."""

    nothing = BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    return Blank("blank", ["2048"], feature_extractor_weights_path=nothing)


def ways_of(device: Any, files: dict[str, Path]) -> dict[str, tuple[Way, Way]]:
    """By metric, the evaluator's way and the plain loop."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    from training.evaluation.i3d import I3dLogits
    from training.evaluation.inception import Inception
    from training.evaluation.perceptual import Lpips
    from training.evaluation.pictures import Psnr, Ssim

    lpips = Lpips(files["alexnet"], device)
    inception, video = Inception(files["inception_fid"], device), I3dLogits(files["i3d"], device)
    return {
        "ssim": (
            _compared(Ssim(), device),
            _paired(partial(structural_similarity_index_measure, data_range=1.0), device),
        ),
        "psnr": (_compared(Psnr(), device), _paired(partial(peak_signal_noise_ratio, data_range=1.0), device)),
        "lpips": (_compared(lpips, device), _paired(lambda *pair: lpips.net(*pair, normalize=True), device)),
        "fid": (_extracted(inception, device), _alone(inception.net, device)),
        "fvd": (_extracted(video, device), _by_window(video.net, device)),
    }


def _chunks(frames: np.ndarray, device: Any) -> list[Any]:
    from training.evaluation.evidence import Chunk

    points, present = np.zeros((CHUNK, 478, 3), np.float32), np.ones(CHUNK, bool)
    starts = range(0, len(frames), CHUNK)
    return [Chunk(start, frames[start : start + CHUNK], points, present, device) for start in starts]


def _compared(comparison: Any, device: Any) -> Way:
    def way(truth: np.ndarray, made: np.ndarray) -> None:
        for one, other in zip(_chunks(truth, device), _chunks(made, device), strict=True):
            comparison.compare(one, other).cpu()

    return way


def _extracted(extractor: Any, device: Any) -> Way:
    from training.evaluation.case import Case, View
    from training.evaluation.evidence import Role, Shown

    def way(truth: np.ndarray, made: np.ndarray) -> None:
        case = Case("clip", "p0", "source", View.VIDEO, len(made))
        reading = extractor.begin(Shown(case, Role.MADE, len(made), np.zeros(0, np.float32)))
        for chunk in _chunks(made, device):
            reading.feed(chunk)
        reading.finish()

    return way


def _unit(frame: np.ndarray, device: Any) -> Any:
    import torch

    return torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255


def _paired(function: Callable[..., Any], device: Any) -> Way:
    def way(truth: np.ndarray, made: np.ndarray) -> None:
        for one, other in zip(truth, made, strict=True):
            float(function(_unit(other, device), _unit(one, device)))

    return way


def _alone(net: Any, device: Any) -> Way:
    import torch

    def way(truth: np.ndarray, made: np.ndarray) -> None:
        for frame in made:
            net(torch.from_numpy(frame).to(device).permute(2, 0, 1)[None])[0].cpu()

    return way


def _by_window(net: Any, device: Any) -> Way:
    import torch
    from torch.nn import functional

    def way(truth: np.ndarray, made: np.ndarray) -> None:
        for start in range(0, len(made), 16):
            small = [
                functional.interpolate(_unit(frame, device), (224, 224), mode="bilinear") for frame in made[start : start + 16]
            ]
            net((torch.cat(small) * 2 - 1).transpose(0, 1)[None]).cpu()

    return way


if __name__ == "__main__":
    typer.run(main)
