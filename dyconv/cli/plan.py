"""`dyconv plan`: hours, storage and money of a build, before it is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

plan = typer.Typer(
    help="Say what a build will take: hours, storage and money, from rates measured on a finished run.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

SCALES_H = (1, 200, 10_000)
RatesOption = Annotated[
    Path | None,
    typer.Option(help="rates.json of `dyconv plan measure`, or the folder of a finished run; packaged ones if not given"),
]


@plan.callback()
def predict(
    context: typer.Context,
    manifest: Annotated[Path | None, typer.Option(help="CSV or JSONL of sources")] = None,
    recipe: Annotated[str, typer.Option(help="recipe's name or the path of a .py file")] = "demo",
    cluster: Annotated[
        str, typer.Option(help="8x16cpu64g, 8x16cpu64g@0.68spot+1x8cpu32g1gpu, local, or a YAML or JSON file")
    ] = "local",
    rates: RatesOption = None,
    prices: Annotated[Path | None, typer.Option(help="YAML or JSON: nodes, storage_gb_month, egress_gb")] = None,
    mean_minutes: Annotated[float | None, typer.Option(help="length of sources of which nothing else is known")] = None,
    limit: Annotated[int | None, typer.Option(help="only the first N rows")] = None,
    workers: Annotated[int | None, typer.Option(help="of each pool, if not as many as fit; local: of all together")] = None,
    factor: Annotated[
        list[str] | None, typer.Option(help="STAGE=TIMES or all=TIMES: so many times as fast as measured")
    ] = None,
    months: Annotated[float, typer.Option(help="for which storage is paid")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="every number")] = False,
) -> None:
    """Predict for a manifest, and beside it for 1 h, 200 h and 10,000 h of sources of the same mean length."""
    if context.invoked_subcommand is not None:
        return
    import json

    from rich.console import Console

    from dyconv import recipes
    from dyconv.errors import UsageError
    from dyconv.plan.cluster import load_cluster
    from dyconv.plan.lengths import read_lengths
    from dyconv.plan.predict import Planner, Question
    from dyconv.plan.rates import load_rates
    from dyconv.plan.show import show, to_json

    if manifest is None:
        raise UsageError("--manifest is missing", hint="dyconv plan --manifest M --recipe R --cluster 8x16cpu64g")
    for name, value in (("--limit", limit), ("--workers", workers)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, is {value}")
    if not 0 <= months < 1e4:
        raise UsageError(f"--months must be at least 0, is {months:g}")
    lengths = read_lengths(manifest, mean_minutes, limit)
    machines = load_cluster(cluster, prices)
    loaded = recipes.load(recipe)
    factors = _factors(factor or [], {stage.name for stage in loaded.stages})
    planner = Planner(load_rates(rates), loaded, machines)
    answer = planner.predict(Question(lengths.seconds, workers, factors, months))
    mean = lengths.total_s / len(lengths.seconds)
    others = []
    for hours in SCALES_H:
        count = max(1, round(3600 * hours / mean))
        others.append(planner.predict(Question([3600 * hours / count] * count, workers, factors, months)))
    if as_json:
        found = {
            "manifest": to_json(answer),
            "scales": {str(hours): to_json(each) for hours, each in zip(SCALES_H, others, strict=True)},
        }
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    show(Console(), answer, others, machines.describe(), lengths.describe())


def _factors(given: list[str], stages: set[str]) -> dict[str, float]:
    from dyconv.errors import UsageError

    found: dict[str, float] = {}
    for item in given:
        name, _, text = item.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if name not in stages | {"all"} or not 0 < value < 1e6:
            raise UsageError(
                f"--factor: expected STAGE=TIMES, found {item[:80]!r}",
                hint=f"stages: all, {', '.join(sorted(stages))}; times above 0",
            )
        found[name] = value
    return found


@plan.command()
def measure(
    out: Annotated[str, typer.Argument(help="output folder of a finished run")],
    to: Annotated[Path | None, typer.Option(help="file to write; OUT/rates.json if not given")] = None,
    note: Annotated[list[str] | None, typer.Option(help="a line to keep in the file: where and how it was measured")] = None,
) -> None:
    """Write the rates of a finished run. The file holds no names and no URLs."""
    from dataclasses import replace

    from dyconv.plan.measure import measure as measured
    from dyconv.store import Store, write_atomic

    store = Store(out)
    rates = replace(measured(store), notes=tuple(note or ()))
    if to is None:
        store.write_bytes("rates.json", rates.text().encode())
    else:
        write_atomic(to, rates.text().encode())
    for stage in rates.stages:
        line = f"{stage.fixed_s:8.3f} s an item + {stage.per_media_s:8.4f} s a second of media"
        typer.echo(f"{stage.name:<16}{line}, {stage.setup_s:6.1f} s to set up, {stage.items} items")
    typer.echo(str(to or f"{store}/rates.json"))


@plan.command()
def check(
    out: Annotated[str, typer.Argument(help="output folder of a finished run")],
    rates: RatesOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="every number")] = False,
) -> None:
    """Compare what is predicted for a run's sources with what they took.

    Without --rates every second source is measured and the others are predicted from them.
    """
    import json

    from dyconv.plan.check import compare, show
    from dyconv.store import Store

    rows = compare(Store(out), rates)
    typer.echo(json.dumps([vars(row) for row in rows]) if as_json else show(rows))
