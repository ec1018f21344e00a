"""The table of docs/faults.md, from what `make faults` found: python -m tests.faults.page out/faults.json docs/faults.md"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def rows(data: dict[str, Any]) -> list[str]:
    """Markdown lines: one a scenario, in the order of the file."""
    lines = ["| scenario | what happens | trials | runs | verdict |", "|---|---|---|---|---|"]
    for name, promise in data["promises"].items():
        trials = [trial for trial in data["trials"] if trial["name"] == name]
        if not trials:
            continue
        broken, skipped = (sum(bool(trial[word]) for trial in trials) for word in ("broken", "skipped"))
        verdict = f"**broken** in {broken}" if broken else "not shown here" if skipped == len(trials) else "kept"
        runs = sum(trial["runs"] for trial in trials)
        lines.append(f"| `{name}` | {promise} | {len(trials)} | {runs} | {verdict} |")
    kills = sum(trial["name"].startswith("kill.") for trial in data["trials"])
    seconds = sum(trial["wall_s"] for trial in data["trials"])
    cores = data["machine"]["cores"]
    told = f"{len(data['trials'])} trials, {kills} of them with SIGKILL at random moments"
    lines += ["", f"{told}; {seconds / 60:.0f} minutes of trials on {cores} cores."]
    return lines


def main(found: Path, page: Path) -> None:
    text = page.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(rows(json.loads(found.read_text()))) + f"\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
