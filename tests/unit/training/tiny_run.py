"""A training run of seconds, for the tests and, as a script, for the processes that they start.

Usage: tiny_run.py OUTPUT [die], where `die` is to be killed in the middle of the second epoch. Each process prints its
rank and a hash of its averaged weights after every validation.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgevit.metrics import Evaluation
from edgevit.models.recursive import RecursiveConfig, RecursiveViT
from edgevit.models.tensor_file import pack
from edgevit.preprocess import Preprocess
from edgevit.samples import surface
from edgevit.training import loop
from edgevit.training.data import LabelledImages
from edgevit.training.fit import TrainingSet
from edgevit.training.loop import Progress
from edgevit.training.settings import TrainSettings

KINDS = ("plain", "surface_scratch")
CONFIG = RecursiveConfig(
    image_size=32, patch_size=8, classes=2, width=16, heads=2, depth=1, recursions=3, capacities=(1.0, 0.5, 0.25),
    stem="conv", pool="cls+mean", per_step_norm=True,
)  # fmt: skip
SETTINGS = TrainSettings(epochs=3, batch_size=8, learning_rate=3e-3, val_every=2)
PREPROCESS = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))


def pictures(count: int, first: int) -> LabelledImages:
    """Generated surfaces of both kinds in turn."""
    pixels = [np.asarray(surface(KINDS[i % 2], first + i, (32, 32))) for i in range(count)]
    return LabelledImages(np.stack(pixels), np.arange(count) % 2, KINDS)


def training_set() -> TrainingSet:
    # 18 in batches of 8: the last batch is smaller than the others.
    return TrainingSet(pictures(18, 0), pictures(8, 100), PREPROCESS)


def _die_in_the_second_epoch(progress: Progress) -> None:
    if progress.epoch == 1 and progress.step == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main(output: Path, die: bool) -> None:
    torch.set_num_threads(1)
    judge = loop.evaluate_model

    def judge_and_tell(model: RecursiveViT, *arguments: Any) -> Evaluation:
        digest = hashlib.sha256(pack(model.state_dict(), {})).hexdigest()
        print(f"rank {os.environ.get('RANK', '0')} {digest}", flush=True)
        return judge(model, *arguments)

    loop.evaluate_model = judge_and_tell
    loop.train(CONFIG, training_set(), SETTINGS, output, report=_die_in_the_second_epoch if die else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "die" in sys.argv[2:])
