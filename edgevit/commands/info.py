"""`edgevit info`: what a model, a checkpoint or a bundle is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevit import console
from edgevit.commands.options import Json
from edgevit.errors import InputError
from edgevit.extras import needs

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.models.recursive import RecursiveConfig
    from edgevit.spec import RoutingSpec

__all__ = ["bundle_record", "info", "show_bundle"]

_Subject = Annotated[
    str,
    typer.Argument(metavar="MODEL|BUNDLE", help="A name of `edgevit list models`, a bundle, or a checkpoint file."),
]


def info(subject: _Subject, json: Json = False) -> None:
    """Say what a model, a checkpoint or a bundle is."""
    path = Path(subject)
    if path.suffix != ".safetensors" and (path.is_dir() or "/" in subject):
        from edgevit.bundle import Bundle

        bundle = Bundle.open(path)
        if json:
            console.show_json(bundle_record(bundle))
        else:
            show_bundle(bundle)
        return
    record = _checkpoint(path) if path.suffix == ".safetensors" else _model(subject)
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
        "routing": _routing(manifest.routing),
        "input": str(manifest.input),
        "outputs": "; ".join(map(str, manifest.outputs)),
        "labels": f"{len(manifest.labels)}: {_shortened(manifest.labels)}",
    }
    if isinstance(flops := manifest.cost.get("flops"), int):
        facts["compute"] = f"{flops / manifest.input.shape[0] / 1e9:.3g} GFLOPs an image"
    facts["parity"] = _parity(bundle)
    facts["files"] = ", ".join(f"{name} {console.size(record.size_bytes)}" for name, record in manifest.files.items())
    facts["made with"] = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    facts["digest"] = console.faint(bundle.digest)
    console.show_facts(facts, title=str(bundle.path))


def _routing(routing: RoutingSpec | None) -> str:
    if routing is None:
        return "dense: every patch in every layer"
    words = {"expert_choice": "expert choice", "token_choice": "token choice", "none": "no router"}
    what = f"{routing.mode}, {words[routing.router]}"
    if routing.capacities:
        return (
            f"{what}: {', '.join(map(str, routing.capacities))} of {routing.patches} patches in {routing.steps} steps"
        )
    rule = f" by threshold {', '.join(f'{value:.3g}' for value in routing.thresholds)}" if routing.thresholds else ""
    return f"{what}{rule}: up to {routing.patches} patches in {routing.steps} steps"


def _parity(bundle: Bundle) -> Any:
    parity = bundle.manifest.parity
    if parity is None:
        return console.bad("not verified; run edgevit export without --no-verify")
    tokens = f", {parity.near_ties} near-ties" if parity.step_agreement else ""
    return console.good(
        f"{parity.decisions_agreed} of {parity.inputs} decisions as {parity.reference}, "
        f"logits within {parity.max_abs_error:.1e}{tokens}"
    )


def _model(name: str) -> dict[str, Any]:
    if ":" in name:
        raise InputError(
            f"{name}: only edgevit's own models are known before an export; export it and ask for its bundle"
        )
    with needs("export"):
        from edgevit.models.catalog import entry_named

    entry = entry_named(name)
    return {
        "model": name,
        "description": entry.description,
        "ships_weights": entry.weights is not None and entry.weights.exists(),
        "parameters": entry.parameters,
        "patches_per_step": entry.config.budget,
        "config": entry.config,
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    with needs("export"):
        from edgevit.models.checkpoint import load_checkpoint

    stored = load_checkpoint(path)
    return {
        "checkpoint": str(path),
        "sha256": stored.sha256,
        "labels": stored.labels,
        "parameters": sum(parameter.numel() for parameter in stored.model.parameters()),
        "patches_per_step": stored.model.config.budget,
        "config": stored.model.config,
        "preprocess": stored.preprocess,
    }


def _show_model(record: dict[str, Any]) -> None:
    config: RecursiveConfig = record["config"]
    facts = {}
    if "description" in record:
        facts["what it is"] = record["description"]
        facts["weights"] = "shipped" if record["ships_weights"] else "random"
    if "labels" in record:
        facts["labels"] = f"{len(record['labels'])}: {_shortened(record['labels'])}"
    facts["parameters"] = console.millions(record["parameters"])
    rows, columns = config.grid
    facts["image"] = f"{config.image_size} x {config.image_size} pixels, {rows} x {columns} patches"
    facts["blocks"] = (
        f"{config.depth} of width {config.width} with {config.heads} heads, applied {config.recursions} times"
    )
    if config.router != "none":
        budget = ", ".join(map(str, config.budget))
        facts["router"] = f"{config.router.replace('_', ' ')}: {budget} of {config.patches} patches"
        facts["thresholds"] = "calibrated" if config.thresholds else "not calibrated"
    facts["compute"] = console.faint("stands in a bundle; run edgevit export")
    console.show_facts(facts, title=record.get("model") or record["checkpoint"])


def _shortened(labels: Sequence[str], shown: int = 8) -> str:
    rest = len(labels) - shown
    return ", ".join(labels[:shown]) + (f" and {rest} more" if rest > 0 else "")
