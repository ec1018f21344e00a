"""One conversation of a build against its truth: the numbers of `dyconv score`, how it ended, and how much it weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyconv.ledger import SourceLog, State, read_ledger
from dyconv.records import Clip, Drop
from dyconv.score import outcomes, score
from dyconv.store import Store
from dyconv.truth import Truth, read_truth
from pipelines.quality.scenes import Scene

OFFSETS = "av_offset_frames"
SCORES = (
    *("der", "speaker_confusion", "abstain_rate", "speaker_swaps"),
    *("si_sdr_improvement_db", "si_sdr_improvement_overlap_db", "bleed_db"),
    *("face_recall", "identity_switches", "cut_recall", "cut_precision", "av_offset_s"),
)


@dataclass(frozen=True)
class Measured:
    """What came of one source.

    Attributes:
        kept: whether `people` found a conversation in it.
        end: "kept", or the reason of the drop and its text.
        speech_s, overlap_s: seconds of the truth in which anybody, or two of the people, speak.
        scores: of `dyconv score`, those of `SCORES`.
        offsets: measured sound against lips in frames, by person or for the segment.
    """

    id: str
    kept: bool
    end: str
    reason: str | None
    speech_s: float
    overlap_s: float
    scores: Mapping[str, float | None]
    offsets: Mapping[str, float]


def measure(store: Store, truth_path: Path, source: str) -> Measured:
    """Score one source of a build."""
    truth = read_truth(truth_path)
    log = read_ledger(store)[source]
    found = score(store, truth, truth_path.parent, source)
    reached = list(outcomes(store, log, "people"))
    reason, end = _end(log)
    offsets: dict[str, float] = {}
    for outcome in reached:
        clip = outcome.clip if isinstance(outcome, Drop) else outcome
        offsets |= {name: value for name, value in clip.measures.items() if name.endswith(OFFSETS) and isinstance(value, float)}
    return Measured(
        id=source,
        kept=any(isinstance(outcome, Clip) for outcome in reached),
        end=end,
        reason=reason,
        speech_s=round(_covered(truth, 1), 3),
        overlap_s=round(_covered(truth, 2), 3),
        scores={name: found.get(name) for name in SCORES},
        offsets=offsets,
    )


def _end(log: SourceLog) -> tuple[str | None, str]:
    """Why a source (or all of its clips) went, or (None, "kept")."""
    events = [event for event in log.items().values() if event is not None]
    if any(event.state is State.KEPT for event in events):
        return None, "kept"
    last = next(event for event in events if event.state is not State.KEPT)
    return last.reason or str(last.state), f"{last.stage}: {last.reason or last.state}: {last.detail or ''}"


def _covered(truth: Truth, voices: int) -> float:
    """Seconds in which at least so many of the truth's people speak."""
    steps = sorted((time, change) for turn in truth.turns for time, change in ((turn.start, 1), (turn.end, -1)))
    total, now, before = 0.0, 0, 0.0
    for time, change in steps:
        total += (time - before) * (now >= voices)
        now, before = now + change, time
    return total


def as_row(scene: Scene, found: Measured) -> dict[str, Any]:
    """A line of quality.json."""
    return {
        "layout": scene.layout,
        "overlap": scene.overlap,
        "people": [scene.a, scene.b],
        "conditions": list(scene.conditions),
        "shift_ms": scene.shift_ms,
        **plain_row(found),
    }


def plain_row(found: Measured) -> dict[str, Any]:
    """What there is to say of a source that was not composed."""
    return {
        "id": found.id,
        "kept": found.kept,
        "end": found.end,
        "reason": found.reason,
        "speech_s": found.speech_s,
        "overlap_s": found.overlap_s,
        **{name: None if value is None else round(float(value), 4) for name, value in found.scores.items()},
        "offsets_frames": dict(found.offsets),
    }
