"""The builds that INFP's small weights are trained on and measured with, made by the pipeline's own recipes.

    DYCONV_REAL_DATA=... python -m training.infp.prepare --out FOLDER

FOLDER/train and FOLDER/held_out are clips of one person (recipe `heads`) on either side of the split of `training.corpora`,
FOLDER/talks the conversations (recipe `demo`). Manifests lie beside them, and so do copies of those clips whose sound is a
file of its own. Broken off, the same command goes on where it stopped.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dyconv.cli import run_alone
from dyconv.cli.run import run_job
from dyconv.errors import UsageError
from dyconv.manifest import MAX_ID, default_id, list_media
from dyconv.runner import RunOptions
from dyconv.store import write_atomic
from training.corpora import Head, data_dir, heads

LICENCE = "demo-local"  # what the recipes take for media that are not given on
BUILDS = {"train": "heads", "held_out": "heads", "talks": "demo"}  # and the recipe of each


def sources(build: str, media: Path) -> list[Path]:
    """The video files of a build, with their sound in them; those that had to be joined are written below `media`."""
    if build == "talks":
        return list_media(data_dir() / "conversations")
    return [with_sound(head, media) for head in heads(held_out=build == "held_out")]


def with_sound(head: Head, media: Path) -> Path:
    """The head's video, or a Matroska copy of it below `media` that has the sound of its own file.

    Packets of the picture are copied, the sound is kept as PCM: nothing is lost.
    """
    if head.sound == head.video:
        return head.video
    target = media / f"{head.name}.mkv"
    if not target.exists():
        media.mkdir(parents=True, exist_ok=True)
        aside = target.with_suffix(".tmp.mkv")
        _join(head, aside)
        os.replace(aside, target)
    return target


def _join(head: Head, target: Path) -> None:
    import av

    with av.open(str(head.video)) as video, av.open(str(head.sound)) as sound, av.open(str(target), "w") as out:
        seen, heard = video.streams.video[0], sound.streams.audio[0]
        pictures = out.add_stream_from_template(seen)
        samples: Any = out.add_stream("pcm_s16le", rate=heard.rate)
        samples.layout = heard.layout
        for packet in video.demux(seen):
            if packet.dts is not None:
                packet.stream = pictures
                out.mux(packet)
        for frame in sound.decode(heard):
            out.mux(samples.encode(frame))
        out.mux(samples.encode(None))


def manifest(videos: Iterable[Path]) -> str:
    """CSV text of a manifest of these files. The file's name is the id where it can be one."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "url", "licence", "title"])
    for path in videos:
        name = path.stem if re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}", path.stem) else default_id(path.name)
        rows.writerow([name, path.absolute().as_uri(), LICENCE, path.name])
    return text.getvalue()


def prepare(out: Path, builds: Sequence[str], *, limit: int | None = None, workers: int | None = None) -> int:
    """Make these builds below `out`; returns the exit status of the worst run, as `dyconv run` has it."""
    worst = 0
    for build in builds:
        listed = out / f"{build}.csv"
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(listed, manifest(sources(build, out / "media")).encode())
        worst = max(worst, run_job(BUILDS[build], listed, str(out / build), RunOptions("local", workers, limit)))
    return worst


def command(
    out: Annotated[Path, typer.Option(help="folder for the builds; made if missing, resumed if not")],
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(BUILDS)}; may be repeated; default all")] = None,
    limit: Annotated[int | None, typer.Option(help="only the first N files of each build")] = None,
    workers: Annotated[int | None, typer.Option(help="worker processes; default one a core")] = None,
) -> None:
    """Build what INFP is trained on from the folder that DYCONV_REAL_DATA names."""
    if unknown := sorted(set(only or ()) - BUILDS.keys()):
        raise UsageError(f"no build called {unknown[0]!r}", hint=f"there are: {', '.join(BUILDS)}")
    raise typer.Exit(prepare(out, only or list(BUILDS), limit=limit, workers=workers))


def main() -> None:
    run_alone(command)


if __name__ == "__main__":
    main()
