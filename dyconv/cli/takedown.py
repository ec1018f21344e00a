"""`dyconv takedown`: the next version of a release, without a source or a person."""

from __future__ import annotations

from typing import Annotated

import typer


def takedown(
    release: Annotated[str, typer.Option(help="folder or URI of the latest version, TO/VERSION")],
    source: Annotated[list[str] | None, typer.Option(help="id of a source; may be given again")] = None,
    person: Annotated[
        list[str] | None,
        typer.Option(help="id of a person in tables/people.parquet: every source the person is in goes as a whole"),
    ] = None,
    only_named: Annotated[
        bool, typer.Option("--only-named", help="keep sources that the leak test found to show the same pictures")
    ] = False,
    to: Annotated[str | None, typer.Option(help="where the new version goes; beside the release if not given")] = None,
    version: Annotated[str | None, typer.Option(help="of the new one; the next patch version if not given")] = None,
    why: Annotated[str | None, typer.Option(help="a few words without a name: they are published")] = None,
    date: Annotated[str | None, typer.Option(help="such as 2026-11-21; nothing else tells the time")] = None,
) -> None:
    """Publish the next version without what somebody does not want in it, and leave a tombstone of hashes.

    Only shards that held something of it are written anew. Sources that show the same pictures go too. Later versions keep it
    out, and so do runs that are given the new version with --tombstones.
    """
    from dyconv.release.gone import Request
    from dyconv.release.inputs import check_date
    from dyconv.release.takedown import take_down

    request = Request(source or (), person or (), why, check_date(date), copies=not only_named)
    done = take_down(release, request, to=to, version=version)
    gone = done.gone
    typer.echo(
        f"{done.where}: without {gone.told}, {gone.seconds / 3600:.3f} h; "
        f"{len(done.rewritten)} shards written anew, {len(done.removed)} gone"
    )
    if gone.copies:
        typer.echo(f"same pictures as one that was named, gone too: {', '.join(gone.copies)}")
    typer.echo(f"{done.before} still has them: remove it wherever it was published")
    typer.echo(f"for later builds: dyconv run ... --tombstones {done.where}, or tombstones.json beside the manifest")
