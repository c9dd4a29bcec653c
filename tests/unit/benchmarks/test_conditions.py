from __future__ import annotations

from by_hand import measurement, result, samples, series

from edgevit.benchmarks.conditions import Condition, conditions, while_measured


def test_conditions_are_those_of_the_measured_time_and_counters_tell_their_growth() -> None:
    one = measurement(
        result(samples([1.0] * 100)),
        telemetry=(
            series("power VDD_IN", "W", [-10, 10, 50, 5000], [90.0, 9.0, 11.0, 90.0]),
            series("energy package-0_total", "J", [-10, 10, 90, 5000], [0.0, 5.0, 7.5, 99.0]),
            series("temperature x", "°C", [5000], [50.0]),
        ),
    )
    assert conditions(one) == (
        Condition("power VDD_IN", "W", 9.0, 10.0, 11.0, None),
        Condition("energy package-0_total", "J", None, None, None, 2.5),
    )


def test_of_nothing_measured_there_are_no_conditions() -> None:
    one = measurement(result(samples([])), telemetry=(series("power", "W", [0], [1.0]),))
    assert conditions(one) == ()
    assert while_measured(one, "power") is None
