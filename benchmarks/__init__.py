"""The latency harness: one process per candidate, interleaved, every sample kept.

`measure` runs candidates and keeps what they did, `summarise` says what it means, the reports write it down.
"""

from __future__ import annotations

from .candidate import Candidate
from .checks import Check
from .comparison import Comparison, RatioInterval
from .energy import Energy
from .harness import measure
from .json_schema import report_schema
from .layers import LayerCost, Profile, by_block, by_operator, by_step
from .loadgen_check import LoadgenCheck, check_loadgen
from .measurement import CandidateResult, Measurement, Samples
from .order_statistics import Interval, Percentile
from .progress import Progress, Running
from .report_html import measurement_to_html
from .report_json import measurement_from_json, measurement_to_json
from .report_tables import measurement_to_csv, measurement_to_markdown
from .settings import Settings
from .stored import Gate, StoredComparison, check_baseline, compare_stored, differences, judge_baseline
from .summary import CandidateSummary, Summary, summarise
from .triggers import read_trigger_file

__all__ = [
    "Candidate",
    "CandidateResult",
    "CandidateSummary",
    "Check",
    "Comparison",
    "Energy",
    "Gate",
    "Interval",
    "LayerCost",
    "LoadgenCheck",
    "Measurement",
    "Percentile",
    "Profile",
    "Progress",
    "RatioInterval",
    "Running",
    "Samples",
    "Settings",
    "StoredComparison",
    "Summary",
    "by_block",
    "by_operator",
    "by_step",
    "check_baseline",
    "check_loadgen",
    "compare_stored",
    "differences",
    "judge_baseline",
    "measure",
    "measurement_from_json",
    "measurement_to_csv",
    "measurement_to_html",
    "measurement_to_json",
    "measurement_to_markdown",
    "read_trigger_file",
    "report_schema",
    "summarise",
]
