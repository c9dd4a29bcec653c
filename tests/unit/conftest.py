"""For the tests of what torch makes: one thread, since models are tiny, and a printed skip where it is not there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

_OF_TORCH = ("models", "training")


class _NeedsTorch(pytest.Module):
    """Test modules that cannot even be imported."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("needs torch: Python 3.11 and pip install 'edgevit[export]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if module_path.parent.name in _OF_TORCH and importlib.util.find_spec("torch") is None:
        return _NeedsTorch.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True, scope="module")
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.path.parent.name not in _OF_TORCH:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
