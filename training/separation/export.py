"""Write weights for `target_tasnet`: `python -m training.separation.export --state state.pt --out model.safetensors`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def main() -> None:
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="a checkpoint of training.separation.train")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    state = torch.load(given.state, weights_only=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half() if value.is_floating_point() else value for name, value in state["mean"].items()}
    save_file(weights, given.out, metadata={"shape": state["shape"], "steps": str(state["step"])})


if __name__ == "__main__":
    main()
