"""The application that the commands are added to, and the guard around each."""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer

from tfdefense import __version__
from tfdefense._renamed import renamed_options
from tfdefense.cli._attacks import ATTACKS
from tfdefense.cli._console import one_line, tell

app = typer.Typer(
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
    help='Classifiers that can say "none of these", and attacks that know it.',
    epilog="Start with:  tfdefense info model.keras",
)

# Of all that is wrong with a command line; who defines it changes with typer's version.
_Usage: Any = typer.BadParameter.__base__


def _version(wanted: bool):
    if wanted:
        print(f"tfdefense {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
):
    if context.invoked_subcommand is None:
        print(context.get_help())


def command(example):
    """Adds a function to the program, as a command of its name. The example stands below its help."""

    def add(function):
        return app.command(function.__name__.replace("_", "-"), epilog=f"Example:  {example}")(guarded(function))

    return add


def guarded(function):
    """Turns what a user did wrong into one line on stderr and exit code 2, and keeps TensorFlow quiet."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _show_warning
                return function(*args, **kwargs)
        except KeyboardInterrupt:
            tell("Stopped. What was not finished has not been written.")
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, _Usage):
            raise
        except Exception as error:
            if os.environ.get("TFDEFENSE_TRACEBACK") == "1":
                traceback.print_exc()
            tell(f"error: {_explained(error, kwargs.values())}")
            raise typer.Exit(2) from None

    return call


def _explained(error, values):
    """The sentence of an error that was foreseen. Any other is a parser's own: its kind, and the files that it may be about."""
    if isinstance(error, ValueError | OSError | ImportError) and not isinstance(error, UnicodeError):
        return one_line(error)
    files = [value for value in values if isinstance(value, str) and os.path.exists(value)]
    about = f" Files: {', '.join(files)}." if files else ""
    if isinstance(error, MemoryError):
        return f"the memory does not suffice.{about} Take fewer or smaller samples."
    kind = type(error).__name__
    said = "" if one_line(error) == kind else f": {one_line(error)[:300]}"
    return f"unexpected {kind}{said}.{about} This is a bug: please report it with the traceback that TFDEFENSE_TRACEBACK=1 shows."


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if f"{os.sep}tfdefense{os.sep}" in filename or str(message).startswith(tuple(ATTACKS.values())):
        tell(f"warning: {one_line(message)}")


def main() -> NoReturn:
    """The `tfdefense` program: what is wrong with the command line itself is one line too."""
    try:
        arguments = renamed_options(sys.argv[1:], tell, keep="cache", unaware="oblivious", through="surrogate")
        code = app(arguments, standalone_mode=False, prog_name="tfdefense")
    except _Usage as error:
        path = getattr(error.ctx, "command_path", "tfdefense")
        tell(f"error: {one_line(error.format_message())} See: {path} --help")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        tell("Stopped.")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
