from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgevit as package
from edgevit.commands.verify_ladder import climb_ladder
from edgevit.errors import InputError

# fp16 in the one bundle that all tests here read.
pytest.importorskip("torch", reason="a bundle of lower precision is exported first")
pytest.importorskip("onnxruntime", reason="the ladder is climbed on ONNX Runtime")


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from edgevit.models.recursive import RecursiveConfig, RecursiveViT

    torch.manual_seed(3)
    config = RecursiveConfig(
        image_size=16, patch_size=4, classes=3, width=16, heads=2, depth=1, recursions=2, capacities=(1.0, 0.5)
    )
    output = tmp_path_factory.mktemp("ladder") / "fp16"
    package.export_model(RecursiveViT(config).eval(), output=output, target="rtx", precision="fp16")
    return output


def test_the_ladder_names_each_block_of_each_step(edgevit: Callable[..., Any], lowered: Path) -> None:
    outcome = edgevit("verify", lowered, "--runtime", "ort", "--ladder", "--json")
    assert outcome.status == 0, outcome.err
    ladder = outcome.json["ladder"]
    assert [rung["part"] for rung in ladder["here"]] == ["stem", "blocks.0[0]", "blocks.0[1]", "norm", "head"]
    assert all(0 < rung["error"] < 0.01 for rung in ladder["here"])
    assert (ladder["precision"], ladder["first_offender"]) == ("fp16", None)
    assert len(ladder["scores"]) == 1
    assert outcome.json["parity"]["decisions_agreeing"] == outcome.json["parity"]["inputs"]


def test_the_table_is_for_people(edgevit: Callable[..., Any], lowered: Path) -> None:
    outcome = edgevit("verify", lowered, "--runtime", "ort", "--ladder")
    assert outcome.status == 0, outcome.err
    for words in ("emulated on the CPU", "blocks.0[1]", "no part overflows or jumps", "selected at step 2"):
        assert words in outcome.out


def test_an_fp32_bundle_has_no_ladder(edgevit: Callable[..., Any], bundle: Path) -> None:
    outcome = edgevit("verify", bundle, "--ladder")
    assert outcome.status == 2
    assert "has no precision.json; the ladder is for bundles that were exported with --precision" in outcome.err


def test_a_runtime_without_inner_values_is_refused(lowered: Path) -> None:
    with pytest.raises(InputError, match=r"--ladder on trt, which gives no inner values; use one of: auto, ort"):
        climb_ladder(lowered, "trt")
