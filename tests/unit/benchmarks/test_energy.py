from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from by_hand import measurement, result, samples, series
from device_trees import LAPTOP, ORIN, VIRTUAL_MACHINE, lay

from edgevit.benchmarks import Measurement, measurement_to_html, measurement_to_markdown, summarise
from edgevit.benchmarks.energy import energy_absence, energy_of
from edgevit.benchmarks.telemetry import Sampler
from edgevit.benchmarks.telemetry_jetson import JetsonRails
from edgevit.benchmarks.telemetry_linux import EnergyCounters

MS = 1_000_000


def alone(**telemetry: object) -> Measurement:
    """Ten queries of 10 ms, one after another."""
    return measurement(result(samples([10.0] * 10, gap_ns=0)), **telemetry)  # type: ignore[arg-type]


def test_a_counters_growth_is_shared_by_the_queries_between_its_readings() -> None:
    counter = series("energy package-0_total", "J", [-5, 10, 50, 90, 300], [0.0, 2.0, 4.0, 6.0, 99.0])
    one = alone(telemetry=(counter,))
    (energy,) = energy_of(one.results[0], one)
    assert (energy.queries, energy.span_s) == (8, pytest.approx(0.08))  # from 10 to 90 ms
    assert energy.joules_per_query == pytest.approx(0.5)


def test_power_is_summed_over_time() -> None:
    sensor = series("power VDD_IN", "W", [0, 50, 100], [10.0, 20.0, 10.0])
    one = alone(telemetry=(sensor,))
    (energy,) = energy_of(one.results[0], one)
    assert energy.joules_per_query == pytest.approx(0.15)  # 15 W on average for 0.1 s, over ten queries
    assert (energy.queries, energy.span_s) == (10, pytest.approx(0.1))


def recorded(root: Path, tree: dict[str, str | None], change: dict[str, str]) -> Measurement:
    """The readers over a recorded tree, before and after the queries; `change` is what its files hold then."""
    root = lay(root, tree)
    sampler = Sampler([EnergyCounters(root), JetsonRails(root)], 1.0)
    sampler.sample(0)
    for name, content in change.items():
        (root / name).write_text(content)
    sampler.sample(100 * MS)
    return replace(alone(), telemetry=sampler.telemetry())


def test_a_laptops_counter_gives_joules_a_query_over_its_wrap(tmp_path: Path) -> None:
    # It wraps at 262143328850 uJ: 328850 uJ are left of this round, and 671150 of the next make a joule.
    one = recorded(tmp_path, LAPTOP, {"sys/class/powercap/intel-rapl:0/energy_uj": "671150\n"})
    (energy,) = summarise(one).candidates[0].energy
    assert energy.series == "energy package-0_total"
    assert energy.joules_per_query == pytest.approx(0.1)
    assert summarise(one).energy_absence is None
    assert "takes 0.1 J a query of energy package-0" in measurement_to_markdown(one)


def test_a_jetsons_rails_give_joules_a_query_each_by_itself(tmp_path: Path) -> None:
    one = recorded(tmp_path, ORIN, {})
    found = {energy.series: energy.joules_per_query for energy in summarise(one).candidates[0].energy}
    assert found == pytest.approx({"power VDD_IN": 9.2 * 0.01, "power VDD_CPU_GPU_CV": 2.496 * 0.01})
    pytest.importorskip("plotly", reason="plotly is not installed")
    assert "<dt>energy a query (power VDD_IN)</dt><dd>92 mJ</dd>" in measurement_to_html(one)


def test_where_there_is_nothing_to_read_that_is_said(tmp_path: Path) -> None:
    one = recorded(tmp_path, VIRTUAL_MACHINE, {})
    summary = summarise(one)
    assert summary.candidates[0].energy == ()
    assert summary.energy_absence == "neither counter nor power sensor was found (rapl, jetson-rails)"
    assert "no energy of a query: neither counter" in measurement_to_markdown(one)


def test_candidates_that_took_turns_have_no_energy_of_their_own() -> None:
    sensor = series("power VDD_IN", "W", [0, 50, 100], [10.0, 20.0, 10.0])
    both = measurement(result(samples([10.0] * 10)), result(samples([10.0] * 10), name="b"), telemetry=(sensor,))
    assert [energy_of(one, both) for one in both.results] == [(), ()]
    assert "measure one alone" in str(energy_absence(both))


def test_one_reading_is_too_few() -> None:
    one = alone(telemetry=(series("power VDD_IN", "W", [50], [10.0]),))
    assert energy_of(one.results[0], one) == ()
    assert "longer --duration" in str(energy_absence(one))
