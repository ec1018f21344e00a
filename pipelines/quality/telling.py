"""Tables of a quality report, for the terminal and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = (
    ("conversations", "n"),
    ("kept", "kept"),
    ("speaker_confusion", "confusion"),
    ("abstain_rate", "abstain"),
    ("abstain_with_drops", "abstain, drops too"),
    ("der", "DER"),
    ("speaker_swaps", "swaps"),
    ("si_sdr_improvement_overlap_db", "SI-SDRi overlap"),
    ("bleed_db", "bleed dB"),
    ("dropped", "dropped"),
)
_SHARES = ("speaker_confusion", "abstain_rate", "abstain_with_drops", "der")
_ROWS = (
    *(("id", "conversation"), ("overlap", "overlap"), ("speaker_confusion", "confusion"), ("abstain_rate", "abstain")),
    *(
        ("der", "DER"),
        ("speaker_swaps", "swaps"),
        ("si_sdr_improvement_overlap_db", "SI-SDRi overlap"),
        ("bleed_db", "bleed dB"),
    ),
    *(("offsets_frames", "A/V frames"), ("conditions", "with"), ("end", "end")),
)


def shown(name: str, value: Any) -> str:
    """A value as a reader wants it."""
    if value is None:
        return "-"
    if name in _SHARES and isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown('', item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return str(value)


def _tables(report: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of each table."""
    marks = {True: "met", False: "missed", None: "not measured"}
    targets = [
        [row["what"], row["wanted"], shown("", row["found"]), marks[row["met"]], shown("", row["short_by"])]
        for row in report["targets"]
    ]
    groups = [[name, *(shown(key, group[key]) for key, _ in _COLUMNS)] for name, group in report["totals"].items()]
    out = [
        ("against what is wanted", ["what", "wanted", "found", "", "short by"], targets),
        ("by layout, overlap and condition", ["conversations", *(title for _, title in _COLUMNS)], groups),
    ]
    for title, rows in (("each conversation", report["conversations"]), ("real conversations with an RTTM", report["real"])):
        if rows:
            out.append((title, [head for _, head in _ROWS], [[shown(key, row.get(key)) for key, _ in _ROWS] for row in rows]))
    return out


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    lines = ["# Quality", "", report["about"], "", f"Command: `{report['command']}`", ""]
    for title, header, rows in _tables(report):
        lines += [f"## {title[0].upper()}{title[1:]}", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
        lines.append("")
    offset = {name: value for name, value in report["av_offset"].items() if name != "shifted_copies"}
    lines += ["## A/V offset", "", shown("", offset), ""]
    lines += [f"- {item['id']}: shifted by {item['shift_frames']:g} frames, errors {shown('', item['errors'])}"
              for item in report["av_offset"]["shifted_copies"]]  # fmt: skip
    lines += ["", "## pyannote's sample", "", shown("", report["sample"]), ""]
    return "\n".join(lines)


def tell(console: Console, report: dict[str, Any]) -> None:
    """The targets and the totals on the terminal."""
    from rich.table import Table

    for title, header, rows in _tables(report)[:2]:
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(report["about"])
