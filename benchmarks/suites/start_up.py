"""Time from nothing to the first answer: imports, loading, one picture; each start in a process of its own, in turn.

    python benchmarks/suites/start_up.py [--output FOLDER] [--rounds N] [--threads N]

`first` is a start that finds nothing beside the bundle and leaves packed weights there, `later` one that maps them,
`in memory` one that can leave nothing. A plain start of ONNX Runtime with the same graph, torch and, where it is
installed, OpenVINO stand beside them. What the interpreter takes to start itself is not counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from edgevit import console

_MODELS = (
    ("steel-recursive", "topk"),
    ("steel-recursive", "adaptive"),
    ("recursive-deit-s", "topk"),
    ("recursive-deit-s", "adaptive"),
)

_PICTURE = "import numpy as np; picture = np.full((SIZE, SIZE, 3), 99, np.uint8)"
_TENSOR = "import numpy as np; tensor = np.zeros((1, 3, SIZE, SIZE), np.float32)"
_ORT = (
    "import onnxruntime; options = onnxruntime.SessionOptions(); options.intra_op_num_threads = THREADS; "
    "session = onnxruntime.InferenceSession(BUNDLE + '/model.onnx', options, providers=['CPUExecutionProvider'])"
)

# What a start does, each step timed: its imports, loading, the first answer.
_WAYS = {
    "later": ("import edgevit", "session = edgevit.load(BUNDLE, 'ort', THREADS)", "session.predict(picture)"),
    "first": ("import edgevit", "session = edgevit.load(BUNDLE, 'ort', THREADS)", "session.predict(picture)"),
    "in memory": (
        "from edgevit.bundle import Bundle; from edgevit.runtimes.ort import OrtRunner; "
        "from edgevit.runtimes.session import Session",
        "bundle = Bundle.open(BUNDLE); "
        "session = Session(bundle, OrtRunner(lambda: bundle.read('model.onnx'), threads=THREADS))",
        "session.predict(picture)",
    ),
    "plain onnxruntime": ("import onnxruntime", _ORT, "session.run(None, {'image': tensor})"),
    "openvino": (
        "import openvino",
        "model = openvino.Core().compile_model(BUNDLE + '/model.onnx', 'CPU', "
        "{'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': THREADS})",
        "model({'image': tensor})",
    ),
    "torch eager": (
        "import torch; from edgevit.models.opening import open_model; torch.set_num_threads(THREADS)",
        "module = open_model(MODEL).module.eval()",
        "torch.inference_mode().__enter__(); module(torch.from_numpy(tensor))",
    ),
}


def child(way: str, names: dict[str, object]) -> list[float]:
    """Seconds of each step of a start in this process."""
    scope = dict(names)
    exec(_PICTURE if ".predict" in _WAYS[way][2] else _TENSOR, scope)  # noqa: S102 - text of this file
    marks = [perf_counter()]
    for step in _WAYS[way]:
        exec(step, scope)  # noqa: S102 - text of this file
        marks.append(perf_counter())
    return [end - begin for begin, end in pairwise(marks)]


def started(way: str, names: dict[str, object]) -> list[float]:
    """The same in a process of its own."""
    beside = Path(f"{names['BUNDLE']}.device")
    if way == "first":
        shutil.rmtree(beside, ignore_errors=True)
    command = [sys.executable, __file__, "--child", json.dumps([way, names])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def main() -> None:
    """Export, start each way in turn, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/start-up"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(*json.loads(arguments.child))))
        return
    import edgevit
    from edgevit.bundle import Bundle

    ways = [way for way in _WAYS if way != "openvino" or importlib.util.find_spec("openvino")]
    for model, routing in _MODELS:
        out = (arguments.output / f"{model}-{routing}").resolve()
        bundle = Bundle.open(out) if out.exists() else edgevit.export_model(model, output=out, routing=routing)
        size = bundle.manifest.preprocess.height
        names = {"BUNDLE": str(out), "MODEL": model, "SIZE": size, "THREADS": arguments.threads}
        seconds: dict[str, list[list[float]]] = {way: [] for way in ways}
        started("first", names)
        for _ in range(arguments.rounds):
            for way in ways:
                seconds[way].append(started(way, names))
        rows = []
        for way, starts in seconds.items():
            middle = sorted(starts, key=sum)[len(starts) // 2]
            rows.append((way, *(f"{part * 1e3:.0f}" for part in middle), f"{sum(middle) * 1e3:.0f}"))
        console.show_table((f"{model}, {routing}: ms", ">imports", ">loading", ">first answer", ">all"), rows)


if __name__ == "__main__":
    main()
