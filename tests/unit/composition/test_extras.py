from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgevit.errors import InputError, MissingExtra
from edgevit.extras import EXTRAS, installed_version, needs


def test_the_table_is_that_of_the_distribution():
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml, which needs Python 3.11")
    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]
    for extra in EXTRAS:
        requirements = [Requirement(line) for line in declared[extra.name]]
        assert {requirement.name for requirement in requirements} == set(extra.libraries), extra.name
        since_311 = all("python_version" in str(requirement.marker) for requirement in requirements)
        assert extra.since == ((3, 11) if since_311 else (3, 10)), extra.name
    assert {extra.name for extra in EXTRAS} == set(declared) - {"app", "dev", "all"}


def test_a_missing_library_of_the_extra_says_what_to_install():
    with pytest.raises(MissingExtra, match=r"timm is not installed.*pip install 'edgevit\[zoo\]'"), needs("zoo"):
        raise ModuleNotFoundError("No module named 'timm.layers'", name="timm.layers")


def test_another_missing_module_is_a_bug():
    with pytest.raises(ModuleNotFoundError, match="nonsense"), needs("export"):
        raise ModuleNotFoundError("No module named 'edgevit.nonsense'", name="edgevit.nonsense")


def test_an_extra_that_a_python_has_not_says_so(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with (
        pytest.raises(InputError, match=r"export of models needs Python 3\.11 or later and this is 3\.10"),
        needs("export"),
    ):
        pytest.fail("the body ran")


def test_versions_are_those_of_the_environment():
    assert installed_version("numpy")
    assert installed_version("no-such-distribution") is None
