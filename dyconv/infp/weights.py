"""Where the weights of an agent lie: the reference weights that come with the project, or a folder of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dyconv.bounds import parse_json
from dyconv.errors import ModelMissing, UsageError
from dyconv.models.registry import Weight, weight_path
from dyconv.store import sha256_of

_ORIGIN = "trained here: python -m training.train"
ENCODER = Weight(
    path="infp_encoder/model.safetensors",
    sha256="0453bf6d5e5cd7230c3651c18fe35d3ad1d2c9ec31b001ec6d0d1e0b68459e27",
    origin=_ORIGIN,
    packaged=True,
)
RENDERER = Weight(
    path="infp_renderer/model.safetensors",
    sha256="e9682ca9a3b0ff9acd0d3d1ef4d51621079093472aef61fb2fc8af9ab2a76d0b",
    origin=_ORIGIN,
    packaged=True,
)
STAGE2 = Weight(
    path="infp_stage2/model.safetensors",
    sha256="b56c2f8d8b40b80fc1d4742413cc31e57fcbd1de63e30a5d7d63a18fb518e426",
    origin=_ORIGIN,
    packaged=True,
)
_MAKE = "train them: python -m training.train stage1|stage2 --config tiny --data ... --out ..., then give --weights FOLDER"


class WeightFiles(NamedTuple):
    """The three files of an agent; `stage2` is None where there is none: then portraits can be driven by video only."""

    encoder: Path
    renderer: Path
    stage2: Path | None


def reference() -> WeightFiles:
    """The weights that come with the project.

    Raises:
        ModelMissing: where they are not there, or are not the files they should be.
    """
    return WeightFiles(_checked(ENCODER), _checked(RENDERER), _checked(STAGE2))


def _checked(weight: Weight) -> Path:
    path = weight_path(weight)
    if not path.is_file():
        raise ModelMissing(f"expected the reference weights {path}, found no such file", hint=f"install again, or {_MAKE}")
    if weight.sha256 and sha256_of(path) != weight.sha256:
        raise ModelMissing(f"{path} is not the file that came with this project", hint=f"bring it back: git checkout -- {path}")
    return path


def in_folder(folder: Path) -> WeightFiles:
    """The weights in a folder or its direct subfolders, told by what their headers say, not by their names.

    Raises:
        ModelMissing: where encoder or renderer are not there.
        UsageError: where there is no such folder, or more than one file of a kind.
    """
    if not folder.is_dir():
        raise UsageError(f"expected a folder of weights, found no folder {folder}", hint="give --weights FOLDER")
    kinds: dict[str, list[Path]] = {"encoder": [], "renderer": [], "stage2": []}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        for kind in _parts(path):
            kinds[kind].append(path)
    for kind, paths in kinds.items():
        if len(paths) > 1:
            found = ", ".join(str(path.relative_to(folder)) for path in paths)
            raise UsageError(f"expected one file with {kind} in {folder}, found {found}", hint="keep one of them there")
    if lacks := [kind for kind in ("encoder", "renderer") if not kinds[kind]]:
        raise ModelMissing(f"expected {' and '.join(lacks)} of INFP Stage 1 in {folder}, found none", hint=_MAKE)
    return WeightFiles(kinds["encoder"][0], kinds["renderer"][0], next(iter(kinds["stage2"]), None))


def _parts(path: Path) -> tuple[str, ...]:
    """What of an agent a safetensors file holds; nothing for files of other things."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            told = parse_json((file.metadata() or {}).get("dyconv", "{}"))
        form = told.get("format") if isinstance(told, dict) else None
        if form == "dyconv.infp.stage2":
            return ("stage2",)
        return tuple(part for part in ("encoder", "renderer") if form == "dyconv.infp.stage1" and part in told.get("parts", ()))
    except (SafetensorError, OSError, ValueError, TypeError):
        return ()
