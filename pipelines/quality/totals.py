"""Adds up what was measured, and holds it against what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dyconv.score_voices import mean_energy_db
from pipelines.quality.identities import OWN_OFFSETS

Row = dict[str, Any]
SEEN_TOGETHER = ("two-shot", "side", "stacked", "pip")
WITHIN_FRAMES = 1.0
FRAME_MS = 40


def group(rows: Sequence[Row]) -> dict[str, Any]:
    """Totals of some conversations, shares weighted by seconds of speech.

    `speaker_confusion`, `der` and `abstain_rate` are over conversations that were kept; `abstain_with_drops` counts all the
    speech of a dropped one as given to nobody.
    """
    kept = [row for row in rows if row["kept"]]
    dropped: dict[str, int] = {}
    for row in rows:
        if not row["kept"]:
            dropped[row["reason"]] = dropped.get(row["reason"], 0) + 1
    everything = [{**row, "abstain_rate": row["abstain_rate"] if row["kept"] else 1.0} for row in rows]
    return {
        "conversations": len(rows),
        "kept": len(kept),
        "dropped": dict(sorted(dropped.items())),
        "speech_s": round(sum(row["speech_s"] for row in rows), 1),
        "speaker_confusion": weighted(kept, "speaker_confusion", "speech_s"),
        "abstain_rate": weighted(kept, "abstain_rate", "speech_s"),
        "abstain_with_drops": weighted(everything, "abstain_rate", "speech_s"),
        "der": weighted(kept, "der", "speech_s"),
        "speaker_swaps": sum(int(row["speaker_swaps"] or 0) for row in kept),
        "si_sdr_improvement_overlap_db": weighted(kept, "si_sdr_improvement_overlap_db", "overlap_s"),
        "bleed_db": _bleed(kept),
    }


def weighted(rows: Sequence[Row], name: str, by: str) -> float | None:
    """Mean of what is known, weighted; None of nothing."""
    known = [(float(row[name]), float(row[by])) for row in rows if row[name] is not None and row[by] > 0]
    total = sum(weight for _, weight in known)
    return round(sum(value * weight for value, weight in known) / total, 4) if total else None


def _bleed(rows: Sequence[Row]) -> float | None:
    found = mean_energy_db([row["bleed_db"] for row in rows], [row["speech_s"] - row["overlap_s"] for row in rows])
    return None if found is None else round(found, 2)


def groups(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Totals of all unshifted conversations, by layout, by overlap and by condition."""
    plain = [row for row in rows if not row["shift_ms"]]
    out = {"all": group(plain)}
    for layout in dict.fromkeys(row["layout"] for row in plain):
        out[f"layout {layout}"] = group([row for row in plain if row["layout"] == layout])
    for share in sorted({row["overlap"] for row in plain}):
        out[f"overlap {share:.1f}"] = group([row for row in plain if row["overlap"] == share])
    out["clean"] = group([row for row in plain if not row["conditions"]])
    for condition in sorted({name for row in plain for name in row["conditions"]}):
        out[condition] = group([row for row in plain if condition in row["conditions"]])
    return out


def offsets(rows: Sequence[Row]) -> dict[str, Any]:
    """A/V offset of talking tracks: of those as they are, and of copies whose sound was shifted.

    A clip may be out of sync as it came (`OWN_OFFSETS`): what is measured is right within a frame of the own offset of either
    person, as it is not asked here which clip p0 is of. What a shifted copy should show is its shift on top of either, or of
    what the unshifted conversation showed.
    """
    unshifted = [row for row in rows if not row["shift_ms"]]
    native = {(row["layout"], *row["people"], name): value for row in unshifted for name, value in tracks(row)}
    plain = [value for row in unshifted for _, value in tracks(row)]
    own = [_error(row, value) for row in unshifted for _, value in tracks(row)]
    shifted, errors = 0, []
    for row in rows:
        if not row["shift_ms"]:
            continue
        shifted += 1
        want = row["shift_ms"] / FRAME_MS
        off = [_error(row, value - want, native.get((row["layout"], *row["people"], name))) for name, value in tracks(row)]
        errors += [{"id": row["id"], "shift_frames": want, "errors": [round(value, 2) for value in off]}]
    found = sum(bool(item["errors"]) and all(abs(value) <= WITHIN_FRAMES for value in item["errors"]) for item in errors)
    return {
        "tracks": len(plain),
        "within_a_frame": _share_within(own),
        "within_a_frame_of_zero": _share_within(plain),
        "shifted": shifted,
        "shifts_found": found,
        "shifted_copies": errors,
    }


def _error(row: Row, value: float, native: float | None = None) -> float:
    """A measured offset less the nearest of what it may be: either clip's own, or what was measured without a shift."""
    may_be = [OWN_OFFSETS.get(name, 0.0) for name in row["people"]] + ([] if native is None else [native])
    return min((value - one for one in may_be), key=abs)


def _share_within(values: Sequence[float]) -> float | None:
    return round(sum(abs(value) <= WITHIN_FRAMES for value in values) / len(values), 4) if values else None


def tracks(row: Row) -> list[tuple[str, float]]:
    """Offsets by person; of the segment where no person has one."""
    own = [(name, value) for name, value in row["offsets_frames"].items() if name.startswith(("p0.", "p1."))]
    return sorted(own) or sorted(row["offsets_frames"].items())


@dataclass(frozen=True)
class Target:
    """Something that is wanted: `what` is at most (or at least) `bound`."""

    what: str
    bound: float
    at_most: bool
    value: Callable[[dict[str, Any]], float | None]

    def row(self, report: dict[str, Any]) -> dict[str, Any]:
        """A line of the table; `met` is None where nothing was measured."""
        value = self.value(report)
        met = None if value is None else (value <= self.bound if self.at_most else value >= self.bound)
        short = None if value is None or met else round(abs(value - self.bound), 4)
        return {
            "what": self.what,
            "wanted": f"{'<=' if self.at_most else '>='} {self.bound:g}",
            "found": value,
            "met": met,
            "short_by": short,
        }


def _total(name: str, which: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda report: report["totals"].get(which, {}).get(name)


def _shifts_found(report: dict[str, Any]) -> float | None:
    found = report["av_offset"]
    return found["shifts_found"] / found["shifted"] if found["shifted"] else None


TARGETS = (
    Target("speaker confusion, both on screen", 0.03, True, _total("speaker_confusion", "both on screen")),
    Target("speech left to nobody, both on screen", 0.10, True, _total("abstain_rate", "both on screen")),
    Target("speaker confusion, alternating shots", 0.06, True, _total("speaker_confusion", "layout cuts")),
    Target("p0 and p1 change places within a clip", 0, True, _total("speaker_swaps", "all")),
    Target("SI-SDR improvement in overlap, dB", 8.0, False, _total("si_sdr_improvement_overlap_db", "all")),
    Target("bleed elsewhere, dB", -20.0, True, _total("bleed_db", "all")),
    Target("talking tracks with A/V offset within a frame", 0.95, False, lambda report: report["av_offset"]["within_a_frame"]),
    Target("injected A/V shifts found within a frame", 1.0, False, _shifts_found),
    Target("DER of the default diarizer, pyannote's sample", 0.15, True, lambda report: report["sample"].get("der")),
)


def totals(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """`groups`, and those in which both people are on screen throughout."""
    together = [row for row in rows if row["layout"] in SEEN_TOGETHER and not row["shift_ms"]]
    return {**groups(rows), "both on screen": group(together)}
