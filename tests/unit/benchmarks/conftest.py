"""Makes `scripted` importable, by the tests and by the processes that they start."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import scripted


@pytest.fixture(autouse=True)
def _clock_at_zero() -> None:
    scripted.CLOCK.reset()
