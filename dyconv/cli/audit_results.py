"""What comes of reviews: `dyconv audit sample`, `report`, `export`, `import` and `gold`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dyconv.audit.overlay import Annotations
    from dyconv.records import Clip

DECISIONS = "decisions"
Out = Annotated[str, typer.Argument(help="folder or URI of a build or release")]
OverlayOption = Annotated[
    Path | None, typer.Option(help="the reviewers' decisions; annotations/<name of OUT>/overlay.sqlite if not given")
]


def sample(
    out: Out,
    to: Annotated[Path | None, typer.Option(help="file; annotations/<name of OUT>/sample.json if not given")] = None,
    half_width: Annotated[float, typer.Option(help="wanted interval: this much to each side")] = 0.05,
    expected: Annotated[float, typer.Option(help="expected rate of errors")] = 0.1,
    level: Annotated[float, typer.Option(help="confidence level of the interval")] = 0.95,
    size: Annotated[int | None, typer.Option(help="this many clips, whatever the interval")] = None,
    second: Annotated[float, typer.Option(help="share that gets a blind second review")] = 0.2,
    by: Annotated[list[str] | None, typer.Option(help="stratify by layout, confidence, language, source (all)")] = None,
    seed: Annotated[int, typer.Option(help="another seed draws other clips")] = 0,
) -> None:
    """Draw a stratified random sample of clips to review, as large as the wanted interval asks for."""
    from dyconv.audit.overlay import annotations_folder
    from dyconv.audit.population import stream_clips
    from dyconv.audit.sampling import FIELDS, FILE_NAME, draw, read_sample, write_sample
    from dyconv.errors import UsageError
    from dyconv.store import Store

    target = to or annotations_folder(out) / FILE_NAME
    drawn = draw(
        stream_clips(Store(out)),
        seed=seed,
        half_width=half_width,
        expected=expected,
        level=level,
        second_share=second,
        by=by or FIELDS,
        size=size,
    )
    if target.exists() and read_sample(target) != drawn:
        raise UsageError(f"{target} holds another sample", hint="reviews may be under way: give another file with --to")
    write_sample(drawn, target)
    seconds = sum(clip.second for clip in drawn.clips)
    typer.echo(
        f"{len(drawn.clips)} of {drawn.population} clips in {len(drawn.strata)} strata, {seconds} of them twice: {target}"
    )


def report(
    out: Out,
    overlay: OverlayOption = None,
    sample: Annotated[Path | None, typer.Option(help="annotations/<name of OUT>/sample.json if it is there")] = None,
    to: Annotated[Path | None, typer.Option(help="folder; annotations/<name of OUT>/report if not given")] = None,
    level: Annotated[float, typer.Option(help="confidence level of the intervals")] = 0.95,
) -> None:
    """Write error rates with intervals, agreement of reviewers and what is left to do: to print, as Markdown, as JSON."""
    from dyconv.audit.audit_report import gather, percent, write_report
    from dyconv.audit.overlay import annotations_folder
    from dyconv.audit.population import stream_clips
    from dyconv.audit.sampling import FILE_NAME, check_level, read_sample
    from dyconv.store import Store

    check_level(level)
    folder = annotations_folder(out)
    found = sample or (folder / FILE_NAME if (folder / FILE_NAME).is_file() else None)
    drawn = read_sample(found) if found else None
    made = gather(stream_clips(Store(out)), _decisions(out, overlay), drawn, name=folder.name, level=level)
    paths = write_report(made, to or folder / "report")
    rate = made.rates.of("any")
    if rate.rate is None:
        typer.echo("no clip has been reviewed yet")
    else:
        interval = f"{percent(rate.low)} to {percent(rate.high)}"
        typer.echo(f"{rate.reviewed} clips reviewed: {percent(rate.rate)} have an error ({interval})")
    for path in paths:
        typer.echo(str(path))


def export(
    out: Out,
    overlay: OverlayOption = None,
    to: Annotated[Path | None, typer.Option(help="folder; annotations/<name of OUT> if not given")] = None,
    form: Annotated[str, typer.Option("--format", help="decisions, rttm, eaf or label-studio")] = DECISIONS,
) -> None:
    """Write the decisions as JSONL and Parquet, or the turns as they left them for other annotation programs."""
    from dyconv.audit.interchange.files import write_labels
    from dyconv.audit.overlay import annotations_folder, write_export
    from dyconv.audit.population import stream_clips
    from dyconv.store import Store

    _check_format(form)
    annotations = _decisions(out, overlay)
    if form == DECISIONS:
        folder = write_export(annotations, to or annotations_folder(out))
        typer.echo(f"{len(annotations.decisions)} decisions, version {annotations.version[:16]}: {folder}")
        return
    store = Store(out)
    paths = write_labels(form, stream_clips(store), annotations, to or annotations_folder(out) / form, store)
    typer.echo(f"{len(paths)} file{'s' if len(paths) != 1 else ''} in {to or annotations_folder(out) / form}")


def import_(
    out: Out,
    sources: Annotated[list[Path], typer.Argument(help="overlays or exports of them; or files of another format")],
    overlay: OverlayOption = None,
    form: Annotated[str, typer.Option("--format", help="decisions, rttm, eaf or label-studio")] = DECISIONS,
    reviewer: Annotated[str | None, typer.Option(help="who made them, where the files do not say so")] = None,
    speaker: Annotated[list[str] | None, typer.Option(help="NAME=p0: who a speaker, tier or label of the files is")] = None,
    second: Annotated[bool, typer.Option("--second", help="they are blind second reviews")] = False,
) -> None:
    """Take over decisions of another overlay, or turns of another annotation program. Nothing is ever lost or doubled."""
    from dyconv.audit.interchange.files import read_labels, speakers
    from dyconv.audit.interchange.taking import take
    from dyconv.audit.overlay import Annotations, Overlay, default_overlay, read_overlay
    from dyconv.errors import UsageError

    _check_format(form)
    clips = _clips(out)
    path = overlay or default_overlay(out)
    if form == DECISIONS:
        found = Annotations.gathered(*(read_overlay(source).decisions for source in sources))
        new = Overlay(path).merge(found)
        typer.echo(f"{new} new decisions in {path}")
        _tell(sorted(found.by_clip.keys() - clips.keys()), "are not in this build; their decisions are kept")
        return
    if not reviewer:
        raise UsageError("somebody made these labels", hint="say who: --reviewer NAME")
    names = speakers(speaker or ())
    labels = [label for source in sources for label in read_labels(form, source, names)]
    into = Overlay(path)
    taken = take(labels, clips, into.annotations(), reviewer, form, round=2 if second else 1)
    new = into.add(*taken.decisions)
    typer.echo(f"{new} new decisions in {path}, nothing new of {len(taken.unchanged)} clips")
    _tell(taken.stale, "changed since the labels were made; the decisions are kept and do not count")
    _tell(taken.unknown, "are not in this build; nothing was taken of them")


def gold(
    out: Out,
    overlay: OverlayOption = None,
    to: Annotated[Path | None, typer.Option(help="folder; annotations/<name of OUT>/gold if not given")] = None,
) -> None:
    """Write what was accepted or corrected as truth, one file a source, for `dyconv score OUT --truth FILE`."""
    from dyconv.audit.gold import gold as find_gold
    from dyconv.audit.gold import write_gold
    from dyconv.audit.overlay import annotations_folder
    from dyconv.errors import UsageError
    from dyconv.store import Store

    found = list(find_gold(Store(out), _decisions(out, overlay)))
    if not found:
        raise UsageError("no clip of this build was accepted", hint="review some first: dyconv audit OUT")
    paths = write_gold(found, to or annotations_folder(out) / "gold")
    for item, path in zip(found, paths, strict=True):
        typer.echo(f"{path}: {item.clips} clips, {item.corrected} of them corrected")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `dyconv audit`."""
    for name, command in (("sample", sample), ("report", report), ("export", export), ("import", import_), ("gold", gold)):
        app.command(name)(command)


def _decisions(out: str, overlay: Path | None) -> Annotations:
    from dyconv.audit.overlay import default_overlay, read_overlay

    return read_overlay(overlay or default_overlay(out))


def _clips(out: str) -> dict[str, Clip]:
    from dyconv.audit.population import stream_clips
    from dyconv.store import Store

    return {clip.id: clip for clip in stream_clips(Store(out))}


def _check_format(form: str) -> None:
    from dyconv.audit.interchange import FORMATS
    from dyconv.errors import UsageError

    if form not in (DECISIONS, *FORMATS):
        raise UsageError(f"no format called {form!r}", hint=f"there are: {', '.join((DECISIONS, *FORMATS))}")


def _tell(clips: list[str], what: str) -> None:
    if clips:
        typer.echo(f"{len(clips)} clips ({', '.join(clips[:5])}{', ...' if len(clips) > 5 else ''}) {what}")
