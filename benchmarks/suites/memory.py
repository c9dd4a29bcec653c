"""Memory that a loaded model adds to a process, in bytes of its weights; several sessions of it; and other ways to run.

    python benchmarks/suites/memory.py [--output FOLDER] [--threads N] [--runs N]

Linux only. Each row is a process of its own, in which a session of one node comes first, so that what the library takes
for itself is not counted. Then the model is loaded and answers a few times, and the growth is read from the kernel:
anonymous memory, which is the process's own, and mapped files, whose pages others share (proportional share).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgevit import console

_DENSE, _RECURSIVE = "dense-deit-s", "recursive-deit-s"
_MODES = {"topk": {}, "mask": {"selection": "threshold"}, "adaptive": {}}
_CAPACITIES = (1, 1 / 4, 1 / 8, 1 / 16, 1 / 16, 1 / 16)  # of the first R steps
_STEPS = (2, 4, 6)
_MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One process.

    Attributes:
        name: in the table.
        kind: a function of this file that opens the runner.
        path: a bundle, or an ONNX file, or the name of a model.
        weights_bytes: of the model's parameters in float32.
        sessions: how many are open at once.
    """

    name: str
    kind: str
    path: str
    weights_bytes: int
    sessions: int = 1


def edgevit_runner(path: str, threads: int):
    from edgevit.runtimes.choose import open_runner

    return open_runner(path, "ort", threads=threads)


def all_active(path: str, threads: int):
    """An adaptive bundle whose every step takes every token, so that the largest branches run."""
    from edgevit.bundle import GRAPH_NAME, Bundle
    from edgevit.runtimes.ort import OrtRunner
    from edgevit.runtimes.ort_mapped import MappedWeights

    bundle = Bundle.open(path)
    lowest = np.array(-1e30, np.float32)
    thresholds = {f"threshold[{step}]": lowest for step in range(1, bundle.manifest.routing.steps)}
    return OrtRunner(
        lambda: bundle.read(GRAPH_NAME), threads=threads, initializers=thresholds, weights=MappedWeights(bundle)
    )


def in_memory(path: str, threads: int):
    """What a bundle costs where nothing can be written beside it."""
    from edgevit.runtimes.ort import OrtRunner

    return OrtRunner(Path(path) / "model.onnx", threads=threads)


def one_node(path: str, threads: int):
    """What comes before edgevit's own rows: its modules, its arena."""
    from edgevit.runtimes import choose
    from edgevit.runtimes.ort import OrtRunner

    assert choose.RUNTIMES, "imported, since it is not what a model adds"
    return OrtRunner(Path(path), threads=threads)


class PlainSession:
    """ONNX Runtime as its manual shows it."""

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._threads = path, threads

    def __enter__(self) -> PlainSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        return self

    def __exit__(self, *exception: object) -> None:
        del self._session

    def __call__(self, image: np.ndarray) -> object:
        return self._session.run(None, {self._name: image})


def openvino(path: str, threads: int):
    sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
    from runners import OpenVinoRunner

    return OpenVinoRunner(path)


def torch_eager(path: str, threads: int):
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
    from runners import torch_eager

    torch.set_num_threads(threads)
    return torch_eager(path)


def grown(row: Row, tiny: str, threads: int, runs: int) -> dict[str, float]:
    """What this process grows by, in MiB, once the model is loaded and has answered `runs` times."""
    kind = globals()[row.kind]
    if row.kind == "torch_eager":
        import torch

        with torch.inference_mode():
            torch.nn.Linear(4, 4)(torch.zeros(1, 4))
        kind(row.path, threads)  # what making a model imports
    else:
        alone = {"openvino": openvino, "PlainSession": PlainSession}.get(row.kind, one_node)
        with alone(tiny, threads) as runner:
            runner(np.zeros((1, 3, 4, 4), np.float32))
            return _grown_after(kind, row, threads, runs)
    return _grown_after(kind, row, threads, runs)


def _grown_after(kind, row: Row, threads: int, runs: int) -> dict[str, float]:
    image = np.random.default_rng(0).random((1, 3, 224, 224), dtype=np.float32)
    before = _memory()
    with ExitStack() as stack:
        runners = [stack.enter_context(kind(row.path, threads)) for _ in range(row.sessions)]
        for runner in runners:
            for _ in range(runs):
                runner(image)
        after = _memory()
    return {name: (after[name] - before[name]) / _MIB for name in after}


def _memory() -> dict[str, int]:
    lines = Path("/proc/self/smaps_rollup").read_text()
    found = {name: re.search(rf"^{name}:\s+(\d+) kB", lines, re.MULTILINE) for name in ("Anonymous", "Pss_File", "Rss")}
    return {name: int(match[1]) * 1024 for name, match in found.items() if match}


def bundles(folder: Path) -> list[Row]:
    """Export what is measured, unless it is there, and name the rows."""
    import edgevit
    from edgevit.bundle import Bundle
    from edgevit.models.architecture import seeded
    from edgevit.models.catalog import entry_named

    def exported(name: str, model, **settings) -> Bundle:
        out = folder / name
        return Bundle.open(out) if out.exists() else edgevit.export_model(model, output=out, verify=False, **settings)

    config = entry_named(_RECURSIVE).config
    made = {"dense": exported("dense-1", _DENSE)}
    for mode, settings in _MODES.items():
        for steps in _STEPS:
            of = replace(config, recursions=steps, capacities=_CAPACITIES[:steps], thresholds=(0.0,) * (steps - 1))
            name = f"{mode}-{steps}"
            made[f"{mode}, R = {steps}"] = exported(name, seeded(of), routing=mode, **settings)
    rows = [_row(name, "edgevit_runner", bundle) for name, bundle in made.items()]
    rows.append(_row("adaptive, R = 4, all tokens active", "all_active", made["adaptive, R = 4"]))
    for mode in ("topk", "adaptive"):
        bundle = made[f"{mode}, R = 4"]
        rows.append(_row(f"{mode}, R = 4, nothing written", "in_memory", bundle))
        rows.append(replace(_row(f"{mode}, R = 4, four sessions", "edgevit_runner", bundle), sessions=4))
        graph = str(bundle.path / "model.onnx")
        rows.append(replace(_row(f"{mode}, R = 4, plain onnxruntime", "PlainSession", bundle), path=graph))
        if importlib.util.find_spec("openvino"):
            rows.append(replace(_row(f"{mode}, R = 4, openvino", "openvino", bundle), path=graph))
    naive = folder / "naive.onnx"
    if not naive.exists():
        _export_naively(naive)
    plain = _row("naive export, plain onnxruntime", "PlainSession", made["topk, R = 4"])
    rows.append(replace(plain, path=str(naive)))
    rows.append(replace(plain, name="torch eager", kind="torch_eager", path=_RECURSIVE))
    return rows


def _row(name: str, kind: str, bundle) -> Row:
    return Row(name, kind, str(bundle.path), 4 * bundle.manifest.model.parameters)


def _export_naively(path: Path) -> None:
    """`torch.onnx.export` of the masked model as it stands, weights in the file."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    import torch

    from edgevit.models.deploy import deploy, routing_spec
    from edgevit.models.opening import open_model
    from edgevit.models.thresholds import with_thresholds

    module = open_model(_RECURSIVE).module
    module = with_thresholds(module, (0.0,) * (module.config.recursions - 1))
    masked = deploy(module, routing_spec(module, "mask", "threshold"), trace=False)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        program = torch.onnx.export(masked, (torch.zeros(1, 3, 224, 224),), dynamo=True)
    path.write_bytes(program.model_proto.SerializeToString())


def tiny_graph(path: Path) -> None:
    """A graph of one node."""
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Neg", ["image"], ["logits"])], "tiny", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def main() -> None:
    """Export, measure each row in a process of its own, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/memory"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tiny = arguments.output / "tiny.onnx"
    if arguments.child:
        print(json.dumps(grown(Row(**json.loads(arguments.child)), str(tiny), arguments.threads, arguments.runs)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    tiny_graph(tiny)
    lines = []
    for row in bundles(arguments.output):
        results = [_measured(row, arguments) for _ in range(2)]  # the first packs what the second maps
        first, again = (result["Anonymous"] for result in results)
        weights = row.weights_bytes / _MIB
        last = results[-1]
        lines.append(
            (row.name, f"{weights:.1f}", f"{first:.1f}", f"{again:.1f}", f"{again / weights:.2f}",
             f"{last['Pss_File']:.1f}", f"{last['Rss']:.1f}")
        )  # fmt: skip
    console.show_table(
        ("MiB", ">weights", ">anonymous, first start", ">later", ">to weights", ">files", ">resident"), lines
    )


def _measured(row: Row, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--output", arguments.output, "--threads", str(arguments.threads)]
    command += ["--runs", str(arguments.runs), "--child", json.dumps(vars(row))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
