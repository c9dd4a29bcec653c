"""`edgevit verify`, `predict` and `eval`: bundles on this machine's ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgevit.manifest import ParityEvidence


def test_a_bundle_that_answers_as_its_source_passes(edgevit, bundle):
    outcome = edgevit("verify", bundle)
    assert outcome.status == 0
    for part in ("2 of 2 inputs as the source", "100 % as the source", "answers as its source"):
        assert part in outcome.out
    record = edgevit("verify", bundle, "--json").json
    assert record["passed"] is True
    assert record["parity"]["tokens_agreeing"] == [1.0]


def test_where_patches_are_merged_verify_says_how_many_ended_alike(edgevit, make_bundle):
    outcome = edgevit("verify", make_bundle(merged=True))
    assert outcome.status == 0
    assert " ".join(outcome.out.split()).count("merged patches 100 % as the source") == 1
    assert "merged patches" not in edgevit("verify", make_bundle("plain")).out


def test_a_bundle_that_answers_otherwise_fails_after_saying_where(edgevit, make_bundle):
    outcome = edgevit("verify", make_bundle(wrong=True))
    assert outcome.status == 1
    assert "one: logits differ by 2.50e-01" in outcome.error
    assert "does not answer as its source" in outcome.out
    outcome = edgevit("verify", make_bundle("other", wrong=True), "--json")
    assert (outcome.status, outcome.json["passed"]) == (1, False)


def test_tolerances_are_the_exports_unless_given(edgevit, make_bundle):
    evidence = ParityEvidence(
        reference="torch", runtime="ort", inputs=2, atol=0.5, rtol=0.0, max_abs_error=0.25, decisions_agreed=2,
        step_agreement=(), near_ties=0,
    )  # fmt: skip
    bundle = make_bundle(wrong=True, parity=evidence)
    assert edgevit("verify", bundle).status == 0
    assert edgevit("verify", bundle, "--atol", "0.1").status == 1
    assert edgevit("verify", bundle, "--atol", "0.1", "--rtol", "10").status == 0


def test_a_flipped_byte_is_found_before_anything_runs(edgevit, bundle):
    graph = bundle / "model.onnx"
    graph.write_bytes(b"\0" + graph.read_bytes()[1:])
    outcome = edgevit("verify", bundle)
    assert outcome.status == 2
    assert "SHA-256 differs" in outcome.error


def test_neither_a_bundle_nor_a_checkpoint_is_one_line(edgevit, pictures, tmp_path):
    outcome = edgevit("eval", tmp_path / "none", pictures)
    assert outcome.status == 2
    assert outcome.error.startswith(f"{tmp_path / 'none'}: no such bundle or checkpoint; ")


@pytest.mark.parametrize("option", [("--runtime", "ort"), ("--threads", "1")])
def test_a_checkpoint_takes_no_runtime(edgevit, pictures, tmp_path, option):
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(b"not looked at yet")
    outcome = edgevit("eval", checkpoint, pictures, *option)
    assert outcome.status == 2
    assert outcome.error == f"{checkpoint}: torch runs a checkpoint; leave --runtime and --threads out"


@pytest.mark.parametrize("command", ["verify", "info", "bench"])
def test_no_bundle_is_one_line(edgevit, tmp_path, command):
    outcome = edgevit(command, tmp_path / "none")
    assert outcome.status == 2
    assert "no such folder" in outcome.error


def test_an_unknown_runtime_lists_those_there_are(edgevit, bundle):
    outcome = edgevit("verify", bundle, "--runtime", "tensorflow")
    assert outcome.status == 2
    assert "wanted auto or one of: ort" in outcome.error


@pytest.mark.parametrize("batch", [1, 4])
def test_pictures_are_labelled_in_the_order_given(edgevit, make_bundle, pictures, batch):
    files = [pictures / "red" / "1.png", pictures / "blue" / "2.png", pictures / "green"]
    outcome = edgevit("predict", make_bundle(batch=batch), *files, "--json")
    assert outcome.status == 0
    assert [entry["label"] for entry in outcome.json] == ["red", "blue", "green", "green"]
    first = outcome.json[0]
    fields = ["image", "label", "score", "probabilities", "routing", "merging", "truncated", "tokens_dropped"]
    assert list(first) == fields
    assert first["image"] == str(files[0])
    assert first["score"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["routing"] == {"depth": [[2, 1], [1, 1]], "counts": [4, 1]}
    assert first["merging"] is None


def test_the_table_of_predictions_shows_the_patches_of_each_step(edgevit, bundle, pictures):
    outcome = edgevit("predict", bundle, pictures / "red")
    assert "patches at each step" in outcome.out
    assert [line.rstrip()[-3:] for line in outcome.out.splitlines()[1:]] == ["4 1", "4 1"]


def test_without_routing_there_is_nothing_to_show_of_it(edgevit, make_bundle, pictures):
    dense = make_bundle(routed=False)
    assert "patches" not in edgevit("predict", dense, pictures / "red").out
    assert edgevit("predict", dense, pictures / "red", "--json").json[0]["routing"] is None


def test_overlays_are_named_after_their_pictures_and_replace_none(edgevit, bundle, pictures):
    folder = pictures / "red"
    before = (folder / "1.png").read_bytes()
    outcome = edgevit("predict", bundle, folder / "1.png", pictures / "blue" / "1.png", "--overlay", folder)
    assert outcome.status == 0
    assert outcome.err == f"overlays in {folder}\n"
    assert (folder / "1.png").read_bytes() == before
    for name in ("1.depth.png", "1-2.depth.png"):
        with Image.open(folder / name) as overlay:
            assert overlay.width >= 384


@pytest.mark.parametrize("routed, drawn", [(False, "tokens"), (True, "trace")])
def test_merged_tokens_are_drawn_beside_the_depth_that_there_is(edgevit, make_bundle, pictures, routed, drawn):
    folder = pictures / "red"
    outcome = edgevit("predict", make_bundle(routed=routed, merged=True), folder / "1.png", "--overlay", folder)
    assert outcome.status == 0
    with Image.open(folder / f"1.{drawn}.png") as overlay:
        assert (overlay.width >= 2 * 384) == routed


def test_merged_tokens_are_in_the_table_and_in_the_json(edgevit, make_bundle, pictures):
    bundle = make_bundle(merged=True)
    table = edgevit("predict", bundle, pictures / "red").out
    for part in ("tokens at each step", "3 1", "tokens left", "3 of 4"):
        assert part in table
    entry = edgevit("predict", bundle, pictures / "red", "--json").json[0]
    assert entry["merging"] == {"assignment": [[0, 0], [1, 2]], "tokens": [3]}
    assert entry["routing"] == {"depth": [[2, 2], [1, 1]], "counts": [3, 1]}


def test_an_overlay_of_a_bundle_without_a_trace_is_refused(edgevit, make_bundle, pictures, tmp_path):
    outcome = edgevit("predict", make_bundle(routed=False), pictures / "red", "--overlay", tmp_path / "seen")
    assert outcome.status == 2
    assert "--trace" in outcome.error
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("batch", [1, 4])
def test_a_bad_picture_is_named_and_keeps_no_other_back(edgevit, make_bundle, pictures, tmp_path, batch):
    folder = pictures / "red"
    (folder / "0.png").write_bytes(b"no picture")
    (folder / "3.png").write_bytes(b"")
    outcome = edgevit("predict", make_bundle(batch=batch), folder, "--overlay", tmp_path / "seen", "--json")
    assert outcome.status == 2
    assert [(entry["image"], entry["label"]) for entry in outcome.json] == [
        (str(folder / "1.png"), "red"), (str(folder / "2.png"), "blue"),
    ]  # fmt: skip
    lines = outcome.err.splitlines()
    assert lines[0].startswith(f"left out: {folder / '0.png'}: not an image; ")
    assert lines[1].startswith(f"left out: {folder / '3.png'}: is empty, ")
    assert lines[-1] == "error: 2 of 4 pictures were left out, as said above; mend or remove them"
    assert sorted(path.name for path in (tmp_path / "seen").iterdir()) == ["1.depth.png", "2.depth.png"]
    table = edgevit("predict", make_bundle("again", batch=batch), folder).out
    assert len(table.splitlines()) == 3


def test_where_no_picture_can_be_read_there_is_no_result(edgevit, bundle, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    alone = edgevit("predict", bundle, broken, "--overlay", tmp_path / "seen", "--json")
    assert (alone.status, alone.out) == (2, "")
    assert "not an image" in alone.error
    both = edgevit("predict", bundle, broken, tmp_path / "none.png", "--overlay", tmp_path / "seen")
    assert (both.status, both.out) == (2, "")
    assert len(both.err.splitlines()) == 3
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("place", [".", "seen"])
def test_drawings_do_not_go_where_pictures_are_read(edgevit, bundle, pictures, place):
    outcome = edgevit("predict", bundle, pictures, "--overlay", pictures / place)
    assert outcome.status == 2
    assert "whose pictures are read; give a folder outside" in outcome.error
    assert not list(pictures.rglob("*.depth.png"))


def test_a_drawing_replaces_no_picture_that_has_the_name_of_one(edgevit, bundle, pictures):
    folder = pictures / "red"
    (folder / "2.png").rename(folder / "1.depth.png")
    before = (folder / "1.depth.png").read_bytes()
    files = folder / "1.png", folder / "1.depth.png"
    assert edgevit("predict", bundle, *files, "--overlay", folder).status == 0
    assert (folder / "1.depth.png").read_bytes() == before
    assert (folder / "1-2.depth.png").is_file()


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("batch", [1, 4])
def test_a_bundle_is_judged_by_its_own_labels_and_without_torch(edgevit, make_bundle, pictures, batch):
    result = edgevit("eval", make_bundle(batch=batch), pictures, "--json").json
    evaluation = result["evaluation"]
    assert evaluation["labels"] == ["red", "green", "blue"]
    assert evaluation["confusion"] == [[1, 0, 1], [0, 2, 0], [0, 0, 2]]
    assert evaluation["accuracy"] == pytest.approx(5 / 6)
    assert result["mean_patches"] == [4.0, 1.0]
    assert result["data"] == str(pictures)


def test_the_table_of_an_evaluation_says_what_was_mistaken_for_what(edgevit, bundle, pictures):
    text = edgevit("eval", bundle, pictures).out
    assert "83.3 %   43.6 % to 97.0 %" in text
    assert "blue 1" in text
    assert "4, 1 at each step, on average" in text


def test_the_held_out_half_is_what_counts(edgevit, bundle, pictures, tmp_path):
    for half in ("train", "val"):
        (tmp_path / "set" / half).parent.mkdir(exist_ok=True)
        (pictures if half == "val" else pictures / "blue").rename(tmp_path / "set" / half)
    result = edgevit("eval", bundle, tmp_path / "set", "--json").json
    assert result["data"] == str(tmp_path / "set" / "val")


def test_a_class_the_model_does_not_know_is_refused(edgevit, bundle, pictures):
    (pictures / "blue").rename(pictures / "azure")
    outcome = edgevit("eval", bundle, pictures)
    assert outcome.status == 2
    assert "knows no class azure" in outcome.error and "red, green, blue" in outcome.error


def test_the_confusion_matrix_is_drawn(edgevit, bundle, pictures, tmp_path):
    assert edgevit("eval", bundle, pictures, "--confusion", tmp_path / "deep" / "c.png").status == 0
    with Image.open(tmp_path / "deep" / "c.png") as picture:
        assert np.asarray(picture).std() > 0


def test_a_bundle_takes_no_selection(edgevit, bundle, pictures):
    outcome = edgevit("eval", bundle, pictures, "--selection", "threshold")
    assert outcome.status == 2
    assert "leave --selection out" in outcome.error
