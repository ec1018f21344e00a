"""`dyconv models`: which models there are, and bringing their weights."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

models = typer.Typer(help="List the models, and bring their weights.", no_args_is_help=True)


@models.command("list")
def list_models() -> None:
    """Show every model: slot, name, licence, whether its weights are here, and where they come from."""
    from rich.console import Console
    from rich.table import Table

    from dyconv.models import registry
    from dyconv.models.catalogue import MODELS
    from dyconv.models.metric_networks import METRIC_NETWORKS
    from dyconv.models.slots import SLOTS

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("slot", "model", "default", "weights"):
        table.add_column(title, no_wrap=True)
    table.add_column("licence")
    table.add_column("from", overflow="fold")
    in_order = sorted(MODELS, key=lambda spec: (SLOTS.index(spec.slot), not spec.default, spec.name))
    for spec in (*in_order, *METRIC_NETWORKS):
        origins = "; ".join(dict.fromkeys(_short(weight.origin) for weight in spec.weights)) or "packaged"
        table.add_row(spec.slot, spec.name, "yes" if spec.default else "", registry.presence(spec), spec.licence, origins)
    Console(width=None if sys.stdout.isatty() else 160).print(table)  # nothing is cut off in a pipe
    typer.echo(f"\nweights lie in {registry.cache_dir()} (set DYCONV_CACHE to move it); bring them: dyconv models pull NAME")


def _short(origin: str) -> str:
    """The host of a URL; anything else as it is."""
    return origin.split("/")[2] if origin.startswith("https://") else origin


@models.command("pull")
def pull_models(
    names: Annotated[list[str] | None, typer.Argument(help="Names as `dyconv models list` shows them.")] = None,
    all_default: Annotated[bool, typer.Option("--all-default", help="Every default model.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is already here.")] = False,
) -> None:
    """Bring missing weights into the cache and check them."""
    from dyconv.errors import UsageError
    from dyconv.models import registry
    from dyconv.models.catalogue import MODELS

    wanted = list(names or []) + [spec.name for spec in MODELS if all_default and spec.default]
    if not wanted:
        raise UsageError("name a model, or give --all-default", hint="dyconv models list shows them")
    for name in dict.fromkeys(wanted):
        fetched = registry.pull(name, force=force)
        for path in fetched:
            typer.echo(f"{name}: {path}")
        if not fetched and not all_default:
            typer.echo(f"{name}: nothing to fetch")
    if all_default:
        typer.echo("the default models are here")
