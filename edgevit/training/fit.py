"""What a run learns from, and whether model and teacher go with it."""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.errors import InputError
from edgevit.models.architecture import Architecture
from edgevit.models.checkpoint import Checkpoint
from edgevit.preprocess import Preprocess
from edgevit.training.data import LabelledImages

__all__ = ["TrainingSet", "check_fit"]


@dataclass(frozen=True)
class TrainingSet:
    """What is learned from and what is judged on, with the preprocessing both share."""

    train: LabelledImages
    val: LabelledImages
    preprocess: Preprocess


def check_fit(config: Architecture, data: TrainingSet, teacher: Checkpoint | None) -> None:
    """Refuse pictures that are not what the model and its teacher take and tell apart.

    Raises:
        InputError: they do not fit; the line names what differs.
    """
    size = (data.preprocess.height, data.preprocess.width)
    if size != (config.image_size, config.image_size):
        raise InputError(
            f"preprocessing to {size[0]} x {size[1]} for a model of {config.image_size} x {config.image_size}; "
            "give both one size"
        )
    if data.train.labels != data.val.labels:
        only = ", ".join(sorted(set(data.train.labels) ^ set(data.val.labels))) or "in another order"
        raise InputError(f"training and validation pictures name different classes ({only}); give both the same")
    if len(data.train.labels) != config.classes:
        raise InputError(f"pictures of {len(data.train.labels)} classes for a model of {config.classes}; give both one")
    if teacher is not None and (teacher.labels, teacher.preprocess) != (data.train.labels, data.preprocess):
        differ = "classes" if teacher.labels != data.train.labels else "preprocessing"
        raise InputError(f"the teacher has other {differ} than the run; start from it too (--init), on its own classes")
