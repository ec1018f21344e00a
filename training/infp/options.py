"""The options of a training's command line, for `training.train` and `pipelines/train.py` alike."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.infp.job import Job


class Stage(StrEnum):
    STAGE1 = "stage1"
    STAGE2 = "stage2"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


StageArg = Annotated[Stage, typer.Argument(help="stage1: encoder and renderer; stage2: motion from two voices")]
Data = Annotated[list[str], typer.Option(help="build to learn from (the folder or URI that holds shards/); may be given again")]
Out = Annotated[Path, typer.Option(help="folder of the training; made if missing, gone on with if it holds a checkpoint")]
Config = Annotated[str, typer.Option(help="debug, tiny128, tiny, base, or a JSON file (see docs/training.md)")]
Val = Annotated[list[str] | None, typer.Option(help="build of other people to be measured on; may be given again")]
Steps = Annotated[int | None, typer.Option(min=1, help="of the whole training, in place of the config's")]
Minutes = Annotated[float | None, typer.Option(min=0.0, help="after which to stop, with a checkpoint and weights")]
Batch = Annotated[int | None, typer.Option(min=1, help="rows of a global batch, in place of the config's")]
Seed = Annotated[int | None, typer.Option(min=0, help="of weights, data and noise, in place of the config's")]
Resume = Annotated[
    bool | None,
    typer.Option("--resume/--no-resume", help="only go on / begin anew and delete the checkpoints there; else whatever fits"),
]
Init = Annotated[
    list[Path] | None, typer.Option(help="weights to begin with (Stage 1: encoder and renderer); may be given again")
]
DeviceOpt = Annotated[Device, typer.Option(help="auto: a GPU where there is one")]
Workers = Annotated[int, typer.Option(min=0, help="processes that decode, for each process that trains")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile; by default on a GPU only")]
Renderer = Annotated[Path | None, typer.Option(help="Stage 2: renderer.safetensors, for samples to be written as video")]
LogEvery = Annotated[int, typer.Option(min=1, help="steps from one line of log.jsonl to the next")]
SaveEvery = Annotated[int, typer.Option(min=1, help="steps from one checkpoint to the next")]
SampleEvery = Annotated[int, typer.Option(min=1, help="steps from one sample and measure to the next")]
Only = Annotated[list[str] | None, typer.Option(help="pattern of source ids to learn from; may be given again")]
Without = Annotated[list[str] | None, typer.Option(help="pattern of source ids to leave out; may be given again")]
Cache = Annotated[Path | None, typer.Option(help="folder for copies of remote shards; else a temporary one")]
CacheMb = Annotated[int, typer.Option(min=1, help="memory for decoded clips, of each process that trains")]


def job_of(**asked: Any) -> Job:
    """The job of a command's options, by the names of its fields."""
    from training.infp.job import Job

    return Job(**{name: _plain(value) for name, value in asked.items() if value is not None})


def _plain(value: Any) -> Any:
    """Values that travel to other machines."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return str(value) if isinstance(value, Path | StrEnum) else value
