"""How right the pipeline is, on conversations of people that none of its models saw.

    python -m pipelines.quality --out out/quality

Composes at least 40 conversations with known truth (each once), runs the `demo` recipe over them as far as the voices, and
writes `quality.json`, `quality.md` and a table. See docs/quality.md for what the numbers mean.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dyconv.cli import run_alone
from dyconv.errors import UsageError

SETS = ("full", "small")


def main(
    out: Annotated[Path, typer.Option(help="output folder")] = Path("out/quality"),
    size: Annotated[str, typer.Option("--set", help="full: 40 conversations and 6 shifted copies; small: 8 and 3")] = "full",
    active_speaker: Annotated[str | None, typer.Option("--with", help="active speaker model, such as lr_asd")] = None,
    real: Annotated[bool, typer.Option("--real/--no-real", help="also real conversations whose speakers are known")] = True,
    workers: Annotated[int, typer.Option(help="processes", min=1)] = 2,
) -> None:
    """Compose, build, score, and compare with what is wanted."""
    from rich.console import Console

    if size not in SETS:
        raise UsageError(f"no set {size!r}", hint=f"sets: {', '.join(SETS)}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    report = run_quality(out, size, active_speaker, real, workers, console)
    name = "quality" if size == "full" else f"quality-{size}"
    name = f"{name}-{active_speaker}" if active_speaker else name
    _write(out.parent if out.name == "quality" else out, name, report)
    from pipelines.quality.telling import tell

    tell(console, report)


def run_quality(out: Path, size: str, active_speaker: str | None, real: bool, workers: int, console: Any) -> dict[str, Any]:
    """The whole report, as it is written to quality.json."""
    from pipelines.quality.building import build, media_of, quality_recipe
    from pipelines.quality.composing import compose_all
    from pipelines.quality.extras import real_truths, sample_der
    from pipelines.quality.identities import cast, real_data
    from pipelines.quality.scenes import plan
    from pipelines.quality.sounds import held_out_music
    from pipelines.quality.totals import TARGETS, offsets, totals

    media = out / "media"
    people = cast(media / "sounds")
    music = held_out_music()
    scenes = plan(people, music, size)
    truths = compose_all(scenes, people, media, workers, console.print)
    recipe = quality_recipe(active_speaker)
    build_out = out / (f"build-{size}" + (f"-{active_speaker}" if active_speaker else ""))
    build(media_of(truths), build_out, recipe, workers, console)
    rows = _measured(dict(zip(scenes, truths, strict=True)), build_out)
    folder = real_data()
    reality: list[dict[str, Any]] = []
    if real and folder:
        known = real_truths(folder, media / "real")
        build({name: path for name, (path, _) in known.items()}, out / "build-real", recipe, workers, console)
        reality = _measured_real({name: truth for name, (_, truth) in known.items()}, out / "build-real")
    report: dict[str, Any] = {
        "command": " ".join(["python -m pipelines.quality", *sys.argv[1:]]),
        "about": _about(len(people.people), people.real, len(scenes), len(music), active_speaker),
        "totals": totals(rows),
        "av_offset": offsets(rows),
        "sample": sample_der(),
        "conversations": rows,
        "real": reality,
    }
    report["targets"] = [target.row(report) for target in TARGETS]
    return report


def _measured(scenes: dict[Any, Path], build_out: Path) -> list[dict[str, Any]]:
    from dyconv.store import Store
    from pipelines.quality.measuring import as_row, measure

    store = Store(build_out)
    return [as_row(scene, measure(store, truth, scene.id)) for scene, truth in scenes.items()]


def _measured_real(truths: dict[str, Path], build_out: Path) -> list[dict[str, Any]]:
    from dyconv.store import Store
    from pipelines.quality.measuring import measure, plain_row

    store = Store(build_out)
    return [plain_row(measure(store, truth, name)) for name, truth in truths.items()]


def _about(people: int, real: bool, scenes: int, music: int, active_speaker: str | None) -> str:
    who = (
        f"{people} people out of clips held out of every training"
        if real
        else f"{people} photographs with packaged telephone speech: there is no real media here (set DYCONV_REAL_DATA)"
    )
    under = f"{music} pieces of held-out music" if music else "generated noise alone (no DYCONV_CORPORA)"
    how = f", active speaker {active_speaker}" if active_speaker else ""
    return f"{scenes} composed conversations of {who}; under some of them {under}{how}."


def _write(folder: Path, name: str, report: dict[str, Any]) -> None:
    from dyconv.store import write_atomic
    from pipelines.quality.telling import markdown

    write_atomic(folder / f"{name}.json", json.dumps(report, indent=1, ensure_ascii=False).encode() + b"\n")
    write_atomic(folder / f"{name}.md", markdown(report).encode())


if __name__ == "__main__":
    run_alone(main)
