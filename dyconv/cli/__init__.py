"""The `dyconv` command. Each subcommand is a file here; heavy imports happen inside its function."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib import import_module

import typer

from dyconv.cli.streams import lasting_streams
from dyconv.errors import DyconvError

# name -> module:function. A command's module imports only typer at its top, so that `dyconv --help` is quick.
COMMANDS: dict[str, str] = {
    "run": "dyconv.cli.run:run",
    "status": "dyconv.cli.status:status",
    "plan": "dyconv.cli.plan:plan",
    "logs": "dyconv.cli.logs:logs",
    "replay": "dyconv.cli.replay:replay",
    "pack": "dyconv.cli.pack:pack",
    "check": "dyconv.cli.check:check",
    "audit": "dyconv.cli.audit:audit",
    "release": "dyconv.cli.release:release",
    "pull": "dyconv.cli.pull:pull",
    "rebuild": "dyconv.cli.rebuild:rebuild",
    "takedown": "dyconv.cli.takedown:takedown",
    "score": "dyconv.cli.score:score",
    "import": "dyconv.cli.import_:import_set",
    "manifest": "dyconv.cli.manifest:manifest",
    "models": "dyconv.cli.models:models",
    "doctor": "dyconv.cli.doctor:doctor",
    "show": "dyconv.cli.show:show",
    "listen": "dyconv.cli.listen:listen",
    "report": "dyconv.cli.report:report",
    "synth": "dyconv.cli.synth:synth",
    "animate": "dyconv.cli.animate:animate",
    "talk": "dyconv.cli.talk:talk",
}


def build() -> typer.Typer:
    app = typer.Typer(
        help="Conversation videos in, verified dual-track WebDataset shards out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, target in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """The entry point of the `dyconv` command."""
    guarded(build())


def run_alone(command: Callable[..., object]) -> None:
    """Run a module's only command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    guarded(app)


def guarded(app: typer.Typer) -> None:
    """Run a command line; a `DyconvError` becomes two lines and its exit code, never a traceback."""
    with lasting_streams():
        try:
            app()
        except DyconvError as error:
            _end(error)
        except OSError as error:
            from dyconv.disk import disk_error

            if told := disk_error(error, ""):
                _end(told)
            raise
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not break into the end
            print("interrupted: run the same command again to go on", file=sys.stderr)  # noqa: T201
            sys.exit(130)


def _end(error: DyconvError) -> None:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_code)
