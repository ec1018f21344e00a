"""pyannote.audio's models and pipelines from files that need not be trusted.

pyannote's own loaders unpickle checkpoints without limits. Here a checkpoint is read with `weights_only=True`, with the few
plain classes such files hold allowed by name, the architecture is made from its hyper-parameters, and the pipeline's class
gets finished models. Our own weights are safetensors and need no unpickling at all.
"""

from __future__ import annotations

import os
import pickle
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyconv.errors import ModelMissing

if TYPE_CHECKING:
    from pyannote.audio import Model
    from pyannote.audio.core.plda import PLDA
    from pyannote.audio.core.task import Specifications
    from pyannote.audio.pipelines import SpeakerDiarization

ARCHITECTURES = "pyannote.audio.models."
PIPELINE = "pyannote.audio.pipelines.SpeakerDiarization"
# Classes of plain data that Lightning and pyannote put into checkpoints; making one of them runs nothing.
_PLAIN = frozenset(
    (
        *("pyannote.audio.core.task.Specifications", "pyannote.audio.core.task.Problem", "pyannote.audio.core.task.Resolution"),
        *("torch.torch_version.TorchVersion", "collections.OrderedDict", "builtins.set", "builtins.slice"),
        *("lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict"),
        *("lightning.pytorch.utilities.parsing.AttributeDict", "pytorch_lightning.utilities.parsing.AttributeDict"),
        *("builtins.int", "builtins.dict", "builtins.list", "collections.defaultdict"),
    )
)
# What old checkpoints tell of the training that made them: an empty object is put in its place, and it is not read.
_FORGOTTEN = frozenset(
    (
        *("omegaconf.listconfig.ListConfig", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
        *("omegaconf.nodes.AnyNode", "typing.Any", "pyannote.audio.core.model.Introspection"),
    )
)


class _Forgotten:
    """Stands for an object of a class that is not needed."""

    def __setstate__(self, state: object) -> None:
        pass


def quiet_import() -> None:
    """Import pyannote.audio with its telemetry off and without its warning about torchcodec, which is never used here."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyannote.audio  # noqa: F401


def specifications(kind: str, values: dict[str, Any]) -> Specifications:
    """What a model was trained for: `segmentation` (powerset of speakers, by frame) or `embedding` (one vector a chunk)."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    if kind == "embedding":
        return Specifications(
            problem=Problem.REPRESENTATION,
            resolution=Resolution.CHUNK,
            duration=values["duration"],
            min_duration=values["min_duration"],
        )
    return Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=values["duration"],
        min_duration=values["duration"],
        classes=[f"speaker#{index + 1}" for index in range(values["speakers"])],
        powerset_max_classes=values["at_once"],
        permutation_invariant=True,
    )


def built(architecture: str, hyper_parameters: dict[str, Any], made_for: Any, state: dict[str, Any]) -> Model:
    """A pyannote model of this architecture (`module.Class` below pyannote.audio.models) with these weights, in eval mode.

    Raises:
        ModelMissing: where the architecture is not pyannote's own, or the weights are of another one.
    """
    module, _, name = architecture.rpartition(".")
    if not module.startswith(ARCHITECTURES):
        raise ModelMissing(f"the checkpoint asks for {architecture}", hint=f"only classes below {ARCHITECTURES} are made")
    from pyannote.audio import Model as AnyModel

    kind = getattr(import_module(module), name, None)
    if not isinstance(kind, type) or not issubclass(kind, AnyModel):
        raise ModelMissing(f"the checkpoint asks for {architecture}", hint="which is no network of pyannote")
    model = kind(**hyper_parameters)
    model.specifications = made_for
    model.setup()
    state = {key: value for key, value in state.items() if not key.startswith(("loss_func.", "validation_metric."))}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelMissing(f"the weights do not fit {architecture}: {str(error).splitlines()[0]}") from error
    return model.eval()


def checkpoint(path: Path) -> Model:
    """A model from a pyannote checkpoint (`pytorch_model.bin`), read without running anything in it.

    Raises:
        ModelMissing: where there is none, it is damaged, or it holds more than weights and plain data.
    """
    import torch

    if not path.is_file():
        raise ModelMissing(f"no pyannote checkpoint at {path}", hint="a folder with segmentation/ and embedding/ was expected")
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelMissing(f"{path} is not a checkpoint: {error}", hint="fetch it again") from error
    refused = sorted(set(named) - _PLAIN - _FORGOTTEN)
    if refused:
        raise ModelMissing(f"{path} holds code ({', '.join(refused)})", hint="only weights and plain data are read")
    allowed: list[Any] = [(_Forgotten if name in _FORGOTTEN else _named(name), name) for name in named]
    with torch.serialization.safe_globals(allowed):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    about = loaded["pyannote.audio"]
    architecture = f"{about['architecture']['module']}.{about['architecture']['class']}"
    hyper_parameters = dict(loaded.get("hyper_parameters", {}))
    return built(architecture, hyper_parameters, about["specifications"], loaded["state_dict"])


def _named(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def pipeline(
    segmentation: Model, embedding: Model, parameters: dict[str, Any], plda: PLDA | None = None, **options: Any
) -> SpeakerDiarization:
    """pyannote.audio's `SpeakerDiarization` of two finished models, with the hyper-parameters of its steps set."""
    from pyannote.audio.core.plda import PLDA as Plda
    from pyannote.audio.pipelines import SpeakerDiarization

    class NoPlda(Plda):
        """The pipeline asks for a PLDA even where its clustering needs none."""

        def __init__(self) -> None:
            pass

    made = SpeakerDiarization(segmentation=segmentation, embedding=embedding, plda=plda or NoPlda(), **options)
    made.instantiate(parameters)
    return made


def pipeline_folder(folder: Path, **options: Any) -> SpeakerDiarization:
    """The pipeline of a folder as the hub has it: config.yaml, segmentation/, embedding/ and, for VBx, plda/.

    Args:
        folder: a snapshot of pyannote/speaker-diarization-community-1, or what `training.diarization.export` writes.
        options: arguments of `SpeakerDiarization` that are to differ from the config's.

    Raises:
        ModelMissing: where something is missing or is not such a pipeline.
    """
    import yaml
    from pyannote.audio.core.plda import PLDA as Plda

    config_file = folder / "config.yaml"
    if not config_file.is_file():
        raise ModelMissing(f"no pyannote pipeline in {folder}", hint="a folder with config.yaml was expected")
    config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    name = config.get("pipeline", {}).get("name")
    if name not in (PIPELINE, "pyannote.audio.pipelines.speaker_diarization.SpeakerDiarization"):
        raise ModelMissing(f"{config_file} is of {name}", hint=f"a config of {PIPELINE} was expected")
    given = {**config["pipeline"].get("params", {}), **options}
    parts = {key: _part(folder, given.pop(key, f"$model/{key}")) for key in ("segmentation", "embedding", "plda")}
    for key in ("token", "cache_dir", "legacy"):
        given.pop(key, None)
    plda = Plda.from_pretrained(parts["plda"]) if (parts["plda"] / "plda.npz").is_file() else None
    segmentation, embedding = (checkpoint(parts[key] / "pytorch_model.bin") for key in ("segmentation", "embedding"))
    return pipeline(segmentation, embedding, config.get("params", {}), plda, **given)


def _part(folder: Path, named: Any) -> Path:
    """The folder that `$model/<name>` of a config means."""
    if not isinstance(named, str) or not named.startswith("$model/"):
        raise ModelMissing(f"{folder / 'config.yaml'} names {named}", hint="only parts inside the folder, $model/..., are read")
    return folder / named.removeprefix("$model/")
