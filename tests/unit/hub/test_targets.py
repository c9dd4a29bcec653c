"""The table of targets, and the rules its rows keep."""

from __future__ import annotations

from typing import get_args

import pytest

from edgevit.errors import InputError
from edgevit.spec import Precision
from edgevit.targets import TARGETS, Attention, Runtime, Target, target_named

NAMES = [target.name for target in TARGETS]
each_target = pytest.mark.parametrize("target", TARGETS, ids=NAMES)


def test_names_are_different_and_can_be_part_of_a_files_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(name == name.lower() and name.replace("-", "").isalnum() for name in NAMES)


@each_target
def test_a_target_is_found_by_its_name(target: Target) -> None:
    assert target_named(target.name) is target


@pytest.mark.parametrize("name", ["", "cpu", "CPU-X86", "jetson-nano"])
def test_an_unknown_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        target_named(name)
    assert str(refusal.value) == f"unknown target '{name}'; wanted one of: {', '.join(NAMES)}"


@each_target
def test_a_row_says_what_there_is(target: Target) -> None:
    assert target.runtime in get_args(Runtime)
    assert target.attention in get_args(Attention)
    assert set(target.precisions) <= set(get_args(Precision))
    assert target.architecture and target.description
    assert len(target.description) <= 60, "one line of `edgevit list targets`"


@each_target
def test_every_target_takes_fp32_at_an_opset_it_reads(target: Target) -> None:
    assert "fp32" in target.precisions
    assert 18 <= target.opset <= target.newest_opset


@each_target
def test_an_operator_of_opset_23_is_only_asked_of_who_reads_it(target: Target) -> None:
    assert target.attention == "decomposed" or target.opset >= 23


@pytest.mark.parametrize("target", [target for target in TARGETS if target.runtime == "trt"], ids=lambda t: t.name)
def test_one_file_serves_every_tensorrt(target: Target) -> None:
    # 10.3, the oldest, knows no Attention operator and takes quantisation of opset 20 at most.
    assert (target.attention, target.opset, target.newest_opset) == ("decomposed", 20, 20)
