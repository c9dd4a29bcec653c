"""How results look in a terminal: tables on standard output, progress on standard error, and JSON for programs.

rich is imported when something is drawn, so that `--help` and `--json` do not wait for it.

Does not know: any command, any result.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from edgevit.errors import FallbackWarning
from edgevit.strict_json import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "Tell",
    "bad",
    "caution",
    "faint",
    "good",
    "live_rows",
    "millions",
    "milliseconds",
    "note",
    "percent",
    "progress",
    "show_facts",
    "show_json",
    "show_line",
    "show_table",
    "size",
    "time_left",
    "warnings_as_lines",
]

# A list of scalars but strings that `json` has laid out over several lines. No string holds a line break: none matches.
_FLAT_LIST = re.compile(r'\[\n([^\[\]{}"]*?)\n *\]')

# Where no terminal gives a width, lines are as long as they need to be: a program reads them.
_PIPE_WIDTH = 400


class Tell(Protocol):
    """Moves a progress line."""

    def __call__(self, done: float, doing: str, left_s: float | None = None) -> None:
        """Show the share done, 0 to 1, what is being done, and the seconds left (an estimate of its own if None)."""


def show_json(result: object) -> None:
    """Print a result as one JSON document: dataclasses as objects, keys in the order of their fields."""
    text = json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False, default=os.fspath)
    print(_FLAT_LIST.sub(lambda found: f"[{' '.join(found[1].split())}]", text))


def show_line(*parts: str | Text) -> None:
    """Print one line of styled parts, with a space between them."""
    _console(sys.stdout).print(*parts, soft_wrap=True, markup=False, highlight=False)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], title: str = "") -> None:
    """Print a table.

    Args:
        columns: their headings; `>` before one aligns it to the right, as for numbers.
        rows: cells of each row, as many as columns.
        title: a heading above it.
    """
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(_text(column.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    if title:
        show_line(_styled(title, "bold cyan"))
    _console(sys.stdout).print(table)


def show_facts(facts: Mapping[str, str | Text], title: str = "") -> None:
    """Print names and values, one pair a line."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _text(value))
    if title:
        show_line(_styled(title, "bold cyan"))
    _console(sys.stdout).print(table)


def note(text: str) -> None:
    """Tell people something beside the result: one line on standard error."""
    _console(sys.stderr).print(_styled(text, "dim"), soft_wrap=True)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print every `FallbackWarning` as one line on standard error, where Python would print two, and one only once.

    Others stay with Python. It is for the program alone: a library leaves this to whoever embeds it.
    """
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: TextIO | str | None
        ) -> None:
            if issubclass(category, FallbackWarning):
                line = " ".join(str(message).split())
                _console(sys.stderr).print(_styled(f"warning: {line}", "yellow"), soft_wrap=True)
            else:
                others(message, category, filename, lineno, *rest)  # type: ignore[arg-type]  # as they came

        warnings.simplefilter("always", FallbackWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # the same arguments
        yield


def good(text: str) -> Text:
    """Text that says that something is as it should be."""
    return _styled(text, "green")


def bad(text: str) -> Text:
    """Text that says that something is not."""
    return _styled(text, "bold red")


def caution(text: str) -> Text:
    """Text that asks to be read before the figures are believed."""
    return _styled(text, "yellow")


def faint(text: str) -> Text:
    """Text that is there for those who look for it."""
    return _styled(text, "dim")


def percent(share: float) -> str:
    """0.9567 as `95.7 %`."""
    return f"{100 * share:.1f} %"


def millions(number: float) -> str:
    """744874 as `0.74 M`."""
    return f"{number / 1e6:.2f} M"


def size(size_bytes: float) -> str:
    """3427776 bytes as `3.43 MB`, 518 as `0.52 kB`."""
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.2f} kB"


def milliseconds(duration_ns: float) -> str:
    """1234567 ns as `1.23`, with three digits that count."""
    value = duration_ns / 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


@contextmanager
def progress(*, live: bool = True) -> Iterator[Tell]:
    """One line on standard error that says what is done, how much of it and how long the rest takes.

    It is gone when the work is, and nothing is written where standard error is no terminal.

    Args:
        live: whether the line moves between two calls too. That takes a thread, which must not run beside anything
            that is being timed.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = _console(sys.stderr)
    line = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}"),
        console=console,
        transient=True,
        auto_refresh=live,
        disable=not console.is_terminal,
    )
    estimate = _Estimate(time.monotonic)
    with line:
        task = line.add_task("", total=1.0, left="")

        def tell(done: float, doing: str, left_s: float | None = None) -> None:
            left = time_left(left_s if left_s is not None else estimate(done))
            line.update(task, completed=done, description=doing, left=left, refresh=True)

        yield tell


@contextmanager
def live_rows() -> Iterator[Callable[[Sequence[Sequence[str | Text]]], None]]:
    """A table on standard error that is drawn anew at each call.

    Nothing is drawn between two calls, so that nothing runs beside what is timed. It is gone when the work is, and
    nothing is written where standard error is no terminal.
    """
    from rich.live import Live
    from rich.table import Table

    console = _console(sys.stderr)
    if not console.is_terminal:
        yield lambda rows: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def draw(rows: Sequence[Sequence[str | Text]]) -> None:
            table = Table.grid(padding=(0, 2, 0, 0))
            for row in rows:
                table.add_row(*map(_text, row))
            live.update(table, refresh=True)

        yield draw


class _Estimate:
    """Seconds left, from the pace since the first call: a resumed run does not begin at 0."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start: tuple[float, float] | None = None

    def __call__(self, done: float) -> float | None:
        now = self._clock()
        if self._start is None:
            self._start = now, done
        start_s, start_done = self._start
        gained = done - start_done
        return (now - start_s) * (1 - done) / gained if gained > 0 else None


def time_left(seconds: float | None) -> str:
    """95.2 as `1:35 left`; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def _console(stream: object) -> Console:
    """A console on the stream as it is now: tests and callers may have put another in its place."""
    from rich.console import Console

    error = stream is sys.stderr
    console = Console(stderr=error)
    if not console.is_terminal:
        console = Console(stderr=error, width=_PIPE_WIDTH)
    return console


def _text(cell: str | Text) -> Text:
    """A cell as it stands: `[x]` in a file name is no markup."""
    from rich.text import Text

    return Text(cell) if isinstance(cell, str) else cell


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style)
