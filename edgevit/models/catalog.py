"""The models edgevit knows by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from edgevit.errors import InputError
from edgevit.models.architecture import Architecture, parameters_of
from edgevit.models.recursive import RecursiveConfig, dense_twin
from edgevit.models.reduced_config import ReducedConfig
from edgevit.models.reduction import ReducedAt

__all__ = ["CATALOG", "CatalogEntry", "entry_named"]

_WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class CatalogEntry:
    """A model known by name.

    Attributes:
        name: what MODEL takes.
        description: one line for `edgevit list models`.
        config: its architecture.
        weights: the checkpoint that ships: its own, or that of the plain model it reduces; None for random weights.
    """

    name: str
    description: str
    config: Architecture
    weights: Path | None

    @property
    def parameters(self) -> int:
        """Numbers it holds, each shared one counted once; none is allocated for the counting."""
        return parameters_of(self.config)


_STEEL = RecursiveConfig(
    image_size=128, patch_size=8, classes=7, width=128, heads=4, depth=3, recursions=4, per_step_norm=True,
    stem="conv", pool="cls+mean",
)  # fmt: skip
_STEEL_DENSE = dense_twin(_STEEL)
_DEIT_S = RecursiveConfig()
# Every matrix used twice, norms of its own for each use: what MiniViT (arXiv 2204.07154) shares, without its
# transformations of the heads.
_TIED = replace(_DEIT_S, depth=6, recursions=2, per_step_norm=True, router="none", capacities=(1.0, 1.0))

CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        "steel-recursive", "steel defects; 3 blocks x 4 steps at 1, 1/4, 1/8, 1/16 of the patches",
        _STEEL, _WEIGHTS / "steel-recursive.safetensors",
    ),
    CatalogEntry(
        # Half of steel-recursive's patches, since a picture that needs more takes them from one that needs none.
        "steel-adaptive", "steel defects; as many patches a step as the picture needs",
        replace(_STEEL, capacities=(1.0, 1 / 8, 1 / 16, 1 / 32)), _WEIGHTS / "steel-adaptive.safetensors",
    ),
    CatalogEntry(
        "steel-dense", "steel defects; the plain ViT of the same width and depth",
        _STEEL_DENSE, _WEIGHTS / "steel-dense.safetensors",
    ),
    CatalogEntry(
        "steel-ltm", "steel defects; the plain ViT with learned merging, fine-tuned",
        ReducedConfig(base=_STEEL_DENSE, method="ltm", schedule=(ReducedAt(2, 128), ReducedAt(6, 64))),
        _WEIGHTS / "steel-ltm.safetensors",
    ),
    CatalogEntry(
        # Three merges and not one a block: at this width the many small operators of a merge cost as much as it saves.
        # With CLS, multiples of 8, to which engines would pad their products.
        "steel-tome", "steel defects; the plain ViT with ToMe, untrained for it",
        ReducedConfig(
            base=_STEEL_DENSE, method="tome", schedule=(ReducedAt(2, 159), ReducedAt(5, 103), ReducedAt(8, 63))
        ),
        _WEIGHTS / "steel-dense.safetensors",
    ),
    CatalogEntry(
        "steel-token-choice", "steel defects; each patch's depth chosen at entry; random weights, to be trained",
        replace(_STEEL, router="token_choice"), None,
    ),
    CatalogEntry("recursive-deit-s", "DeiT-S width, 3 blocks x 4 steps; random weights, for benchmarks", _DEIT_S, None),
    CatalogEntry("dense-deit-s", "DeiT-S, 12 blocks; random weights, for benchmarks", dense_twin(_DEIT_S), None),
    CatalogEntry("tied-deit-s", "DeiT-S width, 6 blocks used twice as MiniViT ties them; random weights", _TIED, None),
)  # fmt: skip


def entry_named(name: str) -> CatalogEntry:
    """The catalog's entry of that name.

    Raises:
        InputError: there is none; the line names the nearest.
    """
    for entry in CATALOG:
        if entry.name == name:
            return entry
    names = [entry.name for entry in CATALOG]
    near = get_close_matches(name, names, n=1)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else f"wanted one of: {', '.join(names)}, timm/NAME, tome/NAME, ltm/NAME, dynamicvit/NAME, evit/NAME, or "
        "package.module:function"
    )
    raise InputError(f"unknown model '{name}'; {hint}")
