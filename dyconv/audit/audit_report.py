"""The audit report: what was reviewed, how often the data are wrong, how far reviewers agree, and what is still to do.

One page to print (HTML, everything inside, nothing fetched), the same as Markdown, and the numbers as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv import __version__
from dyconv.audit.agreement import Agreement, agreement, pairs
from dyconv.audit.decisions import Kind, Standing, Verdict, base_of
from dyconv.audit.overlay import Annotations
from dyconv.audit.rates import ErrorRates, counts_of, error_rates, is_reviewed
from dyconv.audit.sampling import LEVEL, Sample
from dyconv.errors import DyconvError
from dyconv.records import Clip, dump
from dyconv.store import write_atomic

HTML, MARKDOWN, JSON = "audit.html", "audit.md", "audit.json"
WORDS = {
    "any": "any error",
    "rejected": "rejected",
    "swapped": "voices on the wrong faces",
    "speaker": "speech given to the wrong person",
    "turns": "turns missing or with wrong edges",
    "bleed": "partner heard in a voice",
    "cut": "cut missed, invented or in a word",
    "identity": "wrong identity",
    "sync": "sound and lips apart",
    "face": "box or crop off the face",
    "noise": "noise, music or a broken voice",
    "language": "wrong language or dubbed",
    "not_dyadic": "not two people in conversation",
    "duplicate": "duplicate",
    "other": "other",
    "taken_down": "taken down (no error)",
}
_ALWAYS = ("any", "rejected", "swapped", "speaker", "turns", "bleed", "cut", "identity")


@dataclass(frozen=True)
class Listed:
    """A clip that a reader of the report must know of."""

    clip: str
    title: str
    what: str
    note: str


@dataclass(frozen=True)
class AuditReport:
    """Everything the report tells.

    Attributes:
        overlay: version of the decisions.
        standings: clips by where they stand; those nobody looked at are open.
        left: sampled clips to review; `left_second` of them a second time.
        gone: clips with decisions that are not in the dataset.
        clips: of the dataset now; a sample may have been drawn of more or fewer.
    """

    name: str
    overlay: str
    decisions: int
    undone: int
    reviewers: tuple[tuple[str, int], ...]
    standings: dict[str, int]
    corrected: int
    rates: ErrorRates
    agreement: Agreement
    sample: Sample | None
    left: int
    left_second: int
    left_out: tuple[Listed, ...]
    stale: tuple[str, ...]
    gone: tuple[str, ...]
    clips: int

    def to_json(self) -> dict[str, Any]:
        """Plain data with the same names; of the sample only how it was drawn."""
        drawn = self.sample and {
            name: value for name, value in self.sample.to_json().items() if name not in ("clips", "strata")
        }
        return {
            **{
                name: getattr(self, name)
                for name in ("name", "overlay", "clips", "decisions", "undone", "standings", "corrected")
            },
            "reviewers": dict(self.reviewers),
            "rates": self.rates.to_json(),
            "agreement": self.agreement.to_json(),
            "sample": drawn,
            **{name: getattr(self, name) for name in ("left", "left_second")},
            "left_out": [vars(item) for item in self.left_out],
            "stale": list(self.stale),
            "gone": list(self.gone),
        }


def gather(
    clips: Iterable[Clip], annotations: Annotations, sample: Sample | None = None, *, name: str = "", level: float = LEVEL
) -> AuditReport:
    """Settle and count everything.

    Args:
        clips: the dataset as it is now.
        sample: what was drawn to review, if anything was.
        name: what the dataset is called.
        level: of the intervals.
    """
    known = {clip.id: clip for clip in clips}
    bases = {clip: base_of(record) for clip, record in known.items()}
    verdicts = {clip: verdict for clip, verdict in annotations.verdicts(bases).items() if clip in known}
    standings = counts_of(verdicts)
    standings[str(Standing.OPEN)] += len(known) - len(verdicts)
    by_reviewer: dict[str, set[str]] = {}
    for decision in annotations.decisions:
        by_reviewer.setdefault(decision.reviewer, set()).add(decision.clip)
    found = pairs(annotations, known, bases)
    twice = {pair.clip.id for pair in found}
    done = {clip for clip, verdict in verdicts.items() if is_reviewed(verdict)}
    planned = sample.clips if sample else ()
    return AuditReport(
        name=name,
        overlay=annotations.version,
        decisions=len(annotations.decisions),
        undone=sum(decision.kind is Kind.UNDO for decision in annotations.decisions),
        reviewers=tuple(sorted((reviewer, len(clips)) for reviewer, clips in by_reviewer.items())),
        standings={str(state): standings[str(state)] for state in Standing},
        corrected=sum(verdict.turns is not None or verdict.swapped is not None for verdict in verdicts.values()),
        rates=error_rates(annotations, bases, sample, level),
        agreement=agreement(found, level),
        sample=sample,
        left=sum(clip.id in known and clip.id not in done for clip in planned),
        left_second=sum(clip.second and clip.id in known and clip.id not in twice for clip in planned),
        left_out=tuple(_listed(known[clip], verdict) for clip, verdict in verdicts.items() if verdict.left_out),
        stale=tuple(clip for clip, verdict in verdicts.items() if verdict.stale),
        gone=tuple(sorted(set(annotations.by_clip) - set(known))),
        clips=len(known),
    )


def _listed(clip: Clip, verdict: Verdict) -> Listed:
    taken = verdict.state is Standing.TAKEN_DOWN
    what = "taken down" if taken else WORDS[str(verdict.reason)]
    notes = [str(verdict.reason) if taken else None, verdict.note, *(mark.note for mark in verdict.marks)]
    return Listed(clip.id, clip.source.title or "", what, "; ".join(dict.fromkeys(note for note in notes if note)))


def write_report(report: AuditReport, folder: Path) -> list[Path]:
    """Write the report's three files and return their paths. The same report gives the same bytes.

    Raises:
        DyconvError: if the folder cannot be written.
    """
    texts = {HTML: render(report, "report.html.j2"), MARKDOWN: render(report, "report.md.j2")}
    data = {name: text.encode() for name, text in texts.items()} | {JSON: dump(report.to_json()) + b"\n"}
    try:
        for name, content in data.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise DyconvError(f"{folder} cannot be written: {error.strerror}") from error
    return [folder / name for name in data]


def render(report: AuditReport, template: str) -> str:
    """The report as text; in HTML everything that others wrote is escaped, in Markdown too."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dyconv.audit"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, share=lambda value: f"{100 * value:g} %", md=markdown)
    shown = [rate for rate in report.rates.kinds if rate.found or rate.kind in _ALWAYS]
    return environment.get_template(template).render(report=report, rates=shown, words=WORDS, version=__version__)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def markdown(value: object) -> str:
    """Text for a cell of a Markdown table: nothing in it is markup, and it is one line."""
    line = " ".join(str(value).split())
    return "".join(
        f"\\{letter}" if letter in "\\`*_{}[]()#+!|~" else {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(letter, letter)
        for letter in line
    )
