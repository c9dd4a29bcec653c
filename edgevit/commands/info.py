"""`edgevit info`: what a model, a checkpoint or a bundle is, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from edgevit import console
from edgevit.commands.cost_table import blocks_of, show_blocks
from edgevit.commands.options import Json, given, setting
from edgevit.commands.routing_words import budget_words, reduction_words, routing_words
from edgevit.errors import EdgevitError, InputError
from edgevit.extras import needs

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.models.source import ModelSource

__all__ = ["bundle_record", "info", "show_bundle"]

_Subject = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|BUNDLE", help="A name of `edgevit list models`, timm/NAME and so on, a bundle, or a checkpoint."
    ),
]
_InputSize = Annotated[int | None, setting("--input-size", "N", "Pixels a side, of a model.", "the model's")]
_Schedule = Annotated[str | None, setting("--schedule", "TEXT", "What tome/NAME and so on reduce.", "the method's")]

_WANTED = "give a name of `edgevit list models`, a folder that edgevit export wrote, or a .safetensors"


def info(subject: _Subject, input_size: _InputSize = None, schedule: _Schedule = None, json: Json = False) -> None:
    """Say what a model, checkpoint or bundle is and costs.

    Costs are counted block by block from the graph: a bundle's own, or that which the export of a model begins with.
    """
    path = Path(subject)
    asked = given(input_size=input_size, schedule=schedule)
    if path.is_dir():
        from edgevit.bundle import Bundle

        if asked:
            raise InputError(f"{subject}: a bundle has its size and schedule in its graph; leave the options out")
        bundle = Bundle.open(path)
        bundle.verify_files()
        if json:
            console.show_json(bundle_record(bundle))
        else:
            show_bundle(bundle)
            _show_costs(bundle)
        return
    record = _described(_source(subject, path, asked))
    if json:
        console.show_json(record)
    else:
        _show_model(record)


def bundle_record(bundle: Bundle) -> dict[str, Any]:
    """A bundle for programs: where it is, the hash that stands for it, and all that it says of itself."""
    return {"bundle": str(bundle.path), "digest": bundle.digest, "manifest": bundle.manifest}


def show_bundle(bundle: Bundle) -> None:
    """Print what a bundle is."""
    manifest = bundle.manifest
    facts: dict[str, Any] = {
        "model": f"{manifest.model.source}, {console.millions(manifest.model.parameters)} parameters",
        "target": f"{manifest.target}, {manifest.precision_achieved}, opset {manifest.opset}",
        "routing": routing_words(manifest.routing, manifest.reduction),
    }
    if manifest.routing is not None and manifest.routing.budgets:
        facts["budgets"] = budget_words(bundle, manifest.routing)
    if manifest.reduction is not None:
        facts["reduction"] = reduction_words(manifest.reduction)
    facts |= {
        "input": str(manifest.input),
        "outputs": "; ".join(map(str, manifest.outputs)),
        "labels": f"{len(manifest.labels)}: {_shortened(manifest.labels)}",
    }
    if isinstance(flops := manifest.cost.get("flops"), int):
        least, batch = flops - _saved_at_most(manifest.cost), manifest.input.shape[0]
        span = f"{least / batch / 1e9:.3g} to " if least < flops else ""
        facts["compute"] = f"{span}{flops / batch / 1e9:.3g} GFLOPs an image"
    facts["parity"] = _parity(bundle)
    facts["files"] = ", ".join(f"{name} {console.size(record.size_bytes)}" for name, record in manifest.files.items())
    facts["made with"] = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    facts["digest"] = console.faint(bundle.digest)
    console.show_facts(facts, title=str(bundle.path))


def _saved_at_most(cost: Mapping[str, Any]) -> int:
    """FLOPs that an adaptive graph leaves out where each step takes its first budget; 0 of any other graph."""
    ladders = cost.get("ladders")
    steps: dict[int, list[int]] = {}
    for rung in ladders["rungs"] if isinstance(ladders, Mapping) else ():
        steps.setdefault(rung["step"], []).append(rung["flops"])
    return sum(max(flops) - min(flops) for flops in steps.values())


def _show_costs(bundle: Bundle) -> None:
    """Print what each block of a bundle's graph costs."""
    blocks = blocks_of(bundle.manifest.cost)
    if blocks:
        show_blocks(blocks, bundle.manifest.input.shape[0])
    else:
        console.note("no table of blocks: this bundle was written without one; export it again")


def _parity(bundle: Bundle) -> Any:
    parity = bundle.manifest.parity
    if parity is None:
        return console.bad("not verified; run edgevit export without --no-verify")
    ties = f", {parity.near_ties} near-ties" if parity.step_agreement or parity.patches_agreed is not None else ""
    merged = ""
    if parity.patches_agreed is not None:
        merged = f", {100 * parity.patches_agreed:.4g} % of the patches in the same token"
    return console.good(
        f"{parity.decisions_agreed} of {parity.inputs} decisions as {parity.reference}, "
        f"logits within {parity.max_abs_error:.1e}{merged}{ties}"
    )


def _source(subject: str, path: Path, asked: dict[str, Any]) -> ModelSource:
    """The model that was asked for.

    Raises:
        InputError: it is a path, and there is nothing there that this command knows; or no such model.
        MissingExtra: torch is not installed.
    """
    checkpoint = path.suffix == ".safetensors"
    if path.exists() and not checkpoint:
        inside = f"; for its bundle give {path.parent}" if (path.parent / "manifest.json").is_file() else f"; {_WANTED}"
        raise InputError(f"{subject}: is a file and no checkpoint{inside}")
    if not path.exists() and (checkpoint or _is_path(subject)):
        what = "No such file" if checkpoint else "no such folder or file"
        raise InputError(f"{subject}: {what}; {_WANTED}")
    with needs("export"):
        from edgevit.models.opening import open_model
    if not checkpoint:
        return open_model(subject, **asked)
    if asked:
        raise InputError(f"{subject}: a checkpoint has its size and schedule in it; leave the options out")
    from edgevit.models.checkpoint import load_checkpoint
    from edgevit.models.source import ModelSource

    stored = load_checkpoint(path)
    return ModelSource(str(path), stored.model, stored.labels, stored.preprocess, stored.sha256)


def _is_path(subject: str) -> bool:
    """Whether somebody who wrote this meant a place, and not `timm/NAME` or `package.module:function`."""
    from edgevit.spec import Method

    family = subject.partition("/")[0]
    return "/" in subject and ":" not in subject and family not in ("timm", *get_args(Method))


def _described(source: ModelSource) -> dict[str, Any]:
    """A model for programs: what it is and, where its graph can be made, what that costs."""
    config: Any = getattr(source.module, "config", None)
    stored = source.name.endswith(".safetensors")
    record: dict[str, Any] = {"checkpoint" if stored else "model": source.name}
    record |= _of_catalog(source.name)
    record |= {
        "parameters": sum(parameter.numel() for parameter in source.module.parameters()),
        "labels": source.labels,
        "sha256": source.checkpoint_sha256 or None,
        "fresh": source.fresh,
        "config": config,
        "preprocess": source.preprocess,
    }
    if hasattr(config, "budget"):
        record["patches_per_step"] = config.budget
    return record | _costs(source)


def _of_catalog(name: str) -> dict[str, Any]:
    from edgevit.models.catalog import CATALOG

    for entry in CATALOG:
        if entry.name == name:
            ships = entry.weights is not None and entry.weights.exists()
            return {"description": entry.description, "ships_weights": ships}
    return {}


def _costs(source: ModelSource) -> dict[str, Any]:
    """The costs of the graph of a model, counted in memory; None, and a word on why, where there can be none."""
    try:
        with needs("export"), console.progress() as tell:
            from edgevit.export.pipeline import build_graph
            from edgevit.export.settings import ExportSettings

            # A shorter graph has the same products; what simplifying it takes is time.
            settings = ExportSettings(simplify=False)
            steps = iter((0.1, 0.6, 0.9))
            graph = build_graph(source, settings, lambda step: tell(next(steps, 0.9), step))
    except EdgevitError as error:
        console.note(f"no costs: {error}")
        return {"routing": None, "reduction": None, "cost": None}
    return {"routing": graph.routing, "reduction": graph.reduction, "cost": graph.cost}


def _show_model(record: dict[str, Any]) -> None:
    facts: dict[str, Any] = {}
    if "description" in record:
        facts["what it is"] = record["description"]
    hashed = record["sha256"]
    facts["weights"] = console.faint(f"SHA-256 {hashed}") if hashed else "random"
    if record["fresh"]:
        facts["untrained"] = console.caution(f"{_shortened(record['fresh'], 4)}: in no file, so train the model")
    facts["labels"] = f"{len(record['labels'])}: {_shortened(record['labels'])}"
    facts["parameters"] = console.millions(record["parameters"])
    facts |= _architecture(record["config"])
    preprocess, cost = record["preprocess"], record["cost"]
    facts.setdefault("image", f"{preprocess.height} x {preprocess.width} pixels")
    if record["reduction"] is not None:
        facts["reduction"] = reduction_words(record["reduction"])
    if cost is not None:
        facts["compute"] = f"{cost.flops / 1e9:.3g} GFLOPs an image"
    console.show_facts(facts, title=record.get("model") or record["checkpoint"])
    if cost is not None:
        show_blocks(cost.blocks, 1)


def _architecture(config: Any) -> dict[str, str]:
    """What edgevit knows of its own architectures; of others the graph speaks."""
    from edgevit.models.recursive import RecursiveConfig

    base = getattr(config, "base", config)
    if not isinstance(base, RecursiveConfig):
        return {"backbone": f"{base.name} of timm's"} if hasattr(base, "name") else {}
    rows, columns = base.grid
    facts = {
        "image": f"{base.image_size} x {base.image_size} pixels, {rows} x {columns} patches",
        "blocks": f"{base.depth} of width {base.width} with {base.heads} heads, applied {base.recursions} times",
    }
    if base.router != "none":
        budget = ", ".join(map(str, base.budget))
        routed = f"{base.tokens} {'patches' if base.early_merge is None else 'tokens'}"
        facts["router"] = f"{base.router.replace('_', ' ')}: {budget} of {routed}"
        facts["thresholds"] = "calibrated" if base.thresholds else "not calibrated"
    return facts


def _shortened(labels: Sequence[str], shown: int = 8) -> str:
    rest = len(labels) - shown
    return ", ".join(labels[:shown]) + (f" and {rest} more" if rest > 0 else "")
