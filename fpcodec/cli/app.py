"""The Typer application: its commands, ``--version``, and how errors reach a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fpcodec.cli.bench import bench
from fpcodec.cli.calibrate import calibrate
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
from fpcodec.cli.inspect import inspect
from fpcodec.cli.plan import plan
from fpcodec.cli.profiles import profiles
from fpcodec.cli.quantise import quantise
from fpcodec.cli.serve import serve
from fpcodec.cli.sweep import sweep
from fpcodec.cli.train import train
from fpcodec.errors import FpcodecError

USAGE_EXIT = 2
INTERRUPT_EXIT = 130


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
            _fail(f"{error.format_message()} (see --help)")
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(USAGE_EXIT)


app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    no_args_is_help=False,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo, serve, detect, edge, encode, decode, inspect, calibrate, train, distill, sweep, plan,
    explain, drift, doctor,
):  # fmt: skip
    app.command()(command)
app.command("eval")(evaluate)
app.add_typer(bench, name="bench")
profiles.command()(quantise)
app.add_typer(profiles, name="profiles")


def _show_version(wanted: bool) -> None:
    if wanted:
        from fpcodec import __version__

        typer.echo(f"fpcodec {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the release."),
    ] = False,
) -> None:
    """Split object detection over slow links: feature pyramids in a few kilobytes.

    Start with:  fpcodec demo --out demo
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
