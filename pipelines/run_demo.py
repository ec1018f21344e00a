"""What `make demo` runs: a conversation with known truth goes through the whole chain and is scored against it.

    python -m pipelines.run_demo --out out/demo

The media is composed on this machine (see `pipelines.make_demo`), served from 127.0.0.1, downloaded like any other
source, built with the `demo` recipe on a local Ray, packed, scored and reported. Whatever is finished is not done again.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dyconv.cli import run_alone
from dyconv.cli.run import run_job
from dyconv.errors import DyconvError
from dyconv.runner import RunOptions

if TYPE_CHECKING:
    from rich.console import Console

SCORES = {
    "cut_recall": "hard cuts found",
    "cut_precision": "cuts that are real",
    "face_recall": "truth faces covered by the right track",
    "identity_switches": "identity switches",
    "der": "diarization error rate",
    "speaker_confusion": "speech given to the wrong person",
    "abstain_rate": "speech left to nobody",
    "bleed_db": "partner left in a voice, dB",
    "av_offset_s": "sound against picture, s",
}


def main(
    out: Annotated[Path, typer.Option(help="output folder")] = Path("out/demo"),
    backend: Annotated[str, typer.Option(help="ray or local")] = "ray",
) -> None:
    """Compose, serve, build, score and report the demo."""
    from rich.console import Console

    from dyconv.synth.serve import serve
    from pipelines.make_demo import compose

    console = Console(highlight=False)
    media = out / "media"
    console.print("[bold]composing[/] a conversation with known truth")
    truth = compose(media)
    port = _free_port(media / "port")
    with serve(media, port=port) as url:
        manifest = _manifest(out, f"{url}/conversation.mp4")
        console.print(f"[bold]building[/] {url}/conversation.mp4 with the recipe `demo` on {backend}")
        code = run_job("demo", manifest, str(out), RunOptions(backend))
    scores = _score(out, truth)
    _tell(console, out, scores)
    raise typer.Exit(code)


def _free_port(memo: Path) -> int:
    """The port of the last run if it is still free (then the source's URL is the same), else a new one."""
    wanted = int(memo.read_text()) if memo.is_file() else 0
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        memo.write_text(str(found))
        return found
    raise DyconvError("no free port on 127.0.0.1", hint="close some servers and run again")


def _manifest(out: Path, url: str) -> Path:
    path = out / "manifest.jsonl"
    row = {"id": "demo", "url": url, "licence": "demo-local", "title": "The composed demo conversation", "language": "en"}
    text = json.dumps(row) + "\n"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return path


def _score(out: Path, truth: Path) -> dict[str, object]:
    """The build against its truth; the last score where neither has changed since."""
    from dyconv.score import score
    from dyconv.store import Store, write_atomic
    from dyconv.truth import read_truth

    saved = out / "score.json"
    newest = max(path.stat().st_mtime for path in [truth, *(out / "ledger").iterdir()])
    if not saved.is_file() or saved.stat().st_mtime < newest:
        scores = score(Store(out), read_truth(truth), truth.parent)
        write_atomic(saved, json.dumps(scores, indent=2).encode() + b"\n")
        _report(out)
    return dict(json.loads(saved.read_bytes()))


def _report(out: Path) -> None:
    from dyconv.report.page import write_report
    from dyconv.store import Store

    write_report(Store(out))


def _tell(console: Console, out: Path, scores: dict[str, object]) -> None:
    from rich.table import Table

    table = Table("score", "value", "meaning", title="against the known truth")
    for name, meaning in SCORES.items():
        value = scores.get(name)
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value), meaning)
    console.print(table)
    console.print(f"look at   {out}/report.html\nshards    {out / 'shards'}\nverify    .venv/bin/dyconv check {out}")
    console.print(f"pictures  .venv/bin/dyconv show demo --out {out} --save demo.png")


if __name__ == "__main__":
    run_alone(main)
