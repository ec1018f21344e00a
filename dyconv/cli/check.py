"""`dyconv check`: are a build's shards what its index says, and is a release what its checksums say?"""

from __future__ import annotations

from typing import Annotated

import typer

_SHOWN = 50


def check(
    out: Annotated[str, typer.Argument(help="folder or URI of a build (the one that holds shards/) or of a release")],
    deep: Annotated[bool, typer.Option("--deep", help="decode every frame and sample, not only headers and packets")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Compare every shard, member and row of the clip table with the index. Exit status 1 on any mismatch.

    Of a release also every file with its checksum, and the tables with the shards and with each other; with --deep the leak
    test is run on what the shards hold.
    """
    import json

    from dyconv.release.check import check_release, is_release
    from dyconv.release.target import reachable
    from dyconv.shards import check as check_shards
    from dyconv.store import Store

    store = Store(out)
    with reachable(out):
        report = check_release(store, deep=deep) if is_release(store) else check_shards(store, deep=deep)
    if as_json:
        problems = [{"where": problem.where, "what": problem.what} for problem in report.problems]
        found = {"ok": report.ok, "shards": report.shards, "clips": report.clips, "bytes": report.bytes, "problems": problems}
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        for problem in report.problems[:_SHOWN]:
            typer.echo(str(problem))
        if len(report.problems) > _SHOWN:
            typer.echo(f"... and {len(report.problems) - _SHOWN} more (--json lists all)")
        verdict = "ok" if report.ok else f"{len(report.problems)} mismatches"
        typer.echo(f"{out}: {report.shards} shards, {report.clips} clips, {report.bytes / 1e6:.1f} MB: {verdict}")
    if not report.ok:
        raise typer.Exit(1)
