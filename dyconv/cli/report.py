"""`dyconv report`: one HTML page about a build, or about the data set in a build or a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    out: Annotated[str, typer.Argument(help="The folder of the build, or a release.")],
    dataset: Annotated[bool, typer.Option("--dataset", help="of a build: the page about its data, as for a release")] = False,
    to: Annotated[Path | None, typer.Option(help="HTML file of the data's page; beside a release, in a build")] = None,
) -> None:
    """Write one HTML page, with pictures and figures inside.

    About a build: how it was made, to OUT/report.html. About a release, or with --dataset: hours, people, turns, response
    times, heads, expressions, quality and sync of the data, samples, and published data sets beside it.
    """
    from dyconv.release.check import is_release
    from dyconv.store import Store

    store = Store(out)
    if dataset or to or is_release(store):
        from dyconv.report.release_page import default_path, write_release_page

        typer.echo(str(write_release_page(store, to or default_path(store))))
        return
    from dyconv.report.page import write_report

    typer.echo(f"{store}/{write_report(store)}")
