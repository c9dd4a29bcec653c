"""Tests that need a GPU. They run as they are on a Jetson or a desktop, and are skipped with the reason elsewhere.

    pytest tests/device                                   what the machine and its libraries can do
    pytest tests/device --bundle d/topk --bundle d/dense  and that these bundles answer there as their source does

Nothing here needs torch but the tests of its tensors, so that bundles are exported elsewhere and copied.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from edgevit.bundle import Bundle
from edgevit.engine_record import Library
from edgevit.errors import EdgevitError

sys.path.insert(0, str(Path(__file__).parents[1] / "simulated"))

LIBRARIES: tuple[Library, ...] = ("tensorrt", "tensorrt_rtx")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bundle", action="append", default=[], help="a bundle to build and verify on this device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.device)


@pytest.fixture(scope="session")
def compute_capability() -> str:
    """Of the device; a skip where there is none."""
    from edgevit.runtimes.device_memory import open_device_memory

    try:
        memory = open_device_memory()
    except EdgevitError as error:
        pytest.skip(f"no device: {error}")
    memory.close()
    return memory.device.compute_capability


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, compute_capability: str) -> Library:
    """Each library that can run engines here."""
    from real_engine import skip_without_device

    skip_without_device(request.param)
    return request.param


@pytest.fixture
def bundles(request: pytest.FixtureRequest, tmp_path: Path) -> list[Bundle]:
    """Copies of the bundles that were given, so that what is built beside them is gone afterwards."""
    given = request.config.getoption("--bundle", default=[])
    if not given:
        pytest.skip("no bundles were given; run: pytest tests/device --bundle BUNDLE")
    return [Bundle.open(shutil.copytree(path, tmp_path / Path(path).resolve().name)) for path in given]
