"""`dyconv show`: a picture of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    clip: Annotated[str, typer.Argument(help="Id of a clip or segment, or of a source (its first segment).")],
    out: Annotated[str, typer.Option(help="The folder of the build.")],
    save: Annotated[Path | None, typer.Option(help="Where the PNG goes; OUT/show/CLIP.png if not given.")] = None,
) -> None:
    """Write a picture of a clip: frames with faces and names, and turns, waveforms and speech below them."""
    from dyconv.errors import UsageError
    from dyconv.report.find import find
    from dyconv.report.picture import draw_clip
    from dyconv.store import Store

    store = Store(out)
    view = find(store, clip)
    if save is None:
        if store.remote:
            raise UsageError(f"{store} is not on this machine: say where the picture goes", hint="give --save FILE.png")
        save = Path(store.root) / "show" / f"{view.clip.id}.png"
    draw_clip(view, save)
    said = f" ({view.reason})" if view.reason else ""
    typer.echo(f"{view.clip.id}: {view.state}{said}\n{save}")
