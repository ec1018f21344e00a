"""The measures behind `dyconv score`, on plain numbers: nothing here knows of builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOOR_DB = -100.0  # silence is said to be this low: JSON has no infinity
CEILING_DB = 100.0
CUT_TOLERANCE_S = 2 / 25 + 1e-6


@dataclass(frozen=True)
class Speech:
    """Who speaks when: seconds, and a label."""

    label: str
    start: float
    end: float


def match(weights: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column) of a weight matrix with the largest total; pairs of no weight are left out."""
    from scipy.optimize import linear_sum_assignment

    if not weights.size:
        return []
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if weights[row, column] > 0]


def cut_scores(truth: Sequence[float], found: Sequence[float]) -> dict[str, float | None]:
    """Precision, recall and 95th percentile of the error of hard cuts, each matched at most once and within two frames.

    A share of nothing is None.
    """
    distance = np.abs(np.subtract.outer(np.array(truth, float), np.array(found, float)))
    # One matched pair more always outweighs any gain in distance.
    near = np.where(distance <= CUT_TOLERANCE_S, 1.0 + (CUT_TOLERANCE_S - distance) / (1 + len(truth)), 0.0)
    errors = [distance[pair] for pair in match(near)]
    return {
        "cut_precision": len(errors) / len(found) if found else (0.0 if truth else None),
        "cut_recall": len(errors) / len(truth) if truth else None,
        "cut_error_s_p95": float(np.percentile(errors, 95)) if errors else None,
    }


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (first[2] - first[0]) * (first[3] - first[1]) + (second[2] - second[0]) * (second[3] - second[1])
    return float(width * height / (area - width * height))


def speaker_scores(truth: Sequence[Speech], found: Sequence[Speech], spans: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Diarization error rate, and the share of speech time given to the wrong label, inside `spans` (seconds).

    Both without a collar, overlap scored. The error rate maps labels in the best way, as its definition wants (NIST RT-09); the
    confusion takes labels as they stand.
    """
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate
    from pyannote.metrics.identification import IdentificationErrorRate

    def annotation(turns: Sequence[Speech]) -> Any:
        out = Annotation(uri="media")
        for number, turn in enumerate(turns):
            out[Segment(turn.start, turn.end), number] = turn.label
        return out.support()

    reference, hypothesis = annotation(truth), annotation(found)
    region = Timeline([Segment(*span) for span in spans])
    if not reference.crop(region).get_timeline().duration():
        return {"der": None, "speaker_confusion": None}
    der = DiarizationErrorRate(collar=0.0, skip_overlap=False)(reference, hypothesis, uem=region)
    parts = IdentificationErrorRate(collar=0.0, skip_overlap=False)(reference, hypothesis, uem=region, detailed=True)
    return {"der": float(der), "speaker_confusion": float(parts["confusion"] / parts["total"])}


def unattributed_share(truth: Sequence[Speech], found: Sequence[Speech]) -> float | None:
    """Share of the time in which somebody speaks in truth, in which nobody is said to speak. None without speech."""
    from pyannote.core import Segment, Timeline

    spoken = Timeline([Segment(turn.start, turn.end) for turn in truth]).support()
    given = Timeline([Segment(turn.start, turn.end) for turn in found]).support()
    total = spoken.duration()
    return float(1 - spoken.crop(given, mode="intersection").duration() / total) if total else None


def overlap_s(first: Sequence[Speech], second: Sequence[Speech]) -> float:
    """Seconds that two people's turns have in common."""
    return sum(max(0.0, min(one.end, two.end) - max(one.start, two.start)) for one in first for two in second)


def si_sdr_db(truth: np.ndarray, estimate: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio in dB, in [-100, 100]; None where the truth is silent.

    Le Roux et al., SDR - half-baked or well done?, ICASSP 2019: both signals without their mean, the truth scaled to the
    estimate by least squares.
    """
    target = truth.astype(np.float64) - truth.mean() if len(truth) else np.zeros(0)
    signal = estimate.astype(np.float64) - estimate.mean() if len(estimate) else np.zeros(0)
    energy = float(target @ target)
    if energy <= 1e-12:
        return None
    scaled = (float(signal @ target) / energy) * target
    kept, lost = float(scaled @ scaled), float(((signal - scaled) ** 2).sum())
    if kept <= 0.0:
        return FLOOR_DB
    return CEILING_DB if lost <= 0.0 else float(np.clip(10 * np.log10(kept / lost), FLOOR_DB, CEILING_DB))


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Seen:
    """A truth box at one moment, and the identity and box of every track on screen then. Boxes in the same pixels."""

    person: str
    time: float
    box: tuple[float, float, float, float]
    tracks: Mapping[str, Sequence[float]]

    def best(self, least: float = 0.5) -> str | None:
        """The identity whose box covers this one best, if any reaches `least` IoU."""
        ranked = sorted(((iou(self.box, box), name) for name, box in self.tracks.items()), reverse=True)
        return ranked[0][1] if ranked and ranked[0][0] >= least else None


def identity_map(seen: Sequence[Seen]) -> dict[str, str]:
    """Identity to truth person, one to one, so that the most truth boxes are covered."""
    people = sorted({item.person for item in seen})
    names = sorted({name for item in seen for name in item.tracks})
    covered = np.zeros((len(people), len(names)))
    for item in seen:
        for name, box in item.tracks.items():
            covered[people.index(item.person), names.index(name)] += iou(item.box, box) >= 0.5
    return {names[column]: people[row] for row, column in match(covered)}


def face_scores(groups: Sequence[Sequence[Seen]]) -> dict[str, float | int | None]:
    """Recall, switches and mean IoU; within a group (a segment) an identity means one person.

    A box is found if the track of its person's identity covers it with IoU >= 0.5. A switch is a truth person whose best
    covering identity is another one than the last time that one was found.
    """
    total = sum(len(group) for group in groups)
    if not total:
        return {"face_recall": None, "identity_switches": None, "face_iou_mean": None}
    overlaps: list[float] = []
    switches = 0
    for group in groups:
        names = {person: name for name, person in identity_map(group).items()}
        last: dict[str, str] = {}
        for item in sorted(group, key=lambda item: item.time):
            own = item.tracks.get(names.get(item.person, ""))
            if own is not None and iou(item.box, own) >= 0.5:
                overlaps.append(iou(item.box, own))
            best = item.best()
            if best is not None:
                switches += last.get(item.person, best) != best
                last[item.person] = best
    return {
        "face_recall": len(overlaps) / total,
        "identity_switches": switches,
        "face_iou_mean": float(np.mean(overlaps)) if overlaps else None,
    }
