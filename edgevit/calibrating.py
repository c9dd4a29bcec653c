"""Setting the thresholds of a bundle on somebody's pictures: the part of `edgevit.api` that edits and proves a graph.

Thresholds are constants of the graph, so new ones make a new bundle. Its reference is the same graph with every step in
its last rung, which computes all tokens as `mask` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import CheckFailed, InputError
from edgevit.extras import needs
from edgevit.threshold_trial import Pictures, TradeOff, Trial

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.manifest import Manifest, ParityEvidence
    from edgevit.parity import Golden, Parity
    from edgevit.runner import Runner
    from edgevit.spec import RoutingSpec

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A new bundle and what it was chosen from.

    Attributes:
        bundle: the one written.
        data: the pictures.
        images: how many were looked at.
        present: the bundle as it was.
        chosen: the setting of the new one.
        curve: settings from few patches to many, the present and the chosen one among them.
    """

    bundle: str
    data: str
    images: int
    present: TradeOff
    chosen: TradeOff
    curve: tuple[TradeOff, ...]


def calibrate(
    bundle: str | Path,
    data: str | Path,
    *,
    output: str | Path,
    share: float | None = None,
    patches: Sequence[float] | None = None,
    min_accuracy: float | None = None,
    samples: int = 256,
    force: bool = False,
    report: Callable[[float], None] | None = None,
) -> Calibration:
    """Set a bundle's thresholds for a mean budget or for an accuracy, in a new bundle.

    One of `share`, `patches` and `min_accuracy` says what is wanted. Without any, the new bundle is the cheapest one
    that is no less accurate on these pictures than the present one.

    Args:
        bundle: one that selects by threshold.
        data: a folder per class, of whose `train` and `val` the first is taken; or, where nothing is asked of accuracy,
            any folder of pictures.
        output: the folder of the new bundle.
        share: mean number of patches after the first step, as a share of what the present thresholds take.
        patches: mean number of patches of each step after the first.
        min_accuracy: the least accuracy, 0 to 1.
        samples: how many pictures are looked at, spread evenly over the sorted ones.
        force: replace the bundle at `output`.
        report: told the share done, 0 to 1.

    Raises:
        InputError: the bundle has no thresholds, the pictures do not fit it, or the wishes contradict each other.
        CheckFailed: no setting is as accurate as was wanted, or the new graph answers otherwise than its reference;
            nothing is written then.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    from edgevit.bundle import GRAPH_NAME, Bundle
    from edgevit.bundle_writer import check_output

    with needs("export"):
        from edgevit.export.recalibrate import recalibrated  # noqa: F401 - before any work

    wishes = {"--share": share, "--patches": patches, "--min-accuracy": min_accuracy}
    asked = [name for name, value in wishes.items() if value is not None]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} ask for different things; give one of them")
    if share is not None and not 0 < share < float("inf"):
        raise InputError(f"--share {share:g}; wanted a number above 0, such as 0.5 for half as many patches")
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise InputError(f"--min-accuracy {min_accuracy:g}; wanted 0 to 1, such as 0.98")
    check_output(output, force=force)
    opened = Bundle.open(bundle)
    routing = _by_threshold(opened)
    opened.verify_files()
    pictures = Pictures.of(opened, Path(data), samples, labelled=share is None and patches is None)
    trial = Trial(opened.manifest, opened.read(GRAPH_NAME), routing, pictures, report)
    curve = trial.curve(share, _wanted(patches, routing))
    present = curve[0]
    if share is not None or patches is not None:
        chosen = next(point for point in curve if point.share == share)
    else:
        chosen = _cheapest(curve, present, min_accuracy)
    written = _write(opened, chosen, trial, Path(output), force)
    return Calibration(
        bundle=str(written.path),
        data=str(data),
        images=len(pictures.images),
        present=present,
        chosen=chosen,
        curve=tuple(sorted(curve, key=lambda point: sum(point.patches))),
    )


def _by_threshold(bundle: Bundle) -> RoutingSpec:
    manifest = bundle.manifest
    if manifest.routing is None or manifest.routing.selection != "threshold":
        rule = "no routing" if manifest.routing is None else f"{manifest.routing.mode} routing"
        raise InputError(
            f"{bundle.path}: has {rule} and no thresholds to set; export an expert-choice model with --routing adaptive"
        )
    if manifest.precision_achieved != "fp32":
        raise InputError(
            f"{bundle.path}: is in {manifest.precision_achieved}; calibrate the bundle in fp32 and export again with "
            "its --thresholds"
        )
    if bundle.stages is not None:
        raise InputError(
            f"{bundle.path}: is adaptive in stages, each with thresholds of its own; calibrate an export with --target "
            "cpu-x86 and export this one again with its --thresholds"
        )
    if "depth" not in [output.name for output in manifest.outputs]:
        raise InputError(f"{bundle.path}: does not tell which patches it took; export it again without --no-trace")
    return manifest.routing


def _wanted(patches: Sequence[float] | None, routing: RoutingSpec) -> tuple[float, ...] | None:
    """The mean patches asked for, if they are a schedule for this model."""
    if patches is None:
        return None
    bounds = (routing.tokens, *patches)
    falling = all(0 <= after <= before for before, after in zip(bounds, patches))  # noqa: B905 - one shorter
    if len(patches) != routing.steps - 1 or not falling:
        raise InputError(
            f"--patches {', '.join(f'{count:g}' for count in patches)}; wanted {routing.steps - 1} numbers, none above "
            f"the one before it or {routing.tokens}"
        )
    return tuple(float(count) for count in patches)


def _cheapest(curve: Sequence[TradeOff], present: TradeOff, min_accuracy: float | None) -> TradeOff:
    """The setting with the fewest FLOPs that is accurate enough; of equal ones the one with the fewest patches.

    Raises:
        CheckFailed: none is.
    """
    assert present.accuracy is not None, "labels were asked for"
    least = present.accuracy if min_accuracy is None else min_accuracy
    enough = [point for point in curve if point.accuracy is not None and point.accuracy >= least]
    if not enough:
        best = max(point.accuracy for point in curve if point.accuracy is not None)
        raise CheckFailed(f"no setting of the thresholds reaches an accuracy of {least:.4g}, the best {best:.4g}")
    return min(enough, key=lambda point: (point.gflops, sum(point.patches)))


def _write(bundle: Bundle, chosen: TradeOff, trial: Trial, output: Path, force: bool) -> Bundle:
    from edgevit import strict_json
    from edgevit.bundle import GOLDEN_NAME, GRAPH_NAME
    from edgevit.bundle_writer import write_bundle
    from edgevit.npz import pack_arrays

    manifest = bundle.manifest
    assert manifest.routing is not None, "looked at before any work"
    routing = replace(manifest.routing, thresholds=chosen.thresholds)
    _check_present(bundle, trial)
    graph = trial.form(chosen.thresholds)
    golden = _golden(bundle, routing, trial)
    parity, evidence = _proved(graph, golden, manifest)
    config = dict(manifest.model.config)
    if "thresholds" in config:
        config["thresholds"] = list(chosen.thresholds)
    changed = replace(
        manifest,
        model=replace(manifest.model, config=config),
        routing=routing,
        parity=evidence,
    )
    files = {
        GRAPH_NAME: graph,
        GOLDEN_NAME: pack_arrays(golden.to_arrays()),
        "parity.json": strict_json.encode(parity),
    }
    return write_bundle(output, changed, files, force=force)


def _golden(bundle: Bundle, routing: RoutingSpec, trial: Trial) -> Golden:
    """The bundle's golden inputs with the answers of all tokens computed, and how close each selection was."""
    import numpy as np

    from edgevit.export.recalibrate import score_output
    from edgevit.parity import Golden

    old = Golden.from_arrays(bundle.golden())
    outputs = trial.answers(trial.form(routing.thresholds, scores=True, last_rungs=True), old.images)
    margins, depth = [], np.ones_like(outputs["depth"])
    for step, threshold in enumerate(routing.thresholds, start=1):
        score = outputs[score_output(step)]
        spread = np.maximum(np.ptp(score, axis=1), np.finfo(np.float32).tiny)[:, None]
        with np.errstate(over="ignore"):  # from a threshold that nothing passes every score is infinitely far
            distance = (np.abs(score.astype(np.float64) - threshold) / spread).astype(np.float32)
        margins.append(np.where(outputs["depth"] >= step, distance, np.float32(np.inf)))
        depth += (depth >= step) & (score > np.float32(threshold))
    if not np.array_equal(outputs["depth"], depth):
        raise CheckFailed("the graph takes other tokens than its scores and thresholds say; nothing written")
    return replace(old, logits=outputs["logits"], depth=outputs["depth"], margin=np.stack(margins, axis=1))


def _check_present(bundle: Bundle, trial: Trial) -> None:
    """Hold the graph under its present thresholds against the source model's answers, which the bundle has.

    Raises:
        CheckFailed: it answers otherwise here, so that nothing it is compared with afterwards would prove anything.
    """
    from edgevit.parity import Golden
    from edgevit.runtimes.ort import OrtRunner

    assert bundle.manifest.routing is not None, "looked at before any work"
    graph = trial.form(bundle.manifest.routing.thresholds)
    with OrtRunner(graph) as runner:
        parity = _compared(Golden.from_arrays(bundle.golden()), runner, bundle.manifest)
    if not parity.passed:
        raise CheckFailed(f"{bundle.path}: does not answer as its source here: {parity.faults[0]}; nothing written")


def _compared(golden: Golden, runner: Runner, manifest: Manifest) -> Parity:
    from edgevit.export.settings import ExportSettings
    from edgevit.parity import compare

    asked = manifest.parity or ExportSettings()
    tokens = manifest.reduction.tokens[-1] if manifest.reduction is not None else None
    return compare(golden, runner, asked.atol, asked.rtol, tokens=tokens)


def _proved(graph: bytes, golden: Golden, manifest: Manifest) -> tuple[Parity, ParityEvidence]:
    from edgevit.manifest import ParityEvidence
    from edgevit.runtimes.ort import OrtRunner

    with OrtRunner(graph) as runner:
        parity = _compared(golden, runner, manifest)
        runtime = f"onnxruntime {runner.facts['version']} {runner.facts['provider']}"
    if not parity.passed:
        raise CheckFailed(f"the graph does not answer as with all tokens computed: {parity.faults[0]}; nothing written")
    return parity, ParityEvidence.of(
        parity, f"the same graph over all tokens, {runtime}; under the old thresholds its source", runtime
    )
