from __future__ import annotations

import pytest
from engine_records import engine_record

from edgevit.runtimes.engine_fit import misfit


@pytest.mark.parametrize(
    "built, compatible, here, fits",
    [
        ("10.3.0", False, "10.3.0", True),
        ("10.3.0", False, "10.3.1", False),
        ("10.3.0", True, "10.13.3", True),
        ("10.13.3", True, "10.3.0", False),
        ("10.3.0", True, "11.4.0.106", True),
        ("8.6.1", True, "10.3.0", True),
        ("8.6.1", True, "11.0.0", False),
        ("11.4.0", True, "10.3.0", False),
    ],
)
def test_a_version_loads_its_own_engines_and_compatible_ones_of_its_past(built, compatible, here, fits):
    record = engine_record(library_version=built, version_compatible=compatible)
    reason = misfit(record, here, "8.7")
    assert reason == (None if fits else f"was built by tensorrt {built} and this is {here}")


@pytest.mark.parametrize(
    "built, compatibility, here, fits",
    [
        ("8.7", "none", "8.7", True),
        ("8.7", "none", "8.6", False),
        ("8.6", "ampere+", "8.9", True),
        ("8.6", "ampere+", "12.0", True),
        ("8.6", "ampere+", "7.5", False),
        ("7.5", "ampere+", "8.6", False),
        ("8.6", "same-compute-capability", "8.6", True),
        ("8.6", "same-compute-capability", "8.9", False),
        (None, "none", "8.6", True),
    ],
)
def test_a_card_runs_engines_for_its_own_kind_and_compatible_ones(built, compatibility, here, fits):
    record = engine_record(compute_capability=built, hardware_compatibility=compatibility)
    reason = misfit(record, "10.3.0", here)
    assert reason == (None if fits else f"was built for compute capability {built} and this device has {here}")


def test_rtx_is_left_to_say_it_itself():
    assert misfit(engine_record(library="tensorrt_rtx", library_version="1.4"), "1.7", "12.0") is None
