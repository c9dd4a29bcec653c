"""The forms that attention and linears can be written in: which of them ONNX Runtime's CPU, or OpenVINO, runs best.

    python benchmarks/suites/forms.py [--runtime ort|ov] [--duration S] [--only MODEL] [--output FOLDER]

Every model is exported three times: written out over tokens, as for OpenVINO; with linears over rows (opset 20); and
with attention as one operator besides (opset 23). One run a model, one process a candidate, interleaved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import edgevit
from edgevit import console
from edgevit.benchmarks import measurement_to_json, summarise
from edgevit.bundle import Bundle
from edgevit.files import atomic_write

MODELS = (
    ("steel-dense", "dense"),
    ("steel-recursive", "topk"),
    ("steel-recursive", "mask"),
    ("steel-tome", "dense"),
    ("dense-deit-s", "dense"),
    ("recursive-deit-s", "topk"),
)
FORMS: dict[str, dict[str, str | int]] = {
    "written out": {"target": "openvino"},
    "rows": {"opset": 20},
    "rows and operator": {"opset": 23},
}


def exported(folder: Path, model: str, routing: str) -> dict[str, Bundle]:
    """The bundles of a model, one a form."""
    return {
        form: edgevit.export_model(
            model,
            output=folder / f"{model}-{routing}-{form.replace(' ', '-')}",
            routing=routing,
            force=True,
            **settings,
        )
        for form, settings in FORMS.items()
    }


def main() -> None:
    """Export, measure, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=("ort", "ov"), default="ort")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds a candidate, at least")
    parser.add_argument("--only", help="a model by its name")
    parser.add_argument("--output", type=Path, default=Path("runs/forms"))
    arguments = parser.parse_args()
    rows = []
    for model, routing in MODELS:
        if arguments.only not in (None, model):
            continue
        bundles = exported(arguments.output, model, routing)
        measurement = edgevit.measure(
            [bundle.path for bundle in bundles.values()],
            runtimes=[arguments.runtime],
            min_duration_s=arguments.duration,
        )
        atomic_write(arguments.output / f"{model}-{routing}-{arguments.runtime}.json", measurement_to_json(measurement))
        summary = summarise(measurement)
        nodes = [str(bundle.manifest.cost["nodes"]) for bundle in bundles.values()]
        times = [c.interval for c in summary.comparisons]
        rows.append(
            (f"{model}, {routing}", " / ".join(nodes), *(f"{t.ratio:.3f} ({t.low:.3f} to {t.high:.3f})" for t in times))
        )
        for check in summary.checks:
            console.show_line(str(check))
    console.show_table(
        (f"time against written out, {arguments.runtime}", ">nodes", *(f">{form}" for form in list(FORMS)[1:])), rows
    )


if __name__ == "__main__":
    main()
