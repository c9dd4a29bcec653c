from __future__ import annotations

import math

import pytest

from edgevit.benchmarks.settings import Settings
from edgevit.errors import InputError


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"scenario": "server"}, "scenario is 'server'; wanted one of: single-stream, multi-stream, offline, paced"),
        ({"min_duration_s": 0}, "min_duration_s is 0; wanted more than 0"),
        ({"min_duration_s": math.inf}, "min_duration_s is inf"),
        ({"min_duration_s": math.nan}, "min_duration_s is nan"),
        ({"block_s": -1.0}, "block_s is -1"),
        ({"warmup_cap_s": -1.0}, "warmup_cap_s is -1; wanted 0 or more"),
        ({"min_queries": 0}, "min_queries is 0; wanted a whole number of at least 1"),
        ({"min_queries": 1.5}, "min_queries is 1.5; wanted a whole number"),
        ({"samples_per_query": 0}, "samples_per_query is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"percentiles": (0.0,)}, "percentile is 0; wanted above 0 and below 100"),
        ({"percentiles": (50.0, 101.0)}, "percentile is 101; wanted above 0 and below 100"),
        ({"percentiles": (math.nan,)}, "percentile is nan"),
        ({"percentiles": ()}, "no percentile asked for"),
        ({"confidence": 1.0}, "confidence is 1.0; wanted at least 0.5 and below 1"),
        ({"deadline_ms": 0.0}, "deadline_ms is 0; wanted more than 0"),
        ({"scenario": "paced"}, "needs period_ms"),
        ({"scenario": "paced", "period_ms": 0.0}, "period_ms is 0"),
        ({"period_ms": 5.0}, "for the paced scenario, not for single-stream"),
        ({"scenario": "paced", "arrivals": "trigger"}, "need the gaps of a trigger file"),
        ({"scenario": "paced", "arrivals": "trigger", "trigger_gaps_ms": (0.0, 0.0)}, "not all the same"),
        ({"scenario": "paced", "arrivals": "trigger", "trigger_gaps_ms": (1.0, -1.0)}, "in ascending order"),
        ({"scenario": "paced", "period_ms": 1.0, "trigger_gaps_ms": (1.0,)}, "no trigger file"),
        ({"cpus": ()}, "wanted different CPU numbers"),
        ({"cpus": (0, 0)}, "wanted different CPU numbers"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_in_one_line(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        Settings(**fields).validate()  # type: ignore[arg-type]
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(scenario="multi-stream", samples_per_query=4),
        Settings(scenario="offline", deadline_ms=3.0),
        Settings(scenario="paced", period_ms=10.0, arrivals="poisson"),
        Settings(scenario="paced", arrivals="trigger", trigger_gaps_ms=(0.0, 3.0)),
        Settings(percentiles=(0.1, 99.99), cpus=(0, 3), telemetry_interval_s=0, pilot_rounds=0),
    ],
)
def test_settings_that_make_sense_pass(settings: Settings) -> None:
    settings.validate()
