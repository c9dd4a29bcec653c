"""A record of autotuning as a measurement would have left it."""

from __future__ import annotations

from dataclasses import replace

from edgevit.machine import Machine
from edgevit.tuning_record import Choice, Decision, Ratio, Trial, TuningRecord

DEFAULT = Choice(runtime="ort", threads=None)
FASTER = Choice(runtime="ov", threads=2)
WRONG = Choice(runtime="ov", threads=1)
MACHINE = Machine(architecture="x86_64", cpu="Xeon", features="0" * 16, cpus=2)
LIBRARIES = {"onnxruntime": "1.31.1", "openvino": "2026.4.1"}
CLEAR = Ratio(ratio=0.8, low=0.75, high=0.85, confidence=0.99)


def record_of(digest: str, **changes: object) -> TuningRecord:
    fields = {
        "bundle_digest": digest,
        "machine": MACHINE,
        "libraries": LIBRARIES,
        "images": 8,
        "default": DEFAULT,
        "trials": (
            Trial(choice=DEFAULT, median_ms=2.0, ratio=None, refused=None),
            Trial(choice=FASTER, median_ms=1.5, ratio=replace(CLEAR, confidence=0.95), refused=None),
            Trial(choice=WRONG, median_ms=None, ratio=None, refused="answers otherwise than the reference"),
        ),
        "decision": Decision(challenger=FASTER, ratio=CLEAR, floor=1.02, rounds=50),
    }
    return TuningRecord(**fields | changes)
