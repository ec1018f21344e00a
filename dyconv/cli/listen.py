"""`dyconv listen`: a page to hear and see a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def listen(
    out: Annotated[str, typer.Option(help="The folder of the build.")],
    clip: Annotated[str | None, typer.Argument(help="Id of a clip or segment, or of a source (its first segment).")] = None,
    to: Annotated[Path | None, typer.Option(help="Where the page goes; OUT/listen/CLIP.html if not given.")] = None,
    all_clips: Annotated[bool, typer.Option("--all", help="Pages of many clips with an index, into the folder --to.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --all: of how many clips, kept ones first.")] = 60,
) -> None:
    """Write a page to hear and see a clip: picture, both voices and the mix, turns with confidence, measures."""
    from dyconv.errors import UsageError
    from dyconv.listen.page import write_page, write_pages
    from dyconv.report.find import find
    from dyconv.store import Store

    if (clip is None) != all_clips:
        raise UsageError("expected the id of a clip, or --all", hint="`dyconv status OUT --json` lists the ids")
    store = Store(out)
    if to is None and store.remote:
        raise UsageError(f"{store} is not on this machine: say where the page goes", hint="give --to")
    folder = Path(store.root) / "listen"
    if clip is None:
        typer.echo(write_pages(store, to or folder, limit))
        return
    view = find(store, clip)
    said = f" ({view.reason})" if view.reason else ""
    typer.echo(f"{view.clip.id}: {view.state}{said}\n{write_page(view, to or folder / f'{view.clip.id}.html')}")
