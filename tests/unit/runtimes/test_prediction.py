from __future__ import annotations

import json

import numpy as np
import pytest

from edgevit.runtimes.prediction import MergingTrace, Prediction, RoutingTrace, Timings


@pytest.mark.parametrize("dropped", [(), (0, 0, 0), (0, 3, 1)])
@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("routed", [True, False])
def test_a_prediction_becomes_json_and_back(routed, merged, dropped):
    trace = RoutingTrace(np.array([[1, 2], [3, 1]], np.int32), (4, 2, 1))
    merging = MergingTrace(np.array([[0, 0], [1, -1]], np.int32), (4, 2))
    prediction = Prediction(
        image="part.png",
        label="scratch",
        score=0.75,
        probabilities={"scratch": 0.75, "scale": 0.25},
        routing=trace if routed else None,
        merging=merging if merged else None,
        timings=Timings(1, 2, 3),
        tokens_dropped=dropped,
    )
    assert prediction.truncated is (dropped == (0, 3, 1))
    assert json.loads(json.dumps(prediction.to_dict())) == {
        "image": "part.png",
        "label": "scratch",
        "score": 0.75,
        "probabilities": {"scratch": 0.75, "scale": 0.25},
        "routing": {"depth": [[1, 2], [3, 1]], "counts": [4, 2, 1]} if routed else None,
        "merging": {"assignment": [[0, 0], [1, -1]], "tokens": [4, 2]} if merged else None,
        "truncated": dropped == (0, 3, 1),
        "tokens_dropped": list(dropped),
    }
