"""The latency harness: one process per candidate, interleaved, every sample kept.

`measure` runs candidates and keeps what they did, `summarise` says what it means, the reports write it down.
"""

from __future__ import annotations

from .candidate import Candidate
from .checks import Check
from .comparison import Comparison, RatioInterval
from .harness import Progress, Running, measure
from .measurement import CandidateResult, Measurement, Samples
from .order_statistics import Interval, Percentile
from .report_json import measurement_from_json, measurement_to_json
from .settings import Settings
from .summary import CandidateSummary, Summary, summarise

__all__ = [
    "Candidate",
    "CandidateResult",
    "CandidateSummary",
    "Check",
    "Comparison",
    "Interval",
    "Measurement",
    "Percentile",
    "Progress",
    "RatioInterval",
    "Running",
    "Samples",
    "Settings",
    "Summary",
    "measure",
    "measurement_from_json",
    "measurement_to_json",
    "summarise",
]
