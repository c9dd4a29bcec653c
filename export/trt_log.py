"""What TensorRT says while it works, kept instead of printed: errors for one line, and its list of finished kernels.

Runs on Python 3.10, where a Jetson builds. Does not know: networks, engines.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

__all__ = ["CapturedLog", "library_logger"]


class CapturedLog:
    """The lines that matter.

    Attributes:
        errors: each on one line, in order.
        warnings: the same.
        kernels: lines that describe a kernel of the finished engine (verbose, with detailed profiling).
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.kernels: list[str] = []

    def add(self, severity: int, text: str) -> None:
        """Keep a message.

        Args:
            severity: 0 internal error, 1 error, 2 warning, 3 info, 4 verbose.
            text: as the library says it, of one line or many.
        """
        if severity <= 1:
            self.errors.append(" ".join(text.split()))
        elif severity == 2:
            self.warnings.append(" ".join(text.split()))
        else:
            self.kernels += [line for line in text.splitlines() if line.startswith("Name: ") and "LayerType: " in line]

    def reason(self) -> str:
        """Why it failed: the first error that has a code, which the library's own notes on itself have not."""
        coded = [error for error in self.errors if "Error Code" in error]
        return next(iter(coded or self.errors), "it gives no reason")


def library_logger(library: ModuleType, log: CapturedLog) -> Any:
    """A logger of that library which fills `log`; it must live as long as what it is given to."""

    class Logger(library.ILogger):  # type: ignore[name-defined, misc]  # the base is that of the module passed in
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(int(severity), message)

    return Logger()
