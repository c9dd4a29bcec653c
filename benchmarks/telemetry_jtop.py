"""Reader for jetson-stats, where its service runs. Nothing depends on it: it breaks with L4T releases."""

from __future__ import annotations

import importlib
from typing import Any

from .telemetry import Reading

__all__ = ["Jtop"]


class Jtop:
    """The flat statistics of jtop: whatever is a number in them.

    Args:
        client: a running `jtop.jtop`; None starts one.
    """

    name = "jtop"

    def __init__(self, client: Any = None) -> None:
        self._client = client

    def find(self) -> str | None:
        if self._client is None:
            try:
                jtop = importlib.import_module("jtop").jtop
            except ImportError:
                return "jetson-stats is not installed, and is not needed"
            try:
                self._client = jtop()
                self._client.start()
            except Exception as error:  # its own exceptions change with its versions
                return f"jetson-stats does not serve ({type(error).__name__}: {error})"
        return None

    def read(self) -> list[Reading]:
        try:
            statistics = dict(self._client.stats)
        except Exception:  # as above; a gap
            return []
        return [
            Reading(f"jtop {name}", "", float(value))
            for name, value in statistics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
