"""The page about a build: one HTML file with everything inside, which asks nothing of any network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dyconv import __version__
from dyconv.errors import ShardError, UsageError
from dyconv.funnel import StageFunnel
from dyconv.ledger import FOLDER, State
from dyconv.plan.measure import read_samples
from dyconv.report.numbers import Numbers, ended, read_numbers, source_states
from dyconv.report.plots import Bar, Histogram, bars, histogram
from dyconv.report.profile import profile, run_figure, run_profile, stages_figure
from dyconv.report.samples import dropped_samples, kept_samples
from dyconv.report.words import hours, short
from dyconv.shards.index import Shard, read_index
from dyconv.store import Store

FAILED_SHOWN = 200


@dataclass(frozen=True)
class Card:
    name: str
    value: str
    note: str


def write_report(store: Store) -> str:
    """Write `report.html` into the build and return its path in the store. The same build gives the same bytes.

    Raises:
        UsageError: if this is no build.
        StoreError: if its ledger is damaged.
    """
    if not store.exists(FOLDER):
        raise UsageError(f"{store} is no output folder of a run: it has no {FOLDER}/", hint="give the --out of `dyconv run`")
    store.write_bytes("report.html", render(store).encode())
    return "report.html"


def render(store: Store) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    numbers = read_numbers(store)
    failed = ended(numbers, State.FAILED)
    samples = read_samples(store)
    stages, last_run = profile(numbers.logs.values(), numbers.levels, samples), run_profile(samples)
    environment = Environment(
        loader=PackageLoader("dyconv.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        title=numbers.run.get("recipe", "build"),
        about=_about(numbers.run),
        version=__version__,
        cards=cards(numbers),
        funnel=numbers.funnel.stages,
        funnel_figure=funnel_figure(numbers),
        dropped_s=numbers.dropped_s,
        histograms=[(item, histogram(item)) for item in histograms(numbers) if item.values],
        layouts=_layout_figure(numbers),
        kept_samples=kept_samples(store, numbers),
        dropped_samples=dropped_samples(store, numbers),
        times=stages_figure(stages),
        stages=stages,
        work_s=sum(stage.work_s + stage.setup_s for stage in stages),
        last_run=last_run,
        last_run_figure=run_figure(last_run) if last_run else None,
        failed=[(item[0], event) for _, item, event in failed[:FAILED_SHOWN]],
        failed_more=max(0, len(failed) - FAILED_SHOWN),
        method=[_method(stage) for stage in numbers.run.get("stages", ())],
        versions=sorted((numbers.run.get("versions") or {}).items()),
        run=numbers.run,
        licences=sorted(numbers.licences.items()),
        shards=shards(store),
        lost=numbers.lost,
        hours=hours,
        short=short,
    )


def _about(run: dict[str, Any]) -> str:
    """The paragraph of a recipe that comes with the project; others are known by their stages only."""
    from dyconv import recipes

    name = run.get("recipe")
    return recipes.load(name).about if not run.get("recipe_file") and name in recipes.names() else ""


def cards(numbers: Numbers) -> list[Card]:
    """The few numbers that matter most."""
    sources, clips = source_states(numbers.logs), numbers.funnel.clips
    share = f"{numbers.kept_s / numbers.listed_s:.0%} of {hours(numbers.listed_s)}" if numbers.listed_s else "nothing came in"
    return [
        Card("sources", f"{sum(sources.values()):,}", _states(sources)),
        Card("kept", hours(numbers.kept_s), share),
        Card("clips", f"{clips[State.KEPT]:,}", _states({str(state): count for state, count in clips.items()})),
        Card("people seen", f"{numbers.people:,}", "told apart within a source"),
    ]


def _states(counts: dict[str, int]) -> str:
    order = [str(state) for state in (State.KEPT, State.DROPPED, State.FAILED, State.PENDING)]
    return ", ".join(f"{counts[state]:,} {state}" for state in order if counts.get(state)) or "none"


def funnel_figure(numbers: Numbers) -> Markup:
    """One bar a stage: hours that go on, that are dropped, that failed, and that are in no clip."""
    rows = numbers.funnel.stages
    most = max((max(row.media_in, row.media_out) for row in rows), default=0.0)
    return bars([_funnel_bar(row, numbers) for row in rows], most)


def _funnel_bar(row: StageFunnel, numbers: Numbers) -> Bar:
    seconds = dict(numbers.dropped_s.get(row.stage, {}))
    dropped = sum(length for reason, length in seconds.items() if reason in row.dropped)
    failed = sum(length for reason, length in seconds.items() if reason in row.failed)
    rest = max(0.0, row.media_in - row.media_out - dropped - failed)
    parts = [
        ("out", row.media_out, f"{hours(row.media_out)} go on"),
        ("dropped", dropped, f"{hours(dropped)} dropped"),
        ("failed", failed, f"{hours(failed)} failed"),
        ("rest", rest, f"{hours(rest)} in no clip"),
    ]
    return Bar(row.stage, parts, f"{row.entered:,} in, {row.out:,} out, {hours(row.media_out)}")


def _layout_figure(numbers: Numbers) -> Markup:
    rows = [
        Bar(name, [("out", count, f"{count:,} clips")], f"{count:,} clips") for name, count in numbers.layouts.most_common()
    ]
    return bars(rows, max(numbers.layouts.values(), default=0))


def histograms(numbers: Numbers) -> list[Histogram]:
    """The distributions of what is kept."""
    spread = numbers.spread
    return [
        Histogram("Clip duration", "seconds", spread.duration_s, "clips", low=0),
        Histogram("Face width", "pixels", spread.face_px, "people", low=0, note="Median box of each seen person of a clip."),
        Histogram("Speaking share", "share of the clip", spread.speaking, "people", low=0, high=1),
        Histogram("Overlap", "share of the clip", spread.overlap, "clips", low=0, note="Time in which both speak."),
        Histogram("Turn length", "seconds", spread.turn_s, "turns", low=0),
        Histogram("Head yaw", "degrees, right of the picture positive", spread.yaw, "frames"),
        Histogram("Head pitch", "degrees, up positive", spread.pitch, "frames"),
        Histogram("Sound against picture", "milliseconds", spread.av_offset_ms, "clips", note="Offset of what was written."),
        Histogram("Bleed", "dB", spread.bleed_db, "voices", note="Partner's level left in a voice."),
    ]


def shards(store: Store) -> dict[str, Any] | None:
    """The index in a few numbers; None where nothing is packed. A damaged index is said, not raised."""
    if not store.exists("shards/index.json"):
        return None
    try:
        index = read_index(store)
    except ShardError as error:
        return {"error": error.message}
    return {
        "clips": index.samples,
        "hours": index.hours,
        "families": [_family(name, found) for name, found in (("clips", index.clips), ("motion", index.motion)) if found],
        "bytes": sum(shard.bytes for shard in index.shards),
        "encoder": index.encoder,
        "error": None,
    }


def _family(name: str, found: Sequence[Shard]) -> dict[str, Any]:
    fields: Counter[str] = Counter()
    for shard in found:
        fields.update(shard.fields)
    samples, size = sum(shard.samples for shard in found), sum(shard.bytes for shard in found)
    return {"name": name, "tars": len(found), "samples": samples, "bytes": size, "fields": sorted(fields.items())}


def _method(stage: dict[str, Any]) -> dict[str, Any]:
    config = [(name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(stage.get("config", {}).items())]
    return {**stage, "config": config, "weights": [weight[:12] if len(weight) == 64 else weight for weight in stage["weights"]]}
