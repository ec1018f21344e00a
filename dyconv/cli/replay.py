"""`dyconv replay`: one stage on one clip again, here, with everything it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    clip: Annotated[str, typer.Argument(help="id of a source, segment or clip, as `dyconv status` shows it")],
    stage: Annotated[str, typer.Argument(help="the stage to run again, such as tracks")],
    out: Annotated[str, typer.Option(help="output folder of the run")],
    recipe: Annotated[str | None, typer.Option(help="another recipe, to try changed settings on the same input")] = None,
    keep: Annotated[Path | None, typer.Option(help="leave what the stage writes in this folder")] = None,
) -> None:
    """Run one stage on one clip again in this process, with a full traceback where it fails.

    Nothing is written to the output folder. Exit status: 0 the stage went through (a drop is no failure), 1 it failed.
    """
    from dyconv.replay import replay as run_replay

    raise typer.Exit(run_replay(clip, stage, out, recipe, keep))
