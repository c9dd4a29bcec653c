"""Adaptive routing by branches inside one graph against stages that the host chooses between, on ONNX Runtime.

    python benchmarks/suites/host_dispatch.py [DATA] [--output FOLDER] [--duration S] [--only forced|real]

The same model is exported for `cpu-x86`, which is one graph with an `If` ladder a step, and for `desktop-gpu`, which is
stages: every later step in the budget of step two, a session each. At DeiT-S width, batch 1, both are forced to as many
tokens as each budget holds; with pictures in DATA steel-adaptive runs over them as it ships. One process a candidate,
interleaved; every time is a ratio to the one graph in the same run. The two differ in what their targets' graphs are
given besides: attention and linears in the form that runs best there.

The stages are run over three kinds of threads. In the product each session has a pool whose threads rest when a run is
done. They can look for more work instead, as those of a session by itself do, while the next stage needs the CPU; or
all sessions can share ONNX Runtime's global pool, which from then on is the only one that the process can have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import edgevit
from edgevit import console
from edgevit.benchmarks import Candidate, Settings, Summary, measure, measurement_to_json, summarise
from edgevit.bundle import Bundle
from edgevit.errors import InputError
from edgevit.files import atomic_write
from edgevit.image_folder import list_images
from edgevit.models.opening import open_model
from edgevit.models.thresholds import with_thresholds
from edgevit.runner import Runner
from edgevit.runtimes.adaptive import AdaptiveRunner
from edgevit.runtimes.choose import open_runner
from edgevit.runtimes.ort import OrtRunner
from edgevit.spec import TensorSpec

sys.path.insert(0, str(Path(__file__).parent))  # which the candidates' processes take over

_FORCED, _REAL = "recursive-deit-s", "steel-adaptive"
_SHARES = (0.0, 1 / 16, 1 / 4, 1.0)
_NEVER = 1e6  # a threshold that no token passes
_ONE_GRAPH = "one graph"
_STAGES = {
    "stages": "host_dispatch:on_resting_pools",
    "stages, spinning": "host_dispatch:on_spinning_pools",
    "stages, global pool": "host_dispatch:on_global_pool",
}


class GlobalPoolStage:
    """A stage on the pool of the process, with what else edgevit sets; no runner of the product, since it turns every
    later session with a pool of its own away."""

    def __init__(self, read: partial[bytes]) -> None:
        self._read = read

    def __enter__(self) -> GlobalPoolStage:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.use_per_session_threads = False
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(self._read(), options, providers=["CPUExecutionProvider"])
        dtypes = {"tensor(float)": "float32", "tensor(int32)": "int32"}
        self.input, *outputs = (
            TensorSpec(value.name, dtypes[value.type], tuple(value.shape))
            for value in (*self._session.get_inputs(), *self._session.get_outputs())
        )
        self.outputs = tuple(outputs)
        self.facts: Mapping[str, str | int] = {"runtime": "ort", "version": onnxruntime.__version__, "pool": "global"}
        return self

    def __exit__(self, *error: object) -> None:
        del self._session

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        values = self._session.run(None, {self.input.name: image})
        return dict(zip((output.name for output in self.outputs), values, strict=True))


def on_global_pool(bundle: str, least: int = 0) -> Runner:
    """The stages of a bundle on one pool of threads."""
    import onnxruntime

    onnxruntime.set_global_thread_pool_sizes(0, 1)
    return _of_stages(bundle, GlobalPoolStage, least)


def on_resting_pools(bundle: str, least: int = 0) -> Runner:
    """The stages of a bundle as the product runs them."""
    return open_runner(bundle, "ort", least=least)


def on_spinning_pools(bundle: str, least: int = 0) -> Runner:
    """The stages of a bundle, each on a pool whose threads do not rest."""
    return _of_stages(bundle, OrtRunner, least)


def _of_stages(bundle: str, stage: type[GlobalPoolStage] | type[OrtRunner], least: int) -> Runner:
    opened = Bundle.open(bundle)
    stages = opened.stages
    if stages is None:
        raise InputError(f"{bundle}: is one graph; export it with --target desktop-gpu")
    rests = {budget: stage(partial(opened.read, name)) for budget, name in stages.rests.items()}
    return AdaptiveRunner(stage(partial(opened.read, stages.enter)), rests, least=least)


def forced(folder: Path, duration_s: float) -> None:
    """Both ways with as many tokens as each budget holds, in a run for each budget."""
    source = open_model(_FORCED).module
    later = source.config.recursions - 1
    module = with_thresholds(source, (_NEVER,) * later)
    sizes = [round(share * module.config.tokens) for share in _SHARES]
    one, staged = exported(module, folder / "forced", budgets=sizes)
    rows = []
    for size in sizes:
        arguments = {"bundle": str(one.path), "caps": [size] * later}
        whole = Candidate(name=_ONE_GRAPH, factory="edgevit.runtimes.deadline:open_forced", arguments=arguments)
        stages = [
            Candidate(name=name, factory=factory, arguments={"bundle": str(staged.path), "least": size})
            for name, factory in _STAGES.items()
        ]
        summary = timed([whole, *stages], folder / f"forced-{size}.json", duration_s)
        rows.append((f"{size} of {sizes[-1]}", *ratios(summary)))
    console.show_table((f"{_FORCED}, tokens", *(f">{name}" for name in (_ONE_GRAPH, *_STAGES))), rows)


def real(folder: Path, data: Path, duration_s: float) -> None:
    """Both ways over pictures, with the thresholds that the model ships with."""
    bundles = exported(_REAL, folder / "real")
    preprocess = bundles[0].manifest.preprocess
    images = folder / "pictures.npy"
    np.save(images, np.stack([preprocess(path) for path in list_images(data)]))
    one, staged = (str(bundle.path) for bundle in bundles)
    whole = Candidate(
        name=_ONE_GRAPH, factory="edgevit.runtimes.choose:open_runner", arguments={"bundle": one}, images=images
    )
    stages = [
        Candidate(name=name, factory=factory, arguments={"bundle": staged}, images=images)
        for name, factory in _STAGES.items()
    ]
    summary = timed([whole, *stages], folder / "real.json", duration_s)
    mean_ns = summary.candidates[0].mean_ns
    means = (f"{mean_ns / 1e6:.2f} ms", *(f"{one.mean_ns / mean_ns:.3f}" for one in summary.candidates[1:]))
    heads = (f"{_REAL}, {data.name}", *(f">{name}" for name in (_ONE_GRAPH, *_STAGES)))
    console.show_table(heads, [("median", *ratios(summary)), ("mean", *means)])


def exported(model: object, folder: Path, **settings: object) -> tuple[Bundle, Bundle]:
    """One graph, and stages of the same model."""
    return tuple(
        edgevit.export_model(
            model, output=folder.with_name(f"{folder.name}-{target}"), target=target, routing="adaptive", force=True,
            **settings,
        )
        for target in ("cpu-x86", "desktop-gpu")
    )  # fmt: skip


def timed(candidates: Sequence[Candidate], file: Path, duration_s: float) -> Summary:
    """One run of all candidates, kept in `file`, whatever speaks against it said."""
    measurement = measure(candidates, Settings(min_duration_s=duration_s, pilot_rounds=0))
    atomic_write(file, measurement_to_json(measurement))
    summary = summarise(measurement)
    for check in summary.checks:
        console.show_line(str(check))
    return summary


def ratios(summary: Summary) -> list[str]:
    """The first one's median, and of the others the ratio to it with its interval."""
    intervals = [comparison.interval for comparison in summary.comparisons]
    return [
        f"{summary.candidates[0].median_ns / 1e6:.2f} ms",
        *(f"{interval.ratio:.3f} ({interval.low:.3f} to {interval.high:.3f})" for interval in intervals),
    ]


def main() -> None:
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="pictures; without them only forced tokens are timed")
    parser.add_argument("--output", type=Path, default=Path("runs/host_dispatch"))
    parser.add_argument("--duration", type=float, default=10.0, help="seconds a candidate, at least")
    parser.add_argument("--only", choices=("forced", "real"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.only != "real":
        forced(arguments.output, arguments.duration)
    if arguments.data is not None and arguments.only != "forced":
        real(arguments.output, arguments.data, arguments.duration)


if __name__ == "__main__":
    main()
