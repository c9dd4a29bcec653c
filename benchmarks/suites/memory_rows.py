"""What is measured for memory, each a process of its own: bundles of some depths and modes, and their peers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

_DENSE, _RECURSIVE = "dense-deit-s", "recursive-deit-s"
_MODES = {"topk": {}, "mask": {"selection": "threshold"}, "adaptive": {}}
_CAPACITIES = (1, 1 / 4, 1 / 8, 1 / 16, 1 / 16, 1 / 16)  # of the first R steps
_STEPS = (2, 4, 6)


@dataclass(frozen=True)
class Row:
    """One process.

    Attributes:
        name: in the table.
        kind: a function of `memory_ways` that opens the runner.
        path: a bundle, or an ONNX file, or the name of a model.
        weights_bytes: of the model's parameters in float32.
        sessions: how many are open at once.
    """

    name: str
    kind: str
    path: str
    weights_bytes: int
    sessions: int = 1


def rows_in(folder: Path) -> list[Row]:
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
