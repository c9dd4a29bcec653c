"""The cost model against counts made by hand, written out here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import onnx_ir as ir
import pytest
from onnx import parser

from edgevit.export.cost import Cost, count
from edgevit.export.pipeline import Graph, build_graph
from edgevit.export.settings import ExportSettings
from edgevit.export.shapes import with_shapes
from edgevit.models.architecture import seeded
from edgevit.models.recursive import EarlyMerge, MergeMethod, RecursiveConfig
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt
from edgevit.models.source import ModelSource
from edgevit.preprocess import Preprocess
from edgevit.spec import Method

WIDTH, HEADS, HIDDEN, CLASSES = 32, 2, 128, 3
TOKENS = 17  # 32 x 32 pixels in patches of 8: 16 of them, and CLS
FLOAT = 4
SMALL = RecursiveConfig(
    image_size=32, patch_size=8, classes=CLASSES, width=WIDTH, heads=HEADS, depth=2, recursions=1, router="none",
    capacities=(1.0,),
)  # fmt: skip


@pytest.fixture(scope="module")
def small_vit() -> Callable[[int], Cost]:
    @cache
    def cost(batch: int) -> Cost:
        preprocess = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        source = ModelSource("small", seeded(SMALL), ("a", "b", "c"), preprocess)
        return build_graph(source, ExportSettings(batch_size=batch)).cost

    return cost


@pytest.mark.parametrize("batch", [1, 3])
def test_a_small_vit_costs_what_is_counted_by_hand(small_vit: Callable[[int], Cost], batch: int) -> None:
    stem = 16 * (3 * 8 * 8) * WIDTH
    qkv = TOKENS * WIDTH * 3 * WIDTH
    scores = values = HEADS * TOKENS * TOKENS * (WIDTH // HEADS)
    out = TOKENS * WIDTH * WIDTH
    mlp = 2 * TOKENS * WIDTH * HIDDEN
    block = qkv + scores + values + out + mlp
    head = WIDTH * CLASSES
    cost = small_vit(batch)
    parts = {part.name: part for part in cost.blocks}
    by_hand = {"stem": stem, "blocks.0": block, "blocks.1": block, "head": head}
    assert {name: part.flops for name, part in parts.items()} == {k: 2 * batch * v for k, v in by_hand.items()}
    assert cost.flops == 2 * batch * (stem + 2 * block + head)
    assert {name: part.tokens for name, part in parts.items()} == {
        "stem": 16, "blocks.0": TOKENS, "blocks.1": TOKENS, "head": 1
    }  # fmt: skip
    assert all(part.full_flops == part.flops for part in cost.blocks)
    assert cost.uncounted == ()


def test_a_block_reads_its_weights_and_writes_its_results(small_vit: Callable[[int], Cost]) -> None:
    weights = WIDTH * 3 * WIDTH + WIDTH * WIDTH + 2 * WIDTH * HIDDEN  # matrices
    weights += 3 * WIDTH + WIDTH + HIDDEN + WIDTH  # biases
    weights += 3 * WIDTH  # two LayerNorms, whose scales are both ones and therefore stored once
    # Norm, qkv, its thirds, what attention makes of them, the projection, the sum; norm, the hidden layer before and
    # after its activation, what comes out of it, the sum: the least that any form of the block writes.
    least = TOKENS * (WIDTH + 3 * WIDTH + 3 * WIDTH + 3 * WIDTH) + TOKENS * (WIDTH + 2 * HIDDEN + 2 * WIDTH)
    one, three = small_vit(1).blocks[1], small_vit(3).blocks[1]
    assert one.name == three.name == "blocks.0"
    assert weights * FLOAT <= one.weight_bytes < weights * FLOAT + 256, "a few constants aside"
    assert least * FLOAT <= one.activation_bytes <= 2 * least * FLOAT
    assert three.activation_bytes == 3 * one.activation_bytes
    assert three.weight_bytes == pytest.approx(one.weight_bytes, abs=64)


def test_a_routed_block_at_full_tokens_costs_what_the_masked_graph_spends(tiny_graph: Callable[[str], Graph]) -> None:
    topk, mask = ({part.name: part for part in tiny_graph(mode).cost.blocks} for mode in ("topk", "mask"))
    for step, patches in enumerate((16, 8, 4)):
        for block in range(2):
            name = f"blocks.{block}[{step}]"
            assert topk[name].tokens == 1 + patches
            assert topk[name].full_flops == mask[name].flops == mask[name].full_flops
            assert mask[name].tokens == 17


def of(text: str, names: list[str], opset: int = 23) -> Cost:
    model = ir.from_proto(parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}'))
    for node, name in zip(model.graph, names, strict=True):
        node.name = name
    return count(with_shapes(model))


def test_full_tokens_go_once_into_a_product_with_weights_and_twice_into_attention() -> None:
    """Ten tokens of four channels; after the first block's attention five are left."""
    text = """
    g (float[1,10,4] image) => (float[1,5,4] logits)
    <float[4,4] w = {0}, int64[1] first = {0}, int64[1] fifth = {5}, int64[1] axis = {1}> {
        q = MatMul(image, w)
        k = Transpose<perm=[0,2,1]>(q)
        scores = MatMul(q, k)
        mixed = MatMul(scores, q)
        left = Slice(mixed, first, fifth, axis)
        fed = MatMul(left, w)
        q2 = MatMul(fed, w)
        k2 = Transpose<perm=[0,2,1]>(q2)
        scores2 = MatMul(q2, k2)
        logits = MatMul(scores2, q2)
    }"""
    text = text.replace("float[4,4] w = {0}", "float[4,4] w = {" + ",".join("1" * 16) + "}")
    first, second = ["model.blocks.0.attn/x"] * 4, ["model.blocks.1.attn/x"] * 4
    cost = of(text, [*first, "reducers.0/Slice", "model.blocks.0.mlp/x", *second])
    parts = {part.name: part for part in cost.blocks}
    product, attention = 2 * 4 * 4, 2 * 2 * 4  # by token; by pair of tokens
    assert parts["blocks.0"].flops == 10 * product + 10 * 10 * attention + 5 * product
    assert parts["blocks.0"].full_flops == 10 * product + 10 * 10 * attention + 10 * product
    assert parts["blocks.1"].flops == 5 * product + 5 * 5 * attention
    assert parts["blocks.1"].full_flops == 10 * product + 10 * 10 * attention
    assert (parts["blocks.0"].tokens, parts["blocks.1"].tokens) == (5, 5)


def test_a_reducer_would_not_be_there_and_downsampling_is_the_models_own() -> None:
    text = """
    g (float[1,8,2] image) => (float[1,2,2] logits)
    <float[2,2] w = {1,1,1,1}, float[4,8] pool = {POOL}, float[4,2] join = {1,1,1,1,1,1,1,1},
     int64[3] pairs = {1,2,4}> {
        one = MatMul(image, w)
        turned = Transpose<perm=[0,2,1]>(one)
        merged = MatMul(pool, one)
        two = MatMul(merged, w)
        paired = Reshape(two, pairs)
        joined = MatMul(paired, join)
        logits = MatMul(joined, w)
    }""".replace("POOL", ",".join("1" * 32))
    names = ["layers.0.blocks.0/a", "layers.0.blocks.0/b", "reducers.1/MatMul", "layers.0.blocks.1/c"]
    cost = of(text, [*names, "layers.1.downsample/d", "layers.1.downsample.reduction/e", "layers.1.blocks.0/f"])
    parts = {part.name: part for part in cost.blocks}
    assert parts["reducers.1"].flops == 2 * 4 * 8 * 2
    assert parts["reducers.1"].full_flops == 0
    # Half the tokens go on from block 1; that there are half as many again after the downsampling saves nothing.
    assert {name: part.full_flops / part.flops for name, part in parts.items()} == {
        "layers.0.blocks.0": 1, "reducers.1": 0, "layers.0.blocks.1": 2, "layers.1.downsample": 2,
        "layers.1.blocks.0": 2,
    }  # fmt: skip
    assert parts["layers.1.blocks.0"].tokens == 2


def test_a_merge_before_the_first_block_is_seen_from_the_stem() -> None:
    text = """
    g (float[1,3,8,8] image) => (float[1,8,4] logits)
    <float[4,3,2,2] stem = {STEM}, float[4,4] w = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, int64[3] flat = {1,4,16},
     int64[1] first = {0}, int64[1] last = {8}, int64[1] axis = {1}> {
        map = Conv<strides=[2,2]>(image, stem)
        rows = Reshape(map, flat)
        tokens = Transpose<perm=[0,2,1]>(rows)
        some = Slice(tokens, first, last, axis)
        logits = MatMul(some, w)
    }""".replace("STEM", ",".join("1" * 48))
    cost = of(text, ["stem/Conv", "stem/Reshape", "graph/Transpose", "graph/Slice", "blocks.0[0].mlp/MatMul"])
    assert [(part.name, part.tokens, part.full_flops / part.flops) for part in cost.blocks] == [
        ("stem", 16, 1), ("blocks.0[0]", 8, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["tome", "ltm"])
def test_what_an_early_merge_saved_is_counted_in_every_step(method: MergeMethod) -> None:
    config = replace(SMALL, recursions=2, early_merge=EarlyMerge(method=method, tokens=8))
    preprocess = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    cost = build_graph(ModelSource("merged", seeded(config), ("a", "b", "c"), preprocess), ExportSettings()).cost
    parts = {part.name: part for part in cost.blocks}
    assert parts["merge"].flops > 0
    assert parts["merge"].full_flops == 0
    token, pair = 2 * (WIDTH * 4 * WIDTH + 2 * WIDTH * HIDDEN), 2 * 2 * WIDTH  # FLOPs of products, and of attention
    steps = [part for name, part in parts.items() if name.startswith("blocks.")]
    assert len(steps) == 4
    for step in steps:
        assert (step.tokens, step.flops) == (9, 9 * token + 9 * 9 * pair)
        # Counted from the stem, which gives no CLS.
        assert step.full_flops == pytest.approx(16 * token + 16 * 16 * pair, abs=1)


@pytest.mark.parametrize(
    "shapes, attributes, flops",
    [
        # 2 images, 3 heads, 5 queries, 7 keys, 4 channels of keys and 6 of values
        (("2,3,5,4", "2,3,7,4", "2,3,7,6", "2,3,5,6"), "", 2 * 2 * 3 * 5 * 7 * (4 + 6)),
        # the same with the heads side by side
        (("2,5,12", "2,7,12", "2,7,18", "2,5,18"), "<q_num_heads=3, kv_num_heads=3>", 2 * 2 * 3 * 5 * 7 * (4 + 6)),
    ],
)
def test_attention_as_one_operator_is_counted(shapes: tuple[str, ...], attributes: str, flops: int) -> None:
    query, key, value, result = shapes
    cost = of(
        f"g (float[{query}] q, float[{key}] k, float[{value}] v) => (float[{result}] logits)"
        f" {{ logits = Attention{attributes}(q, k, v) }}",
        ["blocks.0.attn/Attention"],
    )
    assert cost.flops == flops
    assert cost.uncounted == ()


def test_an_attention_of_another_domain_stays_uncounted() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]> g (float[1,2,4] q, float[4,12] w) =>'
        " (float[1,2,4] logits) { logits = com.microsoft.Attention<num_heads=2>(q, w) }"
    )
    assert count(with_shapes(ir.from_proto(parser.parse_model(text)))).uncounted == ("Attention",)


@pytest.mark.parametrize(
    "paths, parts",
    [
        (["blocks.0[2].attention.qkv", "blocks.0[2].mlp.0"], ["blocks.0[2]"]),
        (["model.backbone.blocks.3.mlp.fc1", "model.reducers.3.predictor.0"], ["blocks.3", "reducers.3"]),
        (
            ["model.layers.2.blocks.1.attn", "model.layers.2.downsample.reduction"],
            ["layers.2.blocks.1", "layers.2.downsample"],
        ),
        (
            ["stages.2.1.transformer.0.mlp.fc1", "stages.2.1.conv_kxk.bn"],
            ["stages.2.1.transformer.0", "stages.2.1.conv_kxk"],
        ),
        (["stages.2.blocks.1.context_module.main.aggreg.0.0"], ["stages.2.blocks.1"]),
        (["stages.1.0.conv1_1x1.bn", "stem.conv.0", "head.fc"], ["stages.1.0", "stem", "head"]),
        (["stem", "graph", "blocks.0.attention.qkv", "graph", "blocks.0.mlp.0"], ["stem", "blocks.0"]),
        (["encoder.layer.3.attention.self.query", "patch_embed.proj"], ["encoder.layer.3", "patch_embed"]),
    ],
)  # fmt: skip
def test_parts_are_named_after_the_blocks_of_any_backbone(paths: list[str], parts: list[str]) -> None:
    steps, values = [], ["image", *(f"v{i}" for i in range(1, len(paths))), "logits"]
    for taken, given in pairwise(values):
        steps.append(f"{given} = MatMul({taken}, w)")
    text = f"g (float[1,2,2] image) => (float[1,2,2] logits) <float[2,2] w = {{1,1,1,1}}> {{ {' '.join(steps)} }}"
    assert [part.name for part in of(text, [f"{path}/MatMul" for path in paths]).blocks] == parts


@pytest.mark.parametrize("method, schedule", [("tome", ((0, 11), (1, 8))), ("dynamicvit", ((1, 8),))])
def test_a_reduced_vit_at_full_tokens_costs_what_the_plain_one_does(
    small_vit: Callable[[int], Cost], method: Method, schedule: tuple[tuple[int, int], ...]
) -> None:
    config = ReducedConfig(base=SMALL, method=method, schedule=tuple(ReducedAt(*at) for at in schedule))
    preprocess = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    cost = build_graph(ModelSource("reduced", seeded(config), ("a", "b", "c"), preprocess), ExportSettings()).cost
    reduced = {part.name: part for part in cost.blocks}
    for plain in small_vit(1).blocks:
        assert reduced[plain.name].full_flops == pytest.approx(plain.flops, rel=1e-6)
    assert [reduced[f"blocks.{block}"].tokens for block in (0, 1)] == [
        12 if method == "tome" else 17, 9
    ]  # fmt: skip
    assert reduced["blocks.1"].flops < 0.8 * reduced["blocks.1"].full_flops
    assert sum(part.full_flops for name, part in reduced.items() if name.startswith("reducers")) == 0
