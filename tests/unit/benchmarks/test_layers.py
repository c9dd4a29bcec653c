from __future__ import annotations

import pytest
from scripted import launch_locally, scripted_candidate

from edgevit.benchmarks import Settings, measure, measurement_from_json, measurement_to_json
from edgevit.benchmarks.layers import Profile, by_block, by_operator, by_step, layer_costs, place_of
from edgevit.probes import LayerTime

MS = 1_000_000


@pytest.mark.parametrize(
    "layer, place",
    [
        ("blocks.0[2].attention.qkv/MatMul", ("blocks.0.attention.qkv", 2)),
        ("blocks.1[11].mlp/Gelu_3", ("blocks.1.mlp", 11)),
        ("patch_embed.projection/Conv", ("patch_embed.projection", None)),
        ("blocks.0[1].norm/LayerNormalization + blocks.0[1].qkv/MatMul", ("blocks.0.norm", 1)),
        ("blocks.0[0].mlp/MatMul/MatMulAddFusion", ("blocks.0.mlp", 0)),
        ("ReorderOutput", ("", None)),
        ("/x", ("", None)),
        ("", ("", None)),
    ],
)
def test_a_layers_name_tells_its_module_and_recursion_step(layer: str, place: tuple[str, int | None]) -> None:
    assert place_of(layer) == place


TIMES = [
    LayerTime("embed/Conv", "Conv", query, 10 * MS) for query in range(3)
] + [
    LayerTime(f"blocks.{block}[{step}].qkv/MatMul", "MatMul", query, (4 - step) * MS + query)
    for query in range(3)
    for step in range(2)
    for block in range(2)
] + [LayerTime("Reorder", "ReorderOutput", 0, MS)]  # fmt: skip


def profile() -> Profile:
    return Profile("a", 3, layer_costs(TIMES), None)


def test_a_layer_costs_its_median_over_queries_and_what_ran_in_one_alone_costs_nothing_as_a_rule() -> None:
    costs = {cost.layer: cost.median_ns for cost in layer_costs(TIMES)}
    assert costs["embed/Conv"] == 10 * MS
    assert costs["blocks.0[1].qkv/MatMul"] == 3 * MS + 1
    assert costs["Reorder"] == 0


def test_a_layer_that_runs_twice_in_a_query_costs_both() -> None:
    twice = [LayerTime("x/Add", "Add", 0, 2), LayerTime("x/Add", "Add", 0, 3)]
    assert [cost.median_ns for cost in layer_costs(twice)] == [5]


def test_layers_add_up_by_operator_by_block_and_by_step() -> None:
    assert [(group.name, round(group.time_ns / MS)) for group in by_operator(profile())] == [
        ("MatMul", 14),
        ("Conv", 10),
        ("ReorderOutput", 0),
    ]
    assert {group.name: round(group.time_ns / MS) for group in by_block(profile())} == {
        "embed": 10,
        "blocks.0": 7,
        "blocks.1": 7,
        "(runtime)": 0,
    }
    assert [(group.name, round(group.time_ns / MS)) for group in by_step(profile())] == [
        ("step 1", 8),
        ("step 2", 6),
        ("outside", 10),
    ]
    assert sum(group.share for group in by_step(profile())) == pytest.approx(1)


def test_a_runner_that_times_its_layers_is_profiled_after_the_timed_run_and_another_says_that_it_cannot() -> None:
    settings = Settings(min_duration_s=0.1, min_queries=1, pilot_rounds=0, warmup_cap_s=1, profile_queries=5)
    candidates = [
        scripted_candidate("plain", [MS]),
        scripted_candidate("layered", [MS], layers={"blocks.0[1].mlp/MatMul": 7}),
    ]
    measurement = measure(candidates, settings, launch=launch_locally, readers=())
    plain, layered = measurement.profiles
    assert plain.absence == "the scripted runner does not time its layers"
    assert layered.absence is None
    assert (layered.queries, layered.layers[0].step, layered.layers[0].median_ns) == (5, 1, 7)
    assert measurement_from_json(measurement_to_json(measurement), "x").profiles == measurement.profiles


def test_without_being_asked_nothing_is_profiled() -> None:
    settings = Settings(min_duration_s=0.1, min_queries=1, warmup_cap_s=1)
    assert measure([scripted_candidate("a", [MS])], settings, launch=launch_locally, readers=()).profiles == ()


@pytest.mark.parametrize(
    "names, blocks",
    [
        (["backbone.model.blocks.0.norm1/a", "graph/Softmax", "reducers.0/TopK", "graph/Add"], [3, 1]),
        (["backbone.model.blocks.10.mlp.0/a", "backbone.model.norm/b", "backbone.model.head/c"], [1, 1, 1]),
        (["blocks.0[1].mlp.0/a", "graph/Gather", "blocks.0[2].mlp.0/b"], [2, 1]),
        (["layers.1.blocks.0.attn/a", "layers.1.blocks.1.attn/b", "layers.1.downsample/c"], [1, 1, 1]),
        (["model.stages.2.1.transformer.0.mlp/a", "model.stages.2.0.conv/b", "stages.2.1.conv/c"], [2, 1]),
        (["graph/Concat", "", "made_up"], [2, 1]),
    ],
)
def test_the_blocks_of_a_reduced_model_are_told_apart(names: list[str], blocks: list[int]) -> None:
    layers = layer_costs([LayerTime(name, "Op", 0, MS) for name in names])
    groups = by_block(Profile("one", 1, layers, None))
    assert [round(group.time_ns / MS) for group in groups] == blocks
    assert not {"backbone", "model"} & {group.name for group in groups}
