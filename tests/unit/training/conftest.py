"""One thread for torch, a printed skip where it is not installed, and `tiny_run` importable by the tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


class _NeedsTorch(pytest.Module):
    """Test modules that cannot even be imported."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("needs torch: Python 3.11 and pip install 'edgevit[export]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if importlib.util.find_spec("torch") is None:
        return _NeedsTorch.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Makes `tiny_run` importable by the tests.
sys.path.insert(0, str(Path(__file__).parent))
