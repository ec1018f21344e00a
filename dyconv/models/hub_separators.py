"""Where the separators of the research recipe come from: a folder on this machine, or the Hugging Face hub by `models pull`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dyconv.errors import ModelMissing
from dyconv.models.registry import Weight, weight_path

PYANNOTE, PYANNOTE_VARIABLE = "pyannote/speech-separation-ami-1.0", "DYCONV_PYANNOTE_SEPARATION"
SEPFORMER, SEPFORMER_VARIABLE = "speechbrain/sepformer-whamr16k", "DYCONV_SEPFORMER"


def hub_weight(variable: str, hub_id: str, fetch: str) -> Weight:
    """A folder of model files: the one that the environment variable names, else a place in the model cache."""
    wanted = os.environ.get(variable) or hub_id
    if Path(wanted).is_dir():
        return Weight(path=str(Path(wanted).resolve()), sha256=None, origin=f"{wanted} ({variable})")
    path = f"separators/{wanted.replace('/', '--')}"
    return Weight(path=path, sha256=None, origin=f"https://huggingface.co/{wanted}", fetch=f"{__name__}:{fetch}")


def pyannote_weight() -> Weight:
    return hub_weight(PYANNOTE_VARIABLE, PYANNOTE, "pyannote_files")


def sepformer_weight() -> Weight:
    return hub_weight(SEPFORMER_VARIABLE, SEPFORMER, "sepformer_files")


def pyannote_files(weight: Weight, target: Path) -> None:
    """Bring `config.yaml` of the pipeline, and the separation model it names as `segmentation/pytorch_model.bin`.

    Raises:
        ModelMissing: where the conditions are not accepted, there is no token, or no connection.
    """
    import yaml

    _snapshot(weight, _hub_id(weight), target, ("config.yaml", "README.md"), "pyannote_separation")
    config = yaml.safe_load((target / "config.yaml").read_text(encoding="utf-8"))
    model = str(config["pipeline"]["params"]["segmentation"])
    _snapshot(weight, model, target / "segmentation", ("pytorch_model.bin",), "pyannote_separation")


def sepformer_files(weight: Weight, target: Path) -> None:
    """Bring `hyperparams.yaml` and the checkpoints of a SpeechBrain model.

    Raises:
        ModelMissing: where there is no connection or no such model.
    """
    _snapshot(weight, _hub_id(weight), target, ("hyperparams.yaml", "*.ckpt", "README.md"), "speechbrain_sepformer")


def _hub_id(weight: Weight) -> str:
    return weight.origin.removeprefix("https://huggingface.co/")


def _snapshot(weight: Weight, hub_id: str, target: Path, files: tuple[str, ...], name: str) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    token = os.environ.get("HF_TOKEN") or None
    try:
        snapshot_download(hub_id, local_dir=target, token=token or False, allow_patterns=list(files))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        shutil.rmtree(target, ignore_errors=True)
        given = "with the token in HF_TOKEN" if token else "without a token (HF_TOKEN is not set)"
        reason = str(error).strip().splitlines()[0]
        hint = f"accept its conditions at https://huggingface.co/{hub_id} and run: HF_TOKEN=hf_... dyconv models pull {name}"
        raise ModelMissing(f"the hub did not give {hub_id} {given}: {reason}", hint=hint) from error
    shutil.rmtree(target / ".cache", ignore_errors=True)
    shutil.rmtree(weight_path(weight), ignore_errors=True)  # a folder cannot be replaced by one
