"""`dyconv release`: a build becomes a published dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def release(
    out: Annotated[str, typer.Argument(help="folder or URI of a build (the one that holds shards/), or of a release")],
    version: Annotated[str, typer.Option(help="three numbers, such as 1.0.0; one that is out is refused")],
    to: Annotated[str, typer.Option(help="folder, s3://... or hf://datasets/OWNER/NAME; the release is TO/VERSION")],
    kind: Annotated[str, typer.Option(help="full, or recipe-only: everything but the media")] = "full",
    name: Annotated[str | None, typer.Option(help="of the dataset; the last folder of TO if not given")] = None,
    ratios: Annotated[str, typer.Option(help="share of the hours of each split")] = "train=0.8,validation=0.1,test=0.1",
    seed: Annotated[int, typer.Option(help="decides which component of sources goes into which split")] = 0,
    splits: Annotated[
        Path | None, typer.Option(help="CSV with columns source,split: prescribed, then tested for leaks")
    ] = None,
    overlay: Annotated[Path | None, typer.Option(help="decisions of an audit, to be applied")] = None,
    rates: Annotated[Path | None, typer.Option(help="JSON with error rates of an audit, for the card")] = None,
    identity: Annotated[str | None, typer.Option(help="face recogniser that holds across sources, by name")] = None,
    voice_limit: Annotated[float, typer.Option(help="cosine from which on two voices are one person")] = 0.88,
    no_voices: Annotated[bool, typer.Option("--no-voices", help="do not compare voices; the card says so")] = False,
    workers: Annotated[int, typer.Option(min=1, help="processes that look at clips for the leak test")] = 1,
    date: Annotated[str | None, typer.Option(help="for card and changelog; nothing else tells the time")] = None,
) -> None:
    """Publish a build: splits that share nobody, shards, tables, data card, Croissant, checksums, changelog.

    The leak test must pass, or nothing is published.
    """
    from dataclasses import replace

    from rich.console import Console

    from dyconv.release.build import Options, make_release
    from dyconv.release.inputs import check_date, read_kind, read_rates, read_splits
    from dyconv.release.leaks import Limits
    from dyconv.release.splits import parse_ratios
    from dyconv.store import Store

    options = Options(
        name=name,
        kind=read_kind(kind),
        ratios=parse_ratios(ratios),
        seed=seed,
        splits=read_splits(splits) if splits else None,
        limits=replace(Limits(), voice=voice_limit),
        voices=not no_voices,
        identity=identity,
        workers=workers,
        date=check_date(date),
        rates=read_rates(rates) if rates else None,
    )
    if overlay:
        from dyconv.audit.overlay import read_overlay

        options = replace(options, annotations=read_overlay(overlay))
    console = Console(stderr=True)
    made = make_release(Store(out), to, version, options, console=console if console.is_terminal else None)
    totals = made.about["totals"]
    shares = ", ".join(f"{split} {one['clips']}" for split, one in made.about["splits"]["made"].items())
    typer.echo(
        f"{made.where}: {totals['clips']} clips ({shares}), {totals['hours']:.3f} h, {totals['sources']} sources, "
        f"{totals['people']} people; {len(made.about['leaks']['found'])} links joined before splitting"
    )
