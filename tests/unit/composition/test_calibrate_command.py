"""`edgevit calibrate`: a new bundle with the thresholds that were wished for, and a table of what they cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from edgevit import api
from edgevit.bundle import Bundle
from edgevit.models.recursive import RecursiveConfig

onnx = pytest.importorskip("onnx", reason="graphs are compared")
torch = pytest.importorskip("torch", reason="models are made of torch")
pytest.importorskip("onnxruntime", reason="a bundle is calibrated on ONNX Runtime")

from edgevit.models.recursive import RecursiveViT  # noqa: E402
from edgevit.preprocess import Preprocess  # noqa: E402

CONFIG = RecursiveConfig(
    image_size=16, patch_size=4, classes=2, width=8, heads=2, depth=1, recursions=3, capacities=(1.0, 0.5, 0.25),
    thresholds=(0.0, 0.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> RecursiveViT:
    torch.manual_seed(0)
    model = RecursiveViT(CONFIG).eval()
    for router in model.routers:
        torch.nn.init.normal_(router.weight, std=2.0)
    return model


@pytest.fixture(scope="module")
def adaptive(model, tmp_path_factory):
    return exported(model, tmp_path_factory.mktemp("d") / "adaptive", routing="adaptive", budgets=(0, 4))


def exported(model, output, **settings):
    preprocess = Preprocess(height=16, width=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    api.export_model(model, output=output, labels=("bad", "good"), preprocess=preprocess, **settings)
    return output


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Good and bad parts: noise of two kinds, 12 of each."""
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for label, low in (("bad", 0), ("good", 150)):
        (root / label).mkdir()
        for number in range(12):
            pixels = rng.integers(low, low + 100, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number:02}.png")
    return root


def test_the_patches_asked_for_are_taken_on_average(edgevit, adaptive, parts, tmp_path):
    before = {path.name: path.read_bytes() for path in adaptive.iterdir()}
    outcome = edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", "--patches", "8,2", "--json")
    assert outcome.status == 0, outcome.err
    report = outcome.json
    first, second, third = report["chosen"]["patches"]
    assert first == 16
    assert abs(second - 8) < 0.5 and abs(third - 2) < 0.5
    assert {path.name: path.read_bytes() for path in adaptive.iterdir()} == before
    bundle = Bundle.open(tmp_path / "n")
    assert list(bundle.manifest.routing.thresholds) == report["chosen"]["thresholds"]
    assert bundle.manifest.model.config["thresholds"] == report["chosen"]["thresholds"]
    assert api.verify_bundle(tmp_path / "n").passed
    # What the bundle then does, asked through another door.
    judged = edgevit("eval", tmp_path / "n", parts, "--json").json
    assert judged["mean_patches"] == pytest.approx([first, second, third])
    assert judged["evaluation"]["accuracy"] == pytest.approx(report["chosen"]["accuracy"])


def test_a_calibrated_bundle_is_the_model_with_those_thresholds(edgevit, adaptive, model, parts, tmp_path):
    assert edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", "--patches", "6,3").status == 0
    thresholds = Bundle.open(tmp_path / "n").manifest.routing.thresholds
    again = exported(model, tmp_path / "again", routing="adaptive", budgets=(0, 4), thresholds=thresholds)
    ours, theirs = (Bundle.open(path) for path in (tmp_path / "n", again))
    graphs = [onnx.load_from_string(bundle.read("model.onnx")).graph for bundle in (ours, theirs)]
    assert [node.op_type for node in graphs[0].node] == [node.op_type for node in graphs[1].node]
    for name, wanted in theirs.golden().items():
        if name != "names":
            np.testing.assert_allclose(ours.golden()[name], wanted, atol=1e-4, rtol=1e-3)


def test_a_masked_bundle_is_calibrated_too(edgevit, model, parts, tmp_path):
    mask = exported(model, tmp_path / "mask", routing="mask", selection="threshold")
    outcome = edgevit("calibrate", mask, parts, "--output", tmp_path / "n", "--share", "0.5", "--json")
    assert outcome.status == 0, outcome.err
    present, chosen = outcome.json["present"], outcome.json["chosen"]
    for before, after in zip(present["patches"][1:], chosen["patches"][1:], strict=True):
        assert after == pytest.approx(before / 2, abs=0.5)
    assert api.verify_bundle(tmp_path / "n").passed


def test_without_a_wish_the_cheapest_that_is_no_worse_is_taken(edgevit, adaptive, parts, tmp_path):
    outcome = edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", "--json")
    assert outcome.status == 0, outcome.err
    report = outcome.json
    enough = [point for point in report["curve"] if point["accuracy"] >= report["present"]["accuracy"]]
    assert report["chosen"]["gflops"] == min(point["gflops"] for point in enough)
    taken = [sum(point["patches"]) for point in report["curve"]]
    assert taken == sorted(taken)


@pytest.mark.parametrize("count", [0, 16])
def test_no_patch_and_every_patch_can_be_asked_for(edgevit, adaptive, parts, tmp_path, count):
    outcome = edgevit(
        "calibrate", adaptive, parts, "--output", tmp_path / "n", "--patches", f"{count},{count}", "--json"
    )
    assert outcome.status == 0, outcome.err
    assert outcome.json["chosen"]["patches"] == [16, count, count]


def test_the_table_shows_the_curve(edgevit, adaptive, parts, tmp_path):
    outcome = edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", "--patches", "8,2")
    assert outcome.status == 0, outcome.err
    assert "chosen" in outcome.out and "present" in outcome.out and "accuracy" in outcome.out
    assert "--thresholds=" in outcome.err


def test_pictures_without_labels_do_for_a_budget(edgevit, adaptive, parts, tmp_path):
    outcome = edgevit("calibrate", adaptive, parts / "good", "--output", tmp_path / "n", "--share", "0.5", "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["chosen"]["accuracy"] is None


def test_an_accuracy_that_nothing_reaches_fails_and_writes_nothing(edgevit, adaptive, parts, tmp_path):
    outcome = edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", "--min-accuracy", "1")
    assert outcome.status == 1
    assert "no setting of the thresholds reaches an accuracy of 1" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options, problem",
    [
        (["--patches", "8"], "wanted 2 numbers, none above the one before it or 16"),
        (["--patches", "2,8"], "wanted 2 numbers"),
        (["--patches", "17,8"], "wanted 2 numbers"),
        (["--patches", "few"], "wanted numbers such as"),
        (["--share", "0"], "--share 0; wanted a number above 0"),
        (["--share", "nan"], "wanted a number above 0"),
        (["--share", "1"], "take these patches already"),
        (["--share", "0.5", "--min-accuracy", "0.9"], "ask for different things"),
        (["--samples", "0"], "--samples 0"),
        (["--min-accuracy", "98"], "--min-accuracy 98; wanted 0 to 1, such as 0.98"),
    ],
)
def test_a_wish_that_cannot_be_met_is_one_line(edgevit, adaptive, parts, tmp_path, options, problem):
    outcome = edgevit("calibrate", adaptive, parts, "--output", tmp_path / "n", *options)
    assert outcome.status == 2
    assert problem in outcome.error
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_thresholds_is_refused(edgevit, model, parts, tmp_path):
    plain = RecursiveViT(dataclasses.replace(CONFIG, thresholds=None)).eval()
    topk = exported(plain, tmp_path / "topk")
    outcome = edgevit("calibrate", topk, parts, "--output", tmp_path / "n")
    assert outcome.status == 2
    assert "has topk routing and no thresholds to set" in outcome.error


def test_pictures_of_other_classes_are_refused(edgevit, adaptive, parts, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "ugly").symlink_to(parts / "bad")
    outcome = edgevit("calibrate", adaptive, tmp_path / "p", "--output", tmp_path / "n")
    assert outcome.status == 2
    assert "ugly" in outcome.error
