from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))
from engine_records import engine_record

from edgevit.engine_fit import misfit, outdated


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
    reason = misfit(record, here, "8.7", "Simulated")
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
    reason = misfit(record, "10.3.0", here, "Simulated")
    assert reason == (None if fits else f"was built for compute capability {built} and this device has {here}")


def test_rtx_is_left_to_say_it_itself():
    assert misfit(engine_record(library="tensorrt_rtx", library_version="1.4"), "1.7", "12.0", "a card") is None


@pytest.mark.parametrize("compatibility, fits", [("none", False), ("ampere+", True), ("same-compute-capability", True)])
def test_an_engine_of_one_card_does_not_run_on_another_of_its_kind(compatibility, fits):
    record = engine_record(device_name="RTX A2000", hardware_compatibility=compatibility)
    reason = misfit(record, "10.3.0", "8.7", "RTX A6000")
    assert reason == (None if fits else "was built on RTX A2000 for that card alone and this is RTX A6000")


def test_an_engine_is_of_one_system_and_processor():
    reason = misfit(engine_record(platform="win32-AMD64"), "10.3.0", "8.7", "Simulated")
    assert reason is not None and reason.startswith("was built on win32-AMD64 and this is ")


@pytest.mark.parametrize(
    "built, here, anew",
    [
        ({}, ("10.3.0", "8.7", "Simulated"), False),
        ({}, ("10.4.0", "8.7", "Simulated"), True),
        ({}, ("10.3.0", "8.7", "another"), True),
        ({}, ("10.4.0", None, None), False),
        ({"library": "tensorrt_rtx"}, ("10.3.0", "12.0", "another"), False),
        ({"library": "tensorrt_rtx"}, ("10.4.0", None, None), True),
        ({"library": "tensorrt_rtx", "built_for": ("8.6",)}, ("10.3.0", "8.6", "another"), False),
        ({"library": "tensorrt_rtx", "built_for": ("8.6",)}, ("10.3.0", "12.0", "another"), True),
        ({"library": "tensorrt_rtx", "built_for": ("8.6",)}, ("10.3.0", None, None), False),
    ],
)
def test_an_engine_that_fits_no_more_is_to_be_built_anew(built, here, anew):
    assert outdated(engine_record(**built), *here) is anew
