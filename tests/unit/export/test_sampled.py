from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from half_graphs import golden_of, near_tied, open_graph, pictures, routed

from edgevit.export.drift import Drift
from edgevit.export.half import lower
from edgevit.export.islands import islands
from edgevit.export.precision import with_precision
from edgevit.export.sampled import climb
from edgevit.precision_record import PrecisionReport


@pytest.fixture(scope="module")
def record() -> PrecisionReport:
    model = routed()
    golden = golden_of(model, pictures())
    return with_precision(model, "fp16", runtime="trt", golden=golden, open_graph=open_graph)[1]


def climbed(record: PrecisionReport, model: ir.Model, images: np.ndarray, *, emulate: bool = True) -> Drift:
    data = ir.to_proto(model).SerializeToString()
    return climb(data, record, list(images[:, None]), open_graph, emulate=emulate)


def lowered(*more: str) -> ir.Model:
    model = routed()
    lower(model, "fp16", {*(island.node for island in islands(model, {}, "fp16")), *more})
    return model


def test_errors_are_about_those_that_the_export_measured(record: PrecisionReport) -> None:
    found = climbed(record, lowered(), pictures())
    assert [rung.part for rung in found.rungs] == [rung.part for rung in record.rungs]
    for here, before in zip(found.rungs, record.rungs, strict=True):
        assert here.error == pytest.approx(before.error, rel=0.3)
    assert found.first_offender is None


def test_the_fp32_graph_itself_does_not_drift(record: PrecisionReport) -> None:
    assert max(rung.error or 0 for rung in climbed(record, routed(), pictures(), emulate=False).rungs) < 1e-5


def test_a_block_that_computes_something_else_here_is_the_first_offender(record: PrecisionReport) -> None:
    """As a fused kernel that is silently wrong on one card would."""
    model = routed()
    weight = model.graph.initializers["tiny"]
    weight.const_value = ir.tensor(np.array(0.5, np.float32), name="tiny")
    offender = climbed(record, model, pictures(), emulate=False).first_offender
    assert offender is not None
    assert offender.part == "blocks.1"


def test_an_overflow_here_is_found(record: PrecisionReport) -> None:
    model = routed()
    weight = model.graph.initializers["tiny"]
    weight.const_value = ir.tensor(np.array(np.inf, np.float32), name="tiny")
    offender = climbed(record, model, pictures(), emulate=False).first_offender
    assert offender is not None
    assert (offender.part, offender.overflowed) == ("blocks.1", True)


def test_a_run_that_takes_other_tokens_is_not_compared_behind_them(record: PrecisionReport) -> None:
    model = routed()
    images = np.concatenate([pictures(), near_tied(model)[None]])
    golden = golden_of(model, images)
    _, whole, _ = with_precision(model, "fp16", runtime="trt", golden=golden, open_graph=open_graph)
    found = climbed(replace(record, sampled=whole.sampled, picks=whole.picks), lowered(), images)
    assert [(rung.part, rung.runs) for rung in found.rungs] == [("blocks.0", 5), ("blocks.1", 4), ("head", 5)]
    assert found.first_offender is None or found.first_offender.part == "head"
