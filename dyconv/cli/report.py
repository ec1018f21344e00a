"""`dyconv report`: one HTML page about a build."""

from __future__ import annotations

from typing import Annotated

import typer


def report(out: Annotated[str, typer.Argument(help="The folder of the build.")]) -> None:
    """Write one HTML page about a build, with pictures and figures inside, to OUT/report.html."""
    from dyconv.report.page import write_report
    from dyconv.store import Store

    store = Store(out)
    typer.echo(f"{store}/{write_report(store)}")
