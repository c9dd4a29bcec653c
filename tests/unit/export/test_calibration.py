"""Which pictures a precision is calibrated on, and the batches they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.export.calibration import calibration_batches, calibration_paths
from edgevit.preprocess import Preprocess
from edgevit.samples import surface

PREPROCESS = Preprocess(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in each of two classes, one of them larger than the others."""
    for kind in ("plain", "red_iron"):
        (tmp_path / kind).mkdir()
        for seed in range(3):
            size = (48, 32) if (kind, seed) == ("red_iron", 1) else (32, 32)
            surface(kind, seed, size).save(tmp_path / kind / f"{seed}.png")
    return tmp_path


def test_samples_are_spread_over_all_classes(folder: Path) -> None:
    paths = calibration_paths(folder, 2)
    assert [path.relative_to(folder).as_posix() for path in paths] == ["plain/0.png", "red_iron/2.png"]


def test_more_samples_than_pictures_are_all_pictures_once(folder: Path) -> None:
    paths = calibration_paths(folder, 100)
    assert len(paths) == len(set(paths)) == 6
    assert calibration_batches(paths, PREPROCESS, 2).notes(100) == (
        "asked for 100 calibration pictures and got 6: there are no more",
    )


def test_an_empty_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image") as caught:
        calibration_paths(tmp_path, 4)
    assert "\n" not in str(caught.value)


def test_no_sample_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="got 0 calibration samples"):
        calibration_paths(folder, 0)


def test_a_picture_of_another_size_is_resized_as_predict_does_and_said(folder: Path) -> None:
    batches = calibration_batches(calibration_paths(folder, 6), PREPROCESS, 4)
    assert batches.notes() == ()
    tensors = list(batches)
    assert np.array_equal(tensors[1][0], PREPROCESS(folder / "red_iron" / "1.png"))
    assert batches.notes(6) == ("1 of 6 calibration pictures are not 32 x 32 pixels and were resized, as predict does",)


def test_a_picture_that_predict_refuses_is_refused_by_name(folder: Path) -> None:
    (folder / "plain" / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png: not an image"):
        list(calibration_batches(calibration_paths(folder, 6), PREPROCESS, 1))


@pytest.mark.parametrize("paths, batch", [((), 1), ((Path("a.png"),), 0)])
def test_nothing_to_make_batches_of_is_refused(paths: tuple[Path, ...], batch: int) -> None:
    with pytest.raises(InputError, match="got"):
        calibration_batches(paths, PREPROCESS, batch)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 9))
def test_every_batch_is_whole_and_the_last_one_begins_again(folder: Path, batch: int) -> None:
    paths = calibration_paths(folder, 6)
    batches = calibration_batches(paths, PREPROCESS, batch)
    tensors = list(batches)
    assert len(tensors) == len(batches)
    assert all(tensor.shape == (batch, 3, 32, 32) and tensor.dtype == np.float32 for tensor in tensors)
    single = [PREPROCESS(path) for path in paths]
    for position, tensor in enumerate(np.concatenate(tensors)):
        assert np.array_equal(tensor, single[position % 6])
    for again, tensor in zip(batches, tensors, strict=True):
        assert np.array_equal(again, tensor), "a second pass gives the same"
