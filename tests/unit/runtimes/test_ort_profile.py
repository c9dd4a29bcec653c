from __future__ import annotations

from edgevit.runtimes.ort_profile import layer_times

RUN = {"cat": "Session", "name": "model_run", "dur": 100}


def node(name: str, operator: str, ts: int, dur: int) -> dict[str, object]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": operator}}


def test_each_nodes_time_belongs_to_the_run_it_fell_into() -> None:
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": 1, "dur": 50},
        {**RUN, "ts": 200},
        node("blocks.0[1].mlp/MatMul", "MatMul", 210, 7),
        {**RUN, "ts": 400},
        node("blocks.0[1].mlp/MatMul", "MatMul", 410, 9),
        node("head/Gemm", "Gemm", 430, 2),
    ]
    assert [(t.layer, t.operator, t.query, t.duration_ns) for t in layer_times(events)] == [
        ("blocks.0[1].mlp/MatMul", "MatMul", 0, 7000),
        ("blocks.0[1].mlp/MatMul", "MatMul", 1, 9000),
        ("head/Gemm", "Gemm", 1, 2000),
    ]


def test_an_if_is_not_counted_beside_the_nodes_of_its_branch() -> None:
    events = [{**RUN, "ts": 0}, node("ladder/If", "If", 10, 80), node("ladder/MatMul", "MatMul", 20, 60)]
    assert [time.operator for time in layer_times(events)] == ["MatMul"]


def test_fences_and_warm_up_before_the_first_run_are_no_layers() -> None:
    events = [node("early/Add", "Add", 5, 1), {**RUN, "ts": 10}, {"cat": "Node", "name": "x_fence_before", "ts": 11}]
    assert layer_times(events) == []
