"""The program `edgevit`: its commands, and the one place where an error becomes a line and an exit status.

0: done. 1: a check failed. 2: bad input or usage. 130: interrupted before there was a result. A user's error is one
line on standard error; only a bug shows a traceback. Each command is a file of `edgevit/commands/`: parse, call
`edgevit.api`, show.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from edgevit import __version__
from edgevit.commands.bench import bench
from edgevit.commands.build import build
from edgevit.commands.calibrate import calibrate
from edgevit.commands.doctor import doctor
from edgevit.commands.evaluate import evaluate
from edgevit.commands.export import export
from edgevit.commands.info import info
from edgevit.commands.listing import listing
from edgevit.commands.predict import predict
from edgevit.commands.train import train
from edgevit.commands.verify import verify
from edgevit.errors import EdgevitError

_INTERRUPTED = 130  # what typer makes of KeyboardInterrupt, and says nothing


def _examples(*lines: str) -> str:
    """The end of a help page; the backspace keeps its lines from being joined."""
    return "\b\nExamples:\n" + "\n".join(f"  edgevit {line}" for line in lines)


app = typer.Typer(
    name="edgevit",
    help="Deploy recursive and token-merging Vision Transformers to the edge.",
    epilog="Every command takes --json and --help. "
    "Exit status: 0 done, 1 a check failed, 2 bad input or usage, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list", epilog=_examples("list", "list models"))(listing)
app.command("doctor", epilog=_examples("doctor", "doctor d/topk --target jetson-orin"))(doctor)
app.command("info", epilog=_examples("info steel-recursive", "info d/topk"))(info)
app.command(
    "export",
    epilog=_examples(
        "export steel-recursive --output d/topk",
        "export steel-recursive --routing mask --selection threshold --checkpoint runs/a/checkpoint.safetensors",
        "export tome/deit_small_patch16_224 --schedule 13 --checkpoint mine.pth --num-classes 5",
        "export my_package.models:build --input-size 224 --output d/mine",
    ),
)(export)
app.command("calibrate", epilog=_examples("calibrate d/adaptive data/steel --output d/calibrated"))(calibrate)
app.command("build", epilog=_examples("build d/topk", "build d/rtx --target rtx"))(build)
app.command("verify", epilog=_examples("verify d/topk"))(verify)
app.command("predict", epilog=_examples("predict d/topk part.png", "predict d/topk pictures --overlay seen"))(predict)
app.command(
    "bench",
    epilog=_examples(
        "bench d/dense d/topk",
        "bench d/dense d/topk --data pictures --profile --output r.json --html r.html",
        "bench d/topk --scenario paced --period-ms 50 --deadline-ms 40",
        "bench d/topk --baseline old.json --max-slowdown 5% --strict",
        "bench --compare orin.json thor.json",
    ),
)(bench)
app.command(
    "train",
    epilog=_examples("train steel-recursive data/steel", "train steel-recursive data/steel --resume --calibrate"),
)(train)
app.command(
    "eval",
    epilog=_examples("eval d/topk data/steel", "eval runs/a/checkpoint.safetensors data/steel --confusion c.png"),
)(evaluate)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"edgevit {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name; the process's own by default.

    Returns:
        The exit status.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # cancels a job, stops a container: files are kept as after Ctrl-C
    try:
        status = app(arguments, prog_name="edgevit", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(_usage(error), 2)
    except EdgevitError as error:
        return _fail(str(error), error.exit_status)
    if status == _INTERRUPTED:
        return _fail("interrupted before it was done; run it again", _INTERRUPTED)
    return status if isinstance(status, int) else 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _fail(problem: str, status: int) -> int:
    print("error:", " ".join(problem.splitlines()), file=sys.stderr)
    return status


def _usage(error: typer.TyperException) -> str:
    """typer's sentence in the form of our own errors: what was wrong, then what to do."""
    problem = error.format_message().rstrip(".")
    problem = f"{problem[:1].lower()}{problem[1:]}"
    for hint in (". Did you mean ", " (Possible options: "):
        wrong, found, instead = problem.partition(hint)
        if found:
            return f"{wrong}; did you mean {instead.rstrip(')?')}?"
    context: typer.Context | None = getattr(error, "ctx", None)
    return f"{problem}; see {context.command_path if context else 'edgevit'} --help"
