"""The command line of the evaluation: finds the protocols, gives each the common options, runs one and writes its results."""

import functools
import importlib
import inspect
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from evaluation.runner import pages, results
from evaluation.runner.context import Context
from evaluation.runner.parts import executor_for
from evaluation.runner.protocols import protocols, unwrapped
from tfdefense._suggest import did_you_mean

_HELP = """The protocols of the papers, and benchmarks. Each writes evaluation/results/NAME-SET.json, from which the tables in
docs/results are made; quick runs go to evaluation/runs."""


def _common(
    dataset: Annotated[str, typer.Option(help="The data set.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A short run to see that it works; not a result.")] = False,
    samples: Annotated[int | None, typer.Option(help="Samples in place of the protocol's own number.", min=1)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are; else $TFDEFENSE_DATA.")] = None,
    output: Annotated[Path | None, typer.Option(help="Directory to write to in place of the default one.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the parts of the run and the cores.", min=1)] = 1,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that works on the parts, such as auto.")] = None,
):
    """The options of every protocol."""


def execute(name, module, *, dataset, quick, samples, data_dir, output, workers=1, ray=None, **own):
    """Runs a protocol and writes what it found; a protocol that adds no rows writes nothing."""
    known = module.DATASETS
    dataset = dataset or known[0]
    if dataset not in known:
        raise ValueError(f"`{name}` knows the data sets {', '.join(known)}. Received {dataset!r}.")
    if quick and output and output.resolve() == results.RESULTS:
        raise ValueError(f"`--output` of a quick run must not be {output}. Leave it out, or leave out `--quick`.")
    usual = results.ROOT / module.OUTPUT if hasattr(module, "OUTPUT") else results.RESULTS
    importlib.import_module("tfdefense.layers")  # Keras must know them before a protocol opens a network that has one.
    directory = output or (results.UNTRACKED if quick else usual)
    context = Context(name, dataset, quick, samples, data_dir, directory, results.UNTRACKED / "parts")
    context.options = _typed(samples=samples, **own)
    started = time.perf_counter()
    with executor_for(workers, ray) as context.executor:
        module.run(context, **own)
    if not context.rows:
        return None
    path = results.write(context, time.perf_counter() - started, directory)
    context.forget_parts()
    print(f"Written to {path}", file=sys.stderr)
    if directory.resolve() == results.RESULTS:
        pages.write()
    return path


def _typed(**options):
    """Options as they are typed. Paths name places on one machine and decide nothing."""
    words = []
    for name, value in options.items():
        name = name.replace("_", "-")
        if isinstance(value, bool):
            words += [] if value else [f"--no-{name}"]
        elif value is not None and not isinstance(value, Path):
            words.append(f"--{name} {value}")
    return " ".join(words)


def _command(name):
    """The command of a protocol: the common options and those that its `run` declares."""
    module = importlib.import_module(protocols()[name][0])
    common = inspect.signature(_common).parameters
    own = {key: value for key, value in inspect.signature(module.run).parameters.items() if key != "context"}
    dataset = common["dataset"].replace(
        default=module.DATASETS[0],
        annotation=Annotated[str, typer.Option(help=f"One of: {', '.join(module.DATASETS)}.")],
    )
    parameters = {**common, "dataset": dataset, **own}

    @functools.wraps(_common)
    def command(**options):
        try:
            execute(name, module, **options)
        except (ValueError, FileNotFoundError) as error:  # the second: data that are not here
            print(error, file=sys.stderr)
            raise typer.Exit(2) from None

    command.__doc__ = unwrapped(module.__doc__ or "")
    command.__annotations__ = {key: value.annotation for key, value in parameters.items()}
    keyword_only = [value.replace(kind=inspect.Parameter.KEYWORD_ONLY) for value in parameters.values()]
    command.__signature__ = inspect.Signature(keyword_only)
    return command


def render():
    """Make the tables in docs/results and the README anew from the files in evaluation/results."""
    try:
        print("\n".join(f"Written to {path}" for path in pages.write()), file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    found = protocols()
    asked = arguments[0] if arguments else "--help"
    if not asked.startswith("-") and asked not in {*found, "results"}:
        hint = did_you_mean(asked, [*found, "results"])
        print(f"A protocol is one of {', '.join(found)}. Received {asked!r}.{hint}", file=sys.stderr)
        raise SystemExit(2)
    app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False)
    for name, (_, line) in found.items():
        # only the one that is asked for is imported: the list must come at once
        app.command(name, help=line if name != asked else None)(_command(name) if name == asked else lambda: None)
    app.command("results")(render)
    app(arguments, prog_name="python -m evaluation")
