"""The Typer application: its commands, ``--version``, and how errors reach a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fpcodec.cli.bench import bench
from fpcodec.cli.calibrate import calibrate
from fpcodec.cli.colour import RED, painted
from fpcodec.cli.decode import decode
from fpcodec.cli.demo import demo
from fpcodec.cli.detect import detect
from fpcodec.cli.distill import distill
from fpcodec.cli.doctor import doctor
from fpcodec.cli.drift import drift
from fpcodec.cli.edge import edge
from fpcodec.cli.encode import encode
from fpcodec.cli.evaluate import evaluate
from fpcodec.cli.explain import explain
from fpcodec.cli.export import export
from fpcodec.cli.inspect import inspect
from fpcodec.cli.output import print_json
from fpcodec.cli.plan import plan
from fpcodec.cli.profiles import profiles
from fpcodec.cli.profiles_remove import remove
from fpcodec.cli.quantise import quantise
from fpcodec.cli.serve import serve
from fpcodec.cli.sweep import sweep
from fpcodec.cli.tensors import tensors
from fpcodec.cli.train import train
from fpcodec.cli.ui import ui
from fpcodec.errors import FpcodecError, InputError

USAGE_EXIT = 2
INTERRUPT_EXIT = 130
EPILOG = (
    "Exit codes: 0 done, as serve and edge are after Ctrl-C; 2 an error, one line on stderr says "
    "what to do; 130 stopped by Ctrl-C; 1 doctor found what fails, output that nobody reads, or a "
    "fault of fpcodec, with a traceback to report."
)


class OneLineErrors(TyperGroup):
    """A group whose expected errors are one line on stderr and exit code 2, no traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; the arguments are Click's."""
        try:
            result = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except FpcodecError as error:
            _fail(str(error))
        except BrokenPipeError:
            # The reader of a pipe has gone, as `| head` does; silence the flush at exit too.
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror or error}")
        except (KeyboardInterrupt, typer.Abort):
            sys.exit(INTERRUPT_EXIT)
        except Exception as error:
            # Click's usage errors; Typer brings a Click of its own in some releases, so the
            # class cannot be named.
            if not hasattr(error, "format_message"):
                raise
            message = _usage(error, error.format_message())
            if not message:  # a group alone has printed its help
                sys.exit(USAGE_EXIT)
            _fail(f"{message} (see --help)")
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result


def _usage(error: Exception, message: str) -> str:
    """Click's message, with the value where only its kind is named."""
    details = getattr(error.__cause__, "errors", None)
    if not callable(details):
        return message
    found = details()[0]
    wanted = {"int_parsing": "a whole number", "float_parsing": "a number"}.get(found["type"])
    if wanted is None:
        return f"{message}, not {found['input']!r}"
    return message.replace(
        str(getattr(error, "message", "")), f"{found['input']!r} is not {wanted}"
    )


def _fail(message: str) -> None:
    word = painted("error:", RED, sys.stderr)
    print(f"{word} {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USAGE_EXIT)


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=False,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS = {
    "Detect": (demo, ui, serve, detect, edge, encode, decode, inspect, doctor),
    "Make a profile": (tensors, export, calibrate, train, distill),
    "Measure and decide": (plan, sweep, explain, drift),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.command("eval", rich_help_panel="Measure and decide")(evaluate)
app.add_typer(bench, name="bench", rich_help_panel="Measure and decide")
app.add_typer(profiles, name="profiles", rich_help_panel="Make a profile")
profiles.command()(remove)
profiles.command()(quantise)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the release and what it runs on, for reports."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --version: as JSON.")] = False,
) -> None:
    """Split object detection over slow links: feature pyramids in a few kilobytes.

    Start with:  fpcodec demo --out demo

    With a detector of your own:

    1. fpcodec tensors model.onnx, where it can be cut

    2. fpcodec calibrate --detector SPEC --images photos --out mine, the profile

    3. fpcodec serve -p mine, on the server

    4. fpcodec detect photos/*.jpg -p mine -s HOST:50051, on the edge

    5. fpcodec eval -p mine --images val --annotations val.json, its cost
    """
    if version:
        from fpcodec.cli.version import build_facts, facts_lines

        facts = build_facts()
        print_json(facts) if as_json else print("\n".join(facts_lines(facts)))
        raise typer.Exit
    if as_json:
        raise InputError("--json here goes with --version alone; give it after the command")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
