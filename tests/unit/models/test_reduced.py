from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.models.dense_parts import DenseParts
from edgevit.models.deploy import Deployed
from edgevit.models.layers import Attention, decomposed_attention
from edgevit.models.recursive import EarlyMerge, Pool, RecursiveConfig, RecursiveViT
from edgevit.models.reduced import ReducedViT, reduced_model
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt, Stream
from edgevit.spec import Method

BASE = RecursiveConfig(
    image_size=32, patch_size=8, classes=3, width=16, heads=2, depth=3, recursions=1, router="none", capacities=(1.0,),
    pool="cls+mean",
)  # fmt: skip
SCHEDULES: dict[Method, tuple[ReducedAt, ...]] = {
    "tome": (ReducedAt(0, 11), ReducedAt(1, 7), ReducedAt(2, 4)),
    "evit": (ReducedAt(0, 9), ReducedAt(2, 5)),
    "dynamicvit": (ReducedAt(1, 9), ReducedAt(2, 5)),
    "ltm": (ReducedAt(0, 9), ReducedAt(2, 4)),
}
METHODS = tuple(SCHEDULES)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def plain(config: RecursiveConfig = BASE) -> RecursiveViT:
    """With attention decomposed and no bias at zero."""
    model = RecursiveViT(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    for part in model.modules():
        if isinstance(part, Attention):
            part.attend = decomposed_attention
    return model


def reduced(method: Method, schedule: tuple[ReducedAt, ...], config: RecursiveConfig = BASE) -> ReducedViT:
    model = reduced_model(ReducedConfig(base=config, method=method, schedule=schedule)).eval().requires_grad_(False)
    assert isinstance(model, ReducedViT)
    return model


@pytest.mark.parametrize("pool", ["cls", "mean", "cls+mean"])
@pytest.mark.parametrize("sharing", ["cycle", "middle_cycle"])
@pytest.mark.parametrize("schedule", [(), (ReducedAt(0, 16), ReducedAt(2, 16))])
@torch.no_grad()
def test_a_schedule_that_takes_nothing_answers_as_the_plain_model_bit_for_bit(
    pool: Pool, sharing: str, schedule: tuple[ReducedAt, ...]
) -> None:
    config = replace(BASE, pool=pool, sharing=sharing)
    base, image = plain(config), torch.randn(2, 3, 32, 32)
    for method in METHODS:
        model = reduced(method, schedule, config)
        assert model.load_plain(base.state_dict()) == ()
        assert torch.equal(model(image), base(image))
        assert not model.reducers
        outcome = model.reduce(image)
        assert outcome.assignment is not None
        assert outcome.assignment.dtype == torch.int32
        assert outcome.assignment.tolist() == [list(range(16))] * 2


@pytest.mark.parametrize("method", METHODS)
def test_a_reduced_model_says_what_goes_where(method: Method) -> None:
    model = reduced(method, SCHEDULES[method])
    left = {at.block: at.tokens for at in SCHEDULES[method]}
    n, wanted = 16, []
    for block in range(3):
        n = left.get(block, n)
        wanted.append(n)
    assert model.tokens_per_block == tuple(wanted)
    assert model.grid == (4, 4)
    assert (model.config.classes, model.config.image_size) == (3, 32)
    image = torch.randn(2, 3, 32, 32)
    outcome = model.reduce(image, gaps=True)
    assert outcome.logits.shape == (2, 3)
    assert outcome.features.shape == (2, 32)
    assert torch.equal(outcome.logits, model.backbone.model.head(outcome.features))  # type: ignore[operator, union-attr]
    assert torch.equal(outcome.logits, model(image))
    assert outcome.assignment is not None
    assert outcome.assignment.shape == (2, 16)
    assert set(outcome.assignment.flatten().tolist()) <= set(range(-1 if method == "dynamicvit" else 0, n))
    if method == "ltm":
        return
    assert outcome.gap is not None
    assert outcome.gap.shape == (2,)
    assert ((outcome.gap >= 0) & (outcome.gap <= 1)).all()
    assert model.reduce(image, trace=False).assignment is None
    assert model.reduce(image).gap is None


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_an_image_is_answered_alike_alone_and_in_a_batch(method: Method) -> None:
    model, images = reduced(method, SCHEDULES[method]), torch.randn(3, 3, 32, 32)
    together = model(images)
    for i in range(3):
        torch.testing.assert_close(model(images[i : i + 1])[0], together[i])


@pytest.mark.parametrize("method", METHODS)
def test_plain_weights_load_strictly_and_the_reducers_own_are_named(method: Method) -> None:
    base, model = plain(), reduced(method, SCHEDULES[method])
    names = set(model.state_dict())
    fresh = model.load_plain(base.state_dict(), "plain.safetensors")
    assert all(name.startswith("reducers.") for name in fresh)
    assert names == {f"backbone.model.{name}" for name in base.state_dict()} | set(fresh)
    assert bool(fresh) == (method in ("dynamicvit", "ltm"))
    with pytest.raises(InputError, match=r"plain\.safetensors: weights of another model; missing: cls; extra: none"):
        model.load_plain({k: v for k, v in base.state_dict().items() if k != "cls"}, "plain.safetensors")
    with pytest.raises(InputError, match=r"head.weight has shape \(5, 32\), the model wants \(3, 32\)"):
        model.load_plain(plain(replace(BASE, classes=5)).state_dict())


@pytest.mark.parametrize("method", METHODS)
def test_every_weight_learns(method: Method) -> None:
    model = reduced(method, SCHEDULES[method]).train().requires_grad_(True)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@torch.no_grad()
def test_training_and_deployed_attention_agree() -> None:
    model, image = reduced("tome", SCHEDULES["tome"]), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.train()(image), model.eval()(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["cls", "mean"])
@torch.no_grad()
def test_a_token_of_several_patches_weighs_as_if_it_were_there_as_often(pool: Pool) -> None:
    parts = DenseParts(plain(replace(BASE, pool=pool)))
    x, size = torch.randn(2, 6, 16), torch.tensor([[1.0, 3, 1, 2, 1]] * 2)
    often = [0, 1, 2, 2, 2, 3, 4, 4, 5]
    merged, repeated = Stream(x, 1, None, size), Stream(x[:, often], 1, None)
    for block in range(parts.depth):
        attended = parts.attend(block, merged, keys=True, cls_attention=True)
        wanted = parts.attend(block, repeated, cls_attention=True)
        torch.testing.assert_close(attended.x[:, often], wanted.x)
        assert attended.keys is not None and attended.keys.shape == (2, 5, 8)
        assert attended.cls_attention is not None and wanted.cls_attention is not None
        torch.testing.assert_close(attended.cls_attention[:, [1, 3]] / size[:, [1, 3]], wanted.cls_attention[:, [1, 5]])
        merged = merged._replace(x=parts.feed(block, attended.x))
        repeated = repeated._replace(x=parts.feed(block, wanted.x))
    torch.testing.assert_close(parts.read(merged), parts.read(repeated))


@torch.no_grad()
def test_a_masked_token_is_seen_by_itself_alone() -> None:
    parts, x = DenseParts(plain()), torch.randn(1, 5, 16)
    keep = torch.tensor([[1.0, 0, 1, 0]])
    masked = parts.attend(0, Stream(x, 1, None, None, keep)).x
    seen = [0, 1, 3]
    torch.testing.assert_close(masked[:, seen], parts.attend(0, Stream(x[:, seen], 1, None)).x)
    beside = parts.attend(0, Stream(x[:, [*seen, 2]], 1, None)).x
    torch.testing.assert_close(masked[:, 2], beside[:, 3])
    x[:, 4] += 1
    assert torch.equal(parts.attend(0, Stream(x, 1, None, None, keep)).x[:, :4], masked[:, :4])


@pytest.mark.parametrize(
    "changes",
    [{"recursions": 2}, {"early_merge": EarlyMerge(method="tome", tokens=9)}],
)
def test_what_repeats_or_merges_by_itself_is_no_plain_vit(changes: dict[str, object]) -> None:
    config = replace(BASE, **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reduce its dense twin, or give the recursive ViT an early merge"):
        ReducedConfig(base=config, method="tome", schedule=())
    with pytest.raises(InputError, match="token reduction takes a plain ViT"):
        DenseParts(RecursiveViT(config))


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"method": "prune"}, "method is 'prune'; give one of: tome, ltm, dynamicvit, evit"),
        ({"variant": "firm"}, "variant is 'firm'; give one of: soft, hard"),
        ({"variant": "hard"}, "variant 'hard' is ltm's, not tome's; leave it out"),
        ({"schedule": (ReducedAt(-1, 9),)}, "a reduction at block -1; blocks count from 0"),
        ({"schedule": (ReducedAt(0, 0),)}, "0 tokens after block 0; leave 1 or more"),
        ({"schedule": (ReducedAt(1, 9), ReducedAt(1, 8))}, "block 1 after block 1 in a schedule; give them in order"),
        (
            {"schedule": (ReducedAt(0, 9), ReducedAt(1, 12))},
            "12 tokens after block 1, where 9 were left by block 0; tokens never grow more",
        ),
        ({"schedule": (ReducedAt(3, 9),)}, "a reduction at block 3 of 3; blocks count from 0 to 2"),
        ({"schedule": (ReducedAt(0, 17),)}, "17 tokens after block 0, into which 16 go; leave 16 or fewer"),
        (
            {"schedule": (ReducedAt(0, 7),)},
            "a merge of 9 of 16 tokens at block 0; one merge takes at most half of them, 8: merge fewer here, or at "
            "more blocks",
        ),
        (
            {"method": "evit", "schedule": (ReducedAt(0, 1),)},
            "1 token after block 0; evit leaves one it chose and one it fused: 2",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(changes: dict[str, object], line: str) -> None:
    arguments = {"base": BASE, "method": "tome", "schedule": ()} | changes
    with pytest.raises(InputError) as refusal:
        ReducedConfig(**arguments)  # type: ignore[arg-type]
    assert str(refusal.value) == line


def traced(model: ReducedViT, batch: int) -> ir.Model:
    from edgevit.export.trace import trace

    names = ("logits", "assignment")
    return trace(Deployed(model, lambda image: model.reduce(image), names), (batch, 3, 32, 32), 18)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_the_graph_answers_as_the_module_and_scatters_nothing(method: Method, batch: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model, image = reduced(method, SCHEDULES[method]), torch.randn(batch, 3, 32, 32)
    graph = traced(model, batch)
    operators = {node.op_type for node in graph.graph}
    for bad in ("Scatter", "GatherElements", "GatherND", "NonZero", "ArgMax", "ArgMin", "If", "Loop", "CumSum"):
        assert not any(operator.startswith(bad) for operator in operators)
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    logits, assignment = session.run(None, {"image": image.numpy()})
    wanted = model.reduce(image)
    torch.testing.assert_close(torch.from_numpy(logits), wanted.logits, atol=1e-5, rtol=1e-5)
    assert isinstance(wanted.assignment, Tensor)
    assert assignment.tolist() == wanted.assignment.tolist()
    assert assignment.dtype == "int32"
