"""The options that several commands share, each declared once, and how an option of a settings dataclass is declared.

Such an option is None unless given, so that its default stands in one place, beside the field; `given` leaves those out
that were not, and help repeats the default in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgevit.errors import InputError

__all__ = ["BundlePath", "Data", "Json", "Runtime", "Threads", "given", "numbers", "setting"]


def setting(name: str, metavar: str, help: str, default: str) -> Any:
    """An option whose default stands elsewhere.

    Args:
        name: `--epochs`.
        metavar: what stands for its value in help.
        help: one line.
        default: what happens without it, as help says it.
    """
    return typer.Option(name, metavar=metavar, help=f"{help}  [default: {default}]", show_default=False)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises:
        InputError: something else; the line shows the example.
    """
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}; wanted numbers such as {example}") from None


BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that `edgevit export` wrote.")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="A folder per class, or train/ and val/ of such folders.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result alone, as JSON.")]
Runtime = Annotated[str, typer.Option("--runtime", metavar="NAME", help="A name of `edgevit list runtimes`.")]
Threads = Annotated[int | None, setting("--threads", "N", "CPU threads of the runtime.", "its own choice")]
