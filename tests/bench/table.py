"""The bench's numbers as tables: on the terminal, and as Markdown for the docs."""

from __future__ import annotations

from typing import Any

Row = tuple[str, str, str]
_PEERS = {"exact": "exact, our preset", "exact_own_preset": "exact, its own preset", "keyframe": "keyframe mode"}


def tables(results: dict[str, Any]) -> list[Any]:
    """All tables, for the terminal."""
    from rich.table import Table

    found = []
    for title, names, body in _all(results):
        table = Table(*names, title=title, title_justify="left")
        for row in body:
            table.add_row(*row)
        found.append(table)
    return found


def markdown(results: dict[str, Any]) -> str:
    """The same as Markdown."""
    parts = []
    for title, names, body in _all(results):
        lines = [f"**{title}**", "", _line(names), _line(["---"] * len(names)), *map(_line, body)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def _all(results: dict[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """(title, columns, rows) of each table that has something in it."""
    title = f"bench, {results['machine']['cores']} cores"
    found: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = [
        (title, ("measured", "found", "wanted"), [*rows(results)])
    ]
    peers, whole = results.get("peers", {}), results.get("overhead")
    if "video2dataset" in peers:
        names = (
            "12 clips, 2 cuts each",
            "wall s",
            "processor s",
            "clips",
            "cut error, frames",
            "foreign frames",
            "A/V error, frames",
            "lost s",
        )
        runs = {
            "dyconv": peers["ours"],
            **{f"video2dataset, {_PEERS[name]}": run for name, run in peers["video2dataset"].items()},
        }
        found.append(("beside video2dataset 1.3.0", names, [_errors(name, run) for name, run in runs.items()]))
        dirty = peers["dirty"]["files"]
        body: list[tuple[str, ...]] = [(name, row["ours"], row["video2dataset"]) for name, row in dirty.items()]
        found.append(("dirty set", ("file", "dyconv", "video2dataset, exact"), body))
    if whole:
        names = ("stage", "chain s", "bare s", "chain processor s", "bare processor s", "frames decoded / in the file")
        body = [
            (name, *(f"{row[key]:.2f}" for key in ("chain_s", "bare_s", "chain_cpu_s", "bare_cpu_s")), _decoded(whole, name))
            for name, row in whole["stages"].items()
        ]
        found.append((f"overhead of the default chain, {whole['media_s']:.0f} s of 720p, one worker", names, body))
    return found


def _errors(name: str, run: dict[str, Any]) -> tuple[str, ...]:
    clips = f"{run['clips']} of {run['clips_wanted']}"
    wrong = (
        f"{run['cut_error_frames_max']:g}",
        str(run["foreign_frames"]),
        f"{run['av_offset_frames_max']:.2f}",
        f"{run['lost_s']:.1f}",
    )
    return (name, f"{run['wall_s']:.1f}", f"{run['cpu_s']:.1f}", clips, *wrong)


def _decoded(whole: dict[str, Any], stage: str) -> str:
    return ", ".join(f"{row['file']} {row['decoded']} / {row['frames']}" for row in whole["decoded"] if row["stage"] == stage)


def peer_rows(peers: dict[str, Any]) -> list[Row]:
    """Their seconds over ours, and how many of the dirty files each got wrong."""
    what = "video2dataset 1.3.0, {} / dyconv"
    if "unavailable" in peers:
        return [(what.format("exact"), peers["unavailable"], f">= {peers['wanted_ratio']:g}")]
    out = []
    for name, run in peers["video2dataset"].items():
        found = (
            f"{run['ratio']:.2f} ({run['wall_s']:.1f} s / {peers['ours']['wall_s']:.1f} s), processor {run['cpu_ratio']:.2f}"
        )
        out.append((what.format(_PEERS[name]), found, f">= {peers['wanted_ratio']:g}" if name != "keyframe" else ""))
    wrong, count = peers["dirty"]["wrong"], len(peers["dirty"]["files"])
    found = f"dyconv {wrong['ours']} of {count}, video2dataset {wrong['video2dataset']} of {count}"
    return [*out, ("dirty files that end wrongly", found, "0")]


def overhead_rows(whole: dict[str, Any]) -> list[Row]:
    """The whole chain over its parts, and the frames it decodes."""
    found = f"{whole['ratio']:.2f} ({whole['chain_s']:.1f} s / {whole['bare_s']:.1f} s), processor {whole['cpu_ratio']:.2f}"
    decoded = sum(row["decoded"] for row in whole["decoded"])
    most = max((row["decoded"] / row["frames"] for row in whole["decoded"] if row["frames"]), default=0.0)
    return [
        ("default chain / its decoding, models and encoding bare", found, f"<= {whole['wanted_ratio']}"),
        ("frames decoded, in all; by one stage of one file, times", f"{decoded}; {most:.2f}", "<= 1"),
    ]


def shard_rows(shards: dict[str, Any]) -> list[Row]:
    """Reading against WebDataset, writing against tarfile."""
    names = {"read": "shards: read and verified / plain webdataset", "read_again": "shards: read again / plain webdataset"}
    names["write"] = "shards: packed / tarfile and fsync"
    out = []
    for key, name in names.items():
        row = shards[key]
        found = f"{row['ratio']:.2f} ({row['ours_mb_s']:.0f} / {row['plain_mb_s']:.0f} MB/s), processor {row['cpu_ratio']:.2f}"
        out.append((name, found, f">= {row['wanted_ratio']}" if "wanted_ratio" in row else ""))
    return out


def rows(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, wanted) for the table."""
    out = []
    if cuts := results.get("cuts"):
        found = (
            f"{cuts['ratio']:.2f} ({cuts['ffmpeg_s']:.1f} s / {cuts['ours_s']:.1f} s, {cuts['x_real_time']:.0f} x real time)"
        )
        out.append(("one-pass ffmpeg / scenes + normalize + clips + pack", found, f">= {cuts['wanted_ratio']}"))
        found = f"{cuts['cpu_ratio']:.2f} ({cuts['ffmpeg_cpu_s']:.1f} s / {cuts['ours_cpu_s']:.1f} s)"
        out.append(("the same in processor time", found, ""))
        out.append(("clips found", f"{cuts['clips']}", f"{cuts['clips_wanted']}"))
        out.append(("cut error, frames (largest)", f"{cuts['cut_error_frames_max']:g}", "<= 1"))
        out.append(("frames of another shot in a clip", f"{cuts['foreign_frames']}", "0"))
        out.append(("sound against picture, frames (largest)", f"{cuts['av_offset_frames_max']:.2f}", "<= 1"))
    if peers := results.get("peers"):
        out += peer_rows(peers)
    if chain := results.get("chain"):
        spent = f"{chain['media_s']:.0f} s in {chain['wall_s']:.1f} s, {chain['cpu_s']:.0f} s of processor"
        found = f"{chain['x_real_time']:.2f} x real time ({spent})"
        out.append(("whole default chain, 720p two-shot, 2 processes", found, f">= {chain['wanted_x_real_time']} x"))
    if whole := results.get("overhead"):
        out += overhead_rows(whole)
    if speech := results.get("speech"):
        spent = f"{speech['media_s']:.0f} s in {speech['wall_s']:.1f} s, {speech['cpu_s']:.0f} s of processor"
        found = f"{speech['x_real_time']:.2f} x real time ({spent})"
        out.append(("people + separate, 720p two-shot, 2 processes", found, f">= {speech['wanted_x_real_time']} x"))
        peaks = ", ".join(f"{length} {peak:.0f} MB" for length, peak in speech["peak_mb"].items())
        out.append(("memory of people + separate, peak", peaks, "flat"))
    if shards := results.get("shards"):
        out += shard_rows(shards)
    if memory := results.get("memory"):
        peaks = ", ".join(f"{int(count):,} clips {peak:.0f} MB" for count, peak in memory["peak_mb"].items())
        out.append(("driver memory, peak", f"{peaks} ({memory['kb_per_clip']:.1f} KB a clip)", "flat"))
    if rerun := results.get("rerun"):
        found = f"{rerun['seconds']:.2f} s"
        out.append((f"re-run with nothing to do, {rerun['sources']:,} sources", found, f"< {rerun['wanted_s']:.0f} s"))
    if shown := results.get("help"):
        out.append(("dyconv --help", f"{shown['seconds']:.2f} s", f"< {shown['wanted_s']} s"))
    if grown := results.get("scale"):
        from tests.bench import scale

        out += scale.rows(grown)
    if planned := results.get("plan"):
        parts = ("stages", "bytes", "clock")
        found = ", ".join(f"{what} {planned[f'{what}_error']:+.0%}" for what in parts)
        out.append(
            ("plan: predicted / found, half of the sources from the other", found, f"within {planned['wanted_error']:.0%}")
        )
    if pictures := results.get("evaluator"):
        every = pictures["metrics"]["all"]
        found = f"{every['ratio']:.1f} ({every['batched']:.1f} / {every['plain']:.1f} frames/s on {pictures['device']})"
        out.append(("evaluator's picture metrics / a plain loop", found, f">= {pictures['wanted_ratio']} on a GPU"))
    return out
