"""`dyconv manifest`: list the media files below a folder as a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def manifest(
    folder: Annotated[Path, typer.Argument(help="Every media file below it is listed.")],
    licence: Annotated[str, typer.Option(help="Under which licence all of them may be used, e.g. own or CC-BY-4.0.")],
    out: Annotated[Path | None, typer.Option(help="CSV file to write; standard output if not given.")] = None,
) -> None:
    """List the media files below a folder as a manifest for `dyconv run`."""
    from dyconv.manifest import listing
    from dyconv.store import write_atomic

    text = listing(folder, licence, beside=out.parent if out else None)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
        typer.echo(f"{text.count(chr(10)) - 1} video files listed in {out}", err=True)
