"""`dyconv audit`: people look at what a build made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from dyconv.cli.audit_results import OverlayOption, register


class _ServeFirst(TyperGroup):
    """`dyconv audit OUT` is `dyconv audit serve OUT`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["serve", *args]
        return super().parse_args(ctx, args)


audit = typer.Typer(
    cls=_ServeFirst,
    no_args_is_help=True,
    help="People look at what was made. `dyconv audit OUT` starts the app.",
    rich_markup_mode=None,
)


@audit.command()
def serve(
    out: Annotated[str, typer.Argument(help="folder or URI of a build or a release")],
    overlay: OverlayOption = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="a drawn sample, whose clips come first; that of `dyconv audit sample OUT` if there is one"),
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="your name; if not given, each page asks")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="second review: nothing of the first is shown")] = False,
    host: Annotated[str, typer.Option(help="address to bind; anything but this machine's own wants the token to read")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8756,
    allow_host: Annotated[list[str] | None, typer.Option(help="another name the server is asked under")] = None,
) -> None:
    """Review clips in the browser: see, hear, accept, reject, correct. Every decision is written at once."""
    from dyconv.audit.guard import is_loopback
    from dyconv.audit.overlay import annotations_folder, default_overlay
    from dyconv.audit.sampling import FILE_NAME
    from dyconv.audit.server import Settings, serve

    target = overlay or default_overlay(out)
    if sample is None and (usual := annotations_folder(out) / FILE_NAME).is_file():
        sample = usual

    def say(address: str, clips: int) -> None:
        typer.echo(f"{clips} clips of {out}; decisions go to {target}\nopen {address}\n(stop with ctrl-c)")
        if not is_loopback(host):
            typer.echo("others can reach this address: whoever has the token may look and decide, and nothing is encrypted")

    serve(Settings(out, target, sample, reviewer, blind, host, port, tuple(allow_host or ())), say)


register(audit)
