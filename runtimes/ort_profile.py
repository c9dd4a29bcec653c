"""What ONNX Runtime's profile says of each node: pure reading of its events."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from edgevit.probes import LayerTime

__all__ = ["layer_times"]

_SUFFIX = "_kernel_time"


def layer_times(events: Sequence[Mapping[str, Any]]) -> list[LayerTime]:
    """Time of every node in every run of a profiled session, in the order they ran.

    Node times are whole microseconds in the profile. An `If` is left out: its time is that of the nodes in the branch
    it took, which are events of their own.

    Args:
        events: the JSON that `InferenceSession.end_profiling` leaves.
    """
    runs = sorted(int(event["ts"]) for event in events if event.get("name") == "model_run")
    times = []
    for event in sorted((e for e in events if _is_kernel(e)), key=lambda e: int(e["ts"])):
        query = bisect_right(runs, int(event["ts"])) - 1
        operator = str(event["args"].get("op_name", ""))
        if query >= 0 and operator != "If":
            name = str(event["name"]).removesuffix(_SUFFIX)
            times.append(LayerTime(name, operator, query, 1000 * int(event["dur"])))
    return times


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return event.get("cat") == "Node" and str(event.get("name", "")).endswith(_SUFFIX)
