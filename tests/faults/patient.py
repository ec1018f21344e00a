"""A run on Ray whose bounds of waiting are short.

python -m tests.faults.patient RECIPE MANIFEST OUT PATIENCE_S SILENT_S
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from dyconv import ray_runner
from dyconv.cli import guarded


def main() -> None:
    recipe, manifest, out, patience, silent = sys.argv[1:]

    def command() -> None:
        from dyconv.cli.run import run_job
        from dyconv.runner import RunOptions

        ray_runner._SILENT_S = float(silent)
        raise typer.Exit(run_job(recipe, Path(manifest), out, RunOptions("ray", patience=float(patience))))

    sys.argv[1:] = []
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    guarded(app)


if __name__ == "__main__":
    main()
