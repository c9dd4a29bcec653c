"""The errors a user can mend. Each is one line: what was given, what was wanted, what to do next.

Only these are printed without a traceback; any other exception is a bug and shows one.
"""

__all__ = ["CheckFailed", "EdgevitError", "FallbackWarning", "InputError", "MissingExtra"]


class EdgevitError(Exception):
    """Base of every error a user can mend. `exit_status` is what the command line returns for it."""

    exit_status = 2


class InputError(EdgevitError):
    """Bad input or usage: exit status 2."""


class MissingExtra(InputError):
    """A library that belongs to an extra of the distribution is not installed.

    Args:
        library: the name under which the library is imported, `onnxruntime`.
        extra: the extra that brings it, `cpu`.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed, and this needs it; run: pip install 'edgevit[{extra}]'")
        self.library = library
        self.extra = extra


class CheckFailed(EdgevitError):
    """A check that ran and failed (parity, verification, regression): exit status 1."""

    exit_status = 1


class FallbackWarning(UserWarning):
    """A bundle runs otherwise than its target says: on another runtime, or in another precision."""
