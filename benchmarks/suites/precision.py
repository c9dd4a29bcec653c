"""Do the shipped models of lower precision answer as in fp32? Each on every picture of a folder, by emulation.

    python benchmarks/suites/precision.py VAL --calibration TRAIN [--precisions fp16,bf16,int8] [--output FOLDER]

The reference is torch in fp32. A picture that is decided otherwise is listed with the margin by which the reference
prefers its own class. A row that is there already is not measured again; exit status 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir

import edgevit
from edgevit import strict_json
from edgevit.agreement import agree
from edgevit.bundle import Bundle
from edgevit.errors import CheckFailed
from edgevit.export.calibration import CalibrationBatches, calibration_paths
from edgevit.export.emulate import emulated
from edgevit.export.precision import with_precision
from edgevit.export.reference import golden_samples
from edgevit.image_folder import ImageFolder
from edgevit.models.opening import open_model
from edgevit.parity import Golden
from edgevit.runtimes.ort import OrtRunner

ROWS: dict[str, tuple[str, dict[str, str]]] = {
    "steel-dense": ("steel-dense", {}),
    "steel-recursive topk": ("steel-recursive", {"routing": "topk"}),
    "steel-recursive mask": ("steel-recursive", {"routing": "mask"}),
    "steel-adaptive mask threshold": ("steel-adaptive", {"routing": "mask", "selection": "threshold"}),
    "steel-ltm": ("steel-ltm", {}),
    "steel-tome": ("steel-tome", {}),
}


def measure(row: str, precision: Any, val: Path, calibration: Path, samples: int, output: Path) -> dict[str, Any]:
    """One model in one precision: what it came to, and how it agrees on every picture of `val`."""
    name, settings = ROWS[row]
    source = open_model(name)
    path = output / row.replace(" ", "-")
    bundle = Bundle.open(path) if path.exists() else edgevit.export_model(name, output=path, **settings)  # type: ignore[arg-type]
    model = ir.load(path / "model.onnx")
    batches = CalibrationBatches(calibration_paths(calibration, samples), source.preprocess, 1)
    own = Golden.from_arrays(bundle.golden())
    runtime = "trt" if precision != "int8" else "ort"
    try:
        made, told, _ = with_precision(
            model, precision, runtime=runtime, golden=own, open_graph=_open, batches=batches, note=print
        )
    except CheckFailed as error:
        return {"row": row, "precision": precision, "passed": False, "refused": str(error)}
    items = ImageFolder.open(val).items
    images = source.preprocess.batch([item for item, _ in items])
    names = tuple(f"{item.parent.name}/{item.name}" for item, _ in items)
    with _open(ir.to_proto(emulated(made)).SerializeToString()) as runner:
        golden = golden_samples(source.module, bundle.manifest.routing, names, images)
        parity = agree(golden, runner, precision)
    return {
        "row": row,
        "precision": precision,
        "passed": parity.passed,
        "parity": strict_json.plain(parity),
        "nodes": told.nodes,
        "weight_bytes": told.weight_bytes,
        "retries": strict_json.plain(told.retries),
        "islands": len(told.islands),
    }


def main() -> int:
    """Measure the rows that are missing, then print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("val", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--precisions", default="fp16,bf16")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--output", type=Path, default=Path("runs/precision"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    passed = True
    for row in arguments.rows.split(","):
        for precision in arguments.precisions.split(","):
            file = arguments.output / f"{row.replace(' ', '-')}.{precision}.json"
            if not file.exists():
                found = measure(
                    row, precision, arguments.val, arguments.calibration, arguments.samples, arguments.output
                )
                file.write_text(json.dumps(found, indent=1))
            passed &= _show(json.loads(file.read_text()))
    return 0 if passed else 1


def _show(found: dict[str, Any]) -> bool:
    if "refused" in found:
        print(f"{found['row']} {found['precision']}: {found['refused']}")
        return False
    parity = found["parity"]
    steps = ", ".join(f"{100 * share:.2f}" for share in parity["selected_agreeing"])
    print(
        f"{found['row']} {found['precision']}: {parity['decisions_agreeing']} of {parity['inputs']} decisions, "
        f"selected tokens alike {steps or '-'} %, patches grouped alike {parity['patches_agreeing']}, logits within "
        f"{parity['largest_share']:.2g} of their spread, retries {len(found['retries'])}, types {found['nodes']}"
    )
    for one in parity["decided_otherwise"]:
        print(f"  otherwise: {one['image']}, {one['wanted']} -> {one['got']}, margin {one['margin']:.2e} of the spread")
    for fault in parity["faults"]:
        print(f"  fault: {fault}")
    return bool(found["passed"])


def _open(onnx: bytes) -> OrtRunner:
    return OrtRunner(onnx, threads=1)


if __name__ == "__main__":
    sys.exit(main())
