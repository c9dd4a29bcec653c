"""Classifiers of timm's, opened by name. The only file that knows timm; what it opens is timm's own, untouched."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

import timm
import torch
from timm.layers import Attention
from timm.models.byobnet import ByobNet
from timm.models.deit import VisionTransformerDistilled
from timm.models.efficientvit_mit import EfficientVit
from timm.models.mobilevit import MobileVitBlock
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Block, VisionTransformer
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional

from edgevit.errors import InputError
from edgevit.models.backbone_config import TimmConfig
from edgevit.preprocess import Preprocess

__all__ = [
    "CARRIERS",
    "Layout",
    "TimmClassifier",
    "inference_form",
    "layout_of",
    "open_backbone",
    "published_layout",
    "require_sequence",
]

Layout = Literal["sequence", "swin", "mobilevit", "efficientvit"]

CARRIERS = (
    "any plain VisionTransformer of timm's (vit_*, deit_*) carries tome, ltm, dynamicvit and evit; "
    "swin_*, mobilevit_* and efficientvit_b* carry ltm"
)
_CLASSES = 1000
_Module = TypeVar("_Module", bound=nn.Module)


class TimmClassifier(nn.Module):
    """A classifier as timm made it.

    Attributes:
        model: timm's.
        config: which of timm's it is.
    """

    def __init__(self, model: nn.Module, config: TimmConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, image: Tensor) -> Tensor:
        """B x 3 x H x W to logits B x C."""
        return self.model(image)

    def inference_form(self) -> TimmClassifier:
        """A copy that answers the same and traces well (`inference_form`)."""
        return inference_form(self, self.config.image_size)


def inference_form(module: _Module, image_size: int) -> _Module:
    """A copy of a module around a timm model, in the form for inference.

    Attention is decomposed by timm's own switch of each module, branches that timm can fuse are fused, and attention
    biases that timm caches are looked up, so that no graph has to look them up again.
    """
    form = reparameterize_model(copy.deepcopy(module).cpu().eval(), inplace=True).requires_grad_(False)
    for part in form.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    with torch.no_grad():  # not inference_mode: what is cached goes into a trace
        form(torch.zeros(1, 3, image_size, image_size))
    return form


def open_backbone(
    name: str, classes: int | None = None, image_size: int | None = None
) -> tuple[TimmClassifier, TimmConfig, Preprocess]:
    """Open a classifier of timm's, with random weights that are the same every time and its own preprocessing.

    Args:
        name: timm's, such as `deit_small_patch16_224`; with a tag (`name.tag`) the preprocessing is that tag's.
        classes: of its head; by default as many as timm says, and 1000 where that is more or none.
        image_size: H = W in pixels; by default the one timm says.

    Raises:
        InputError: timm has no such model or tag; the architecture does not take that size; its preprocessing cannot
            be expressed.
    """
    record = _record(name)
    preprocess = _preprocess(name, record, image_size)
    stated = record.num_classes if 1 <= record.num_classes <= _CLASSES else _CLASSES
    config = TimmConfig(name=name, classes=stated if classes is None else classes, image_size=preprocess.height)
    model = _created(config, asked_size=image_size not in (None, record.input_size[1]), usual=record.input_size[1])
    return TimmClassifier(model, config).eval(), config, preprocess


def layout_of(model: nn.Module) -> Layout | None:
    """How a timm model is laid out for reduction; None for one that carries none."""
    if type(model) in (VisionTransformer, VisionTransformerDistilled):
        return "sequence" if _obstacle(model) is None else None
    if type(model) is SwinTransformer:
        return "swin"
    if type(model) is EfficientVit:
        return "efficientvit"
    if type(model) is ByobNet and any(isinstance(part, MobileVitBlock) for part in model.modules()):
        return "mobilevit"
    return None


def require_sequence(name: str, model: nn.Module) -> None:
    """Refuse a model that does not come apart into blocks of two halves over one sequence of tokens.

    Raises:
        InputError: it does not; the line says why and which backbones carry a reduction.
    """
    obstacle = _obstacle(model)
    if obstacle is not None:
        raise InputError(f"{name}: {obstacle}; {CARRIERS}")


def published_layout(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that timm's model has: files were published before parts were renamed.

    timm keeps for each architecture the function that reads its published files; it also fits position embeddings to
    another image size.
    """
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return dict(adapt(dict(tensors), model) if adapt else tensors)


def _obstacle(model: Any) -> str | None:
    """What keeps a model from being opened as a sequence backbone, in words; None if nothing does."""
    if type(model) not in (VisionTransformer, VisionTransformerDistilled):
        return f"a model of type {type(model).__name__} does not come apart into attention and MLP"
    blocks = {type(block).__name__ for block in model.blocks if type(block) is not Block}
    if blocks:
        return f"its blocks ({', '.join(sorted(blocks))}) are not attention and then MLP"
    if any(type(block.attn) is not Attention for block in model.blocks):
        return f"its attention ({type(model.blocks[0].attn).__name__}) has no queries and keys to judge tokens by"
    if model.attn_pool is not None or model.pool_include_prefix or model.global_pool not in ("token", "avg"):
        return f"its head pools by '{model.global_pool}', which does not know how many patches a token stands for"
    if not isinstance(model.patch_drop, nn.Identity):
        return "it drops patches at random in training"
    return None


def _record(name: str) -> Any:
    """timm's record of a model's weights: classes, input and preprocessing.

    Raises:
        InputError: there is no such model or tag.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models() for those it has"
        raise InputError(f"timm has no model '{architecture}'; {hint}")
    try:
        record = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        raise InputError(
            f"timm has no tag '{tag}' of {architecture}; it has: {', '.join(tags) or 'none, leave it out'}"
        ) from error
    if record is None:
        raise InputError(f"{name}: timm does not say what input it takes; use another model")
    return record


def _preprocess(name: str, record: Any, image_size: int | None) -> Preprocess:
    """What timm's `create_transform` does for evaluation."""
    channels, height, width = record.input_size
    squash = record.crop_mode == "squash" and record.crop_pct == 1
    known = {
        f"{channels} channels": channels == 3,
        f"an input of {height} x {width}": height == width,
        f"interpolation '{record.interpolation}'": record.interpolation in ("bilinear", "bicubic"),
        f"crop mode '{record.crop_mode}' of {record.crop_pct:g}": record.crop_mode == "center" or squash,
        f"a crop of {record.crop_pct:g}": 0 < record.crop_pct <= 1,
    }
    for what, expressible in known.items():
        if not expressible:
            raise InputError(
                f"{name}: timm prepares its pictures with {what}; wanted 3 channels, a square, bilinear or bicubic, "
                "and a centred crop: use another model or tag"
            )
    size = height if image_size is None else image_size
    return Preprocess(
        height=size, width=size, mean=tuple(record.mean), std=tuple(record.std),
        resize="stretch" if squash else "crop", crop_fraction=float(record.crop_pct),
        interpolation=record.interpolation,
    )  # fmt: skip


def _created(config: TimmConfig, *, asked_size: bool, usual: int) -> nn.Module:
    """timm's model with weights from a fixed seed, at an image size that it takes.

    What timm begins at zero is made random too: the graph of a model whose biases are zero, or whose last norm of a
    branch multiplies with zero, is not the one that a trained model has. And batch norms see some noise: with the
    statistics they begin with nothing is normalised, and after some stages the answer to every picture is the same.
    """
    size = config.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _sized(config, size if asked_size else None, usual).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("bias", "biases")) or not parameter.any():
                    norm = parameter.ndim == 1 and name.endswith("weight")
                    parameter.normal_(mean=0.2 if norm else 0.0, std=0.02)
            _settle_batch_norms(model, size)
    step = _step(model)
    if size % step:
        near = f"{size // step * step} or {size // step * step + step}" if size > step else str(step)
        raise InputError(f"{config.name} takes images of a multiple of {step} pixels a side, not {size}; give {near}")
    return model


def _settle_batch_norms(model: nn.Module, size: int) -> None:
    """Give batch norms the statistics of noise, fine and coarse as pictures are, and some much stronger.

    EfficientViT (MSRA) has nothing but batch norms before its attention, so that an image ten times as strong as those
    it knows makes logits a hundred times as large: such a model would be proved on rounding alone.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        noise = [functional.interpolate(torch.randn(2, 3, side, side), (size, size)) for side in (4, 16, 64, size)]
        model(torch.cat([*noise, 10 * noise[-1]]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        if norm.running_var is not None:  # a channel that hardly varied in so few images is not blown up
            norm.running_var.clamp_(min=0.1 * norm.running_var.mean().item())


def _sized(config: TimmConfig, size: int | None, usual: int) -> nn.Module:
    """timm's model, for images of another size than its usual one where that is asked for."""
    if size is None:
        return timm.create_model(config.name, pretrained=False, num_classes=config.classes)
    refusal = InputError(f"{config.name} does not take images of {size} x {size}; it takes {usual} x {usual}")
    try:
        return timm.create_model(config.name, pretrained=False, num_classes=config.classes, img_size=size)
    except TypeError:  # its constructor does not ask: a convolutional layout takes what it gets, or fails on it
        model = timm.create_model(config.name, pretrained=False, num_classes=config.classes).eval()
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise refusal from error
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise refusal from error
    return model


def _step(model: Any) -> int:
    """What the image's side is a multiple of: the patch; for a MobileViT, so that it never resizes a feature map."""
    if layout_of(model) == "mobilevit":
        patches = [part.patch_size[0] for part in model.modules() if isinstance(part, MobileVitBlock)]
        return int(model.feature_info[-1]["reduction"]) * max(patches)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    return int(patch[0] if isinstance(patch, tuple) else patch)
