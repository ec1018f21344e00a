"""Networks of demucs from files, in either of its two formats, without running anything that lies in a file.

- Safetensors, as demucs' hub repositories hold them: the network's class and arguments are JSON beside the tensors.
- `SIGNATURE-CHECKSUM.th`, as demucs' own server and its local repositories hold them: a pickle, whose name carries the
  first hex digits of its sha256. The file must match its name, and torch reads it with `weights_only`, which makes
  tensors, plain containers, fractions and demucs' networks, and refuses everything else.
"""

from __future__ import annotations

import json
import os
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

from dyconv.errors import ModelMissing
from dyconv.models.registry import Weight

VARIABLE = "DYCONV_HTDEMUCS"  # names a file of weights that lies elsewhere than in the model cache
SPEECH = ("speech", "vocals")  # what a network may call it
_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
_ORIGIN = "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/955717e8-8726e21a.th"
_SHA256 = "8726e21a993978c7ba086d3872e7608d7d5bfca646ca4aca459ffda844faa8b4"  # begins as demucs names the file
_HINT = "expected a .safetensors of demucs' hub repositories, or a SIGNATURE-CHECKSUM.th of its server or of a local repository"


def published() -> Weight:
    """The published `htdemucs`: the file that `DYCONV_HTDEMUCS` names, else its place in the model cache."""
    if wanted := os.environ.get(VARIABLE):
        return Weight(path=str(Path(wanted).resolve()), sha256=None, origin=f"{_ORIGIN} ({VARIABLE})")
    return Weight(path="demucs/955717e8-8726e21a.th", sha256=_SHA256, origin=_ORIGIN, fetch="dyconv.models.fetch:https_file")


def load_network(path: Path) -> Any:
    """A demucs network with speech (or vocals) among its sources, float32, ready to use.

    Raises:
        ModelMissing: for any other file, saying what it is expected to be.
    """
    net = _from_package(path) if path.suffix == ".th" else _from_safetensors(path)
    if not set(net.sources) & set(SPEECH):
        raise ModelMissing(f"{path} takes out {', '.join(net.sources)}, expected speech or vocals among them", hint=_HINT)
    return net.float().eval()


def _from_safetensors(path: Path) -> Any:
    from demucs.hf import load_safetensors_model
    from safetensors import SafetensorError, safe_open

    from dyconv.models.sized import sized_by

    try:
        with safe_open(str(path), framework="pt") as file:
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelMissing(f"{path} is no safetensors file: {error}", hint=_HINT) from error
    if about.get("klass") not in _CLASSES or "structure" in about:  # a structure may name any class
        raise ModelMissing(
            f"{path} holds {about.get('klass', 'no network')}, expected one of {', '.join(_CLASSES)}", hint=_HINT
        )
    with safe_open(str(path), framework="pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    with sized_by(tensors, path, _HINT):
        return load_safetensors_model(path)


def _from_package(path: Path) -> Any:
    import torch
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from demucs.repo import ModelLoadingError, check_checksum
    from demucs.states import load_model

    from dyconv.models.sized import sized_by

    networks = (HTDemucs, HDemucs, Demucs)
    checksum = path.stem.rpartition("-")[2]
    if "-" not in path.stem or len(checksum) < 8:
        raise ModelMissing(f"{path} has no checksum in its name, so that nothing says what it should be", hint=_HINT)
    try:
        check_checksum(path, checksum)
        with torch.serialization.safe_globals([*networks, Fraction]):
            package = torch.load(path, "cpu", weights_only=True)
    except (ModelLoadingError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[-1] if isinstance(error, pickle.UnpicklingError) else str(error)
        raise ModelMissing(f"{path} is not read: {reason}", hint=_HINT) from error
    if not isinstance(package, dict) or package.get("klass") not in networks:
        raise ModelMissing(f"{path} holds no network, expected one of {', '.join(_CLASSES)}", hint=_HINT)
    state = package.get("state")
    with sized_by(state.values() if isinstance(state, dict) else (), path, _HINT):
        return load_model(package)


def save_network(path: Path, net: Any, kwargs: dict[str, Any]) -> None:
    """Write a network made by `demucs.htdemucs.HTDemucs(**kwargs)` in the format of demucs' hub repositories, float16."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().half().contiguous() for name, value in net.state_dict().items()}
    about = {"klass": _CLASSES[0], "args": "[]", "kwargs": json.dumps(kwargs)}
    save_file(state, str(path), metadata=about)
    path.chmod(0o644)
