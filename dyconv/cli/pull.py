"""`dyconv pull`: a release, or a part of it, onto this disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pull(
    ref: Annotated[str, typer.Argument(help="a release: folder, s3://.../1.0.0, hf://datasets/OWNER/NAME[@v1.0.0]")],
    to: Annotated[Path, typer.Argument(help="folder to put it in")],
    only: Annotated[list[str] | None, typer.Option(help="clip:ID, shard:NAME, split:NAME or tables; may be repeated")] = None,
) -> None:
    """Copy a release, or only a part of it to try. Broken off, the same command goes on; every file is verified.

    What is pulled reads like a release: `open_shards(TO)` and `dyconv check TO` work on it.
    """
    from dyconv.release.pull import pull as pull_release
    from dyconv.release.target import reachable

    with reachable(f"{ref} or {to}"):
        done = pull_release(ref, to, only or ())
    typer.echo(f"{done.where}: {done.shards} shards, {done.clips} clips; {done.bytes / 1e6:.1f} MB were read")
