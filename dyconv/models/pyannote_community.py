"""pyannote.audio's published diarization pipeline (community-1 or another) from a folder on this machine.

The hub asks everybody to accept conditions once; `dyconv models pull pyannote_community` then brings the files with the token
in HF_TOKEN. `DYCONV_PYANNOTE` names another hub id, or a folder that is there already, which is used where it lies.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dyconv.errors import ModelMissing
from dyconv.models.pyannote_diarizer import PipelineDiarizer
from dyconv.models.registry import Weight, weight_path

HUB_ID = "pyannote/speaker-diarization-community-1"
_FILES = ("config.yaml", "*/pytorch_model.bin", "*/*.npz", "README.md")


def hub_weight() -> Weight:
    """The folder of the pipeline: `DYCONV_PYANNOTE` if that is one, else its place in the model cache."""
    wanted = os.environ.get("DYCONV_PYANNOTE") or HUB_ID
    if Path(wanted).is_dir():
        return Weight(path=str(Path(wanted).resolve()), sha256=None, origin=f"{wanted} (DYCONV_PYANNOTE)")
    return Weight(
        path=f"pyannote/{wanted.replace('/', '--')}",
        sha256=None,
        origin=f"https://huggingface.co/{wanted} (accept its conditions, set HF_TOKEN)",
        fetch="dyconv.models.pyannote_community:snapshot",
    )


def snapshot(weight: Weight, target: Path) -> None:
    """Bring the pipeline's files from the hub into the folder `target`.

    Raises:
        ModelMissing: where the conditions are not accepted, there is no token, or no connection.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    hub_id = weight.origin.split()[0].removeprefix("https://huggingface.co/")
    token = os.environ.get("HF_TOKEN") or None
    wanted = f"accept the conditions at https://huggingface.co/{hub_id}, make a token at https://huggingface.co/settings/tokens"
    hint = f"{wanted} and run: HF_TOKEN=hf_... dyconv models pull pyannote_community"
    try:
        snapshot_download(hub_id, local_dir=target, token=token or False, allow_patterns=list(_FILES))
    except (GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        shutil.rmtree(target, ignore_errors=True)
        given = "with the token in HF_TOKEN" if token else "without a token (HF_TOKEN is not set)"
        reason = str(error).strip().splitlines()[0]
        raise ModelMissing(f"the hub did not give {hub_id} {given}: {reason}", hint=hint) from error
    shutil.rmtree(target / ".cache", ignore_errors=True)
    shutil.rmtree(weight_path(weight), ignore_errors=True)  # a folder cannot be replaced by one


class PyannoteCommunity(PipelineDiarizer):
    """Args: the pipeline's folder. step: how far apart the windows are, as a share of their length; the config's own if None.

    Raises:
        ModelMissing: where the folder does not hold such a pipeline.
    """

    def __init__(self, folder: Path, *, step: float | None = None) -> None:
        from dyconv.models.pyannote_load import pipeline_folder, quiet_import

        quiet_import()
        options = {"segmentation_batch_size": 8, "embedding_batch_size": 24}
        super().__init__(pipeline_folder(folder, **options, **({"segmentation_step": step} if step else {})))
