"""`edgevit list`, `info` and `doctor`."""

from __future__ import annotations

import platform
import sys

import pytest

from edgevit.errors import InputError
from edgevit.runtimes import choose
from edgevit.targets import TARGETS


def test_the_targets_are_all_listed(edgevit):
    rows = edgevit("list", "targets", "--json").json
    assert [row["name"] for row in rows] == [target.name for target in TARGETS]
    table = edgevit("list", "targets").out
    for target in TARGETS:
        assert target.name in table and target.description in table


def test_a_runtime_says_its_version(edgevit):
    onnxruntime = pytest.importorskip("onnxruntime", reason="asks for its version")
    rows = {row["name"]: row for row in edgevit("list", "runtimes", "--json").json}
    assert rows["ort"]["installed"] is True
    assert rows["ort"]["version"] == onnxruntime.__version__
    assert rows["null"]["library"] is None
    assert f"onnxruntime {onnxruntime.__version__}" in edgevit("list", "runtimes").out


def test_a_runtime_that_is_missing_says_what_to_install(edgevit, monkeypatch):
    monkeypatch.setattr("edgevit.runtimes.choose.find_spec", lambda name: None)
    monkeypatch.setattr("edgevit.commands.listing.installed_version", lambda name: None)
    assert "missing: pip install 'edgevit[cpu]'" in edgevit("list", "runtimes").out
    assert edgevit("list", "runtimes", "--json").json[0]["installed"] is False


def test_models_come_with_parameters_and_whether_weights_ship(edgevit):
    pytest.importorskip("torch", reason="models are made of torch")
    rows = {row["name"]: row for row in edgevit("list", "models", "--json").json}
    assert rows["dense-deit-s"]["parameters"] == 22_050_664
    assert rows["dense-deit-s"]["ships_weights"] is False
    assert "22.05 M" in edgevit("list", "models").out


def test_everything_is_listed_under_its_name(edgevit):
    pytest.importorskip("torch", reason="models are made of torch")
    assert list(edgevit("list", "--json").json) == ["models", "targets", "runtimes"]


@pytest.mark.usefixtures("no_torch")
def test_a_device_without_torch_lists_the_rest(edgevit):
    outcome = edgevit("list", "--json")
    assert outcome.status == 0
    assert list(outcome.json) == ["targets", "runtimes"]
    assert "no list of models: torch is not installed" in outcome.err


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize("arguments", [["list", "models"], ["info", "steel-dense"], ["export", "steel-dense"]])
def test_what_needs_torch_says_how_to_install_it(edgevit, arguments):
    outcome = edgevit(*arguments)
    assert outcome.status == 2
    assert outcome.error == "torch is not installed, and this needs it; run: pip install 'edgevit[export]'"


def test_info_of_a_bundle_says_what_it_is(edgevit, bundle):
    text = edgevit("info", bundle).out
    for part in ("colours, 1.23 M parameters", "cpu-x86, fp32, opset 20", "4, 1 of 4 patches in 2 steps", "2.5 GFLOPs"):
        assert part in text
    assert "not verified" in text


def test_info_of_a_bundle_of_several_images_counts_one(edgevit, make_bundle):
    assert "0.625 GFLOPs an image" in edgevit("info", make_bundle(batch=4)).out


BLOCKS = [
    {"name": "stem", "flops": 4_000_000, "full_flops": 4_000_000, "weight_bytes": 100,
     "activation_bytes": 2_000_000, "tokens": 4},
    {"name": "blocks.0", "flops": 6_000_000_000, "full_flops": 12_000_000_000, "weight_bytes": 8_000_000,
     "activation_bytes": 4_000_000, "tokens": 3},
    {"name": "head", "flops": 100, "full_flops": 100, "weight_bytes": 200, "activation_bytes": 300, "tokens": None},
]  # fmt: skip


def test_info_of_a_bundle_has_a_line_for_each_block_of_one_image_and_what_was_saved(edgevit, make_bundle):
    text = edgevit("info", make_bundle(merged=True, batch=2, cost={"flops": 1, "blocks": BLOCKS})).out
    assert "tome: 4 -> 3 tokens" in text
    assert "topk, expert choice: 3, 1 of 3 tokens in 2 steps" in text
    lines = {line.split()[0]: " ".join(line.split()) for line in text.splitlines() if line}
    assert lines["blocks.0"] == "blocks.0 3 3.000 6.000 8.00 MB 2.00 MB"
    assert lines["head"] == "head <0.001 <0.001 0.20 kB 0.15 kB"
    assert lines["saves"].startswith("saves 50.0 % of the FLOPs: 3.002 instead of 6.002 GFLOPs an image")


def test_info_of_a_bundle_in_which_every_token_stays_says_nothing_of_savings(edgevit, make_bundle):
    blocks = [block | {"full_flops": block["flops"]} for block in BLOCKS]
    text = edgevit("info", make_bundle(routed=False, cost={"flops": 1, "blocks": blocks})).out
    assert "blocks.0" in text and "saves" not in text and "full tokens" not in text


def test_info_of_an_earlier_bundle_says_why_it_has_no_table(edgevit, bundle):
    outcome = edgevit("info", bundle)
    assert outcome.status == 0
    assert "no table of blocks: this bundle was written without one; export it again" in outcome.err


@pytest.mark.parametrize("blocks", [7, [{"name": "stem"}], [None]])
def test_info_of_blocks_that_edgevit_did_not_write_is_one_line(edgevit, make_bundle, blocks):
    outcome = edgevit("info", make_bundle(cost={"blocks": blocks}))
    assert outcome.status == 2
    assert "manifest.json: cost.blocks" in outcome.error


@pytest.mark.parametrize("command", ["info", "verify", "doctor"])
def test_a_damaged_bundle_is_bad_input_whoever_opens_it(edgevit, bundle, command):
    graph = bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    outcome = edgevit(command, bundle, "--json")
    assert outcome.status == 2
    assert "SHA-256 differs" in outcome.error


def test_info_as_json_is_the_manifest(edgevit, bundle):
    record = edgevit("info", bundle, "--json").json
    assert record["bundle"] == str(bundle)
    assert record["manifest"]["routing"]["capacities"] == [4, 1]
    assert len(record["digest"]) == 64


def test_info_of_a_dense_bundle_says_so(edgevit, make_bundle):
    assert "dense: every patch" in edgevit("info", make_bundle(routed=False)).out


def test_info_of_a_model_says_its_architecture(edgevit):
    pytest.importorskip("torch", reason="models are made of torch")
    text = edgevit("info", "recursive-deit-s").out
    assert "3 of width 384 with 6 heads, applied 4 times" in text
    assert "expert choice: 196, 49, 24, 12 of 196 patches" in text
    record = edgevit("info", "recursive-deit-s", "--json").json
    assert record["patches_per_step"] == [196, 49, 24, 12]
    assert record["config"]["router"] == "expert_choice"
    assert record["routing"]["mode"] == "topk"
    assert record["cost"]["blocks"][0]["name"] == "stem"
    for part in ("blocks.2[3]", "at full tokens", "saves 6"):
        assert part in text


def test_info_of_a_model_whose_graph_cannot_be_made_says_the_rest_and_why(edgevit, monkeypatch):
    pytest.importorskip("torch", reason="models are made of torch")
    monkeypatch.delitem(sys.modules, "edgevit.export.pipeline", raising=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    outcome = edgevit("info", "steel-dense")
    assert outcome.status == 0
    assert "12 of width 128" in outcome.out
    assert "no costs: onnx_ir is not installed" in outcome.err and "edgevit[export]" in outcome.err


def test_info_of_a_model_names_the_weights_that_no_file_had(edgevit, monkeypatch):
    pytest.importorskip("torch", reason="the model is built with torch")

    def fail(*_: object) -> None:
        raise InputError("no graph, which would take seconds")

    monkeypatch.setattr("edgevit.export.pipeline.build_graph", fail)
    text = " ".join(edgevit("info", "ltm/steel-recursive").out.split())
    assert "untrained merge.position, merge.norm.weight, merge.norm.bias, merge.score.weight: in no file" in text
    assert "of 128 tokens" in text
    assert "merge.position" in edgevit("info", "ltm/steel-recursive", "--json").json["fresh"]
    assert "untrained" not in edgevit("info", "steel-ltm").out
    assert edgevit("info", "steel-ltm", "--json").json["fresh"] == []


def test_info_of_a_checkpoint_says_its_labels(edgevit, tmp_path):
    pytest.importorskip("torch", reason="checkpoints are made of torch")
    from edgevit.models.checkpoint import Checkpoint, save_checkpoint
    from edgevit.models.recursive import RecursiveConfig, RecursiveViT
    from edgevit.preprocess import Preprocess

    config = RecursiveConfig(
        image_size=16, patch_size=8, classes=2, width=8, heads=2, depth=1, recursions=2, capacities=(1.0, 0.5)
    )
    preprocess = Preprocess(height=16, width=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, Checkpoint(RecursiveViT(config), ("good", "bad"), preprocess))
    assert "2: good, bad" in edgevit("info", path).out
    assert edgevit("info", path, "--json").json["labels"] == ["good", "bad"]


@pytest.mark.parametrize(
    "subject, problem",
    [
        ("steel-recursve", "unknown model 'steel-recursve'; did you mean 'steel-recursive'?"),
        ("d/nothing", "no such folder"),
        ("d/nothing.safetensors", "d/nothing.safetensors: No such file; give a name"),
        ("a.b:c", "a.b:c: cannot be imported"),
        ("tome/steel-nothing:x", "cannot be imported"),
    ],
)
def test_info_of_nothing_is_one_line(edgevit, subject, problem):
    pytest.importorskip("torch", reason="models are made of torch")
    outcome = edgevit("info", subject)
    assert outcome.status == 2
    assert problem in outcome.error


def test_info_of_a_file_that_it_does_not_read_says_so_and_names_the_bundle_around_it(edgevit, bundle, tmp_path):
    outcome = edgevit("info", bundle / "model.onnx")
    assert outcome.status == 2
    assert f"is a file and no checkpoint; for its bundle give {bundle}" in outcome.error
    (tmp_path / "notes.txt").write_text("x")
    assert (
        "is a file and no checkpoint; give a name of `edgevit list models`"
        in edgevit("info", tmp_path / "notes.txt").error
    )


@pytest.mark.parametrize("option", ["--input-size", "--schedule"])
def test_info_of_a_bundle_takes_no_options_of_a_model(edgevit, bundle, option):
    outcome = edgevit("info", bundle, option, "8")
    assert outcome.status == 2
    assert "leave the options out" in outcome.error


def test_doctor_says_what_the_machine_has(edgevit):
    report = edgevit("doctor", "--json").json
    assert report["machine"]["python"] == platform.python_version()
    assert "numpy" not in report["extras"]
    assert {extra["name"] for extra in report["extras"]} >= {"export", "cpu", "tensorrt"}
    text = edgevit("doctor").out
    assert platform.python_version() in text


def test_doctor_says_how_to_install_what_is_missing(edgevit, monkeypatch):
    monkeypatch.setattr("edgevit.commands.doctor.installed_version", lambda name: None)
    assert "no onnxruntime: pip install 'edgevit[cpu]'" in edgevit("doctor").out


def test_doctor_of_a_sound_bundle_passes(edgevit, bundle):
    outcome = edgevit("doctor", bundle, "--json")
    assert outcome.status == 0
    findings = {finding["subject"]: finding for finding in outcome.json["findings"]}
    assert list(findings) == ["files", "ort"]
    assert all(finding["passed"] for finding in findings.values())


def test_doctor_of_a_damaged_bundle_stops_at_its_files(edgevit, bundle):
    graph = bundle / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    outcome = edgevit("doctor", bundle, "--json")
    assert outcome.status == 2
    assert "files" in outcome.error and "SHA-256" in outcome.error
    assert [finding["passed"] for finding in outcome.json["findings"]] == [False]


@pytest.mark.parametrize("target, status", [("cpu-x86", 0), ("jetson-orin", 1)])
def test_doctor_checks_a_bundle_for_a_target(edgevit, monkeypatch, bundle, target, status):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    outcome = edgevit("doctor", bundle, "--target", target)
    assert outcome.status == status
    if status:
        assert "export it again with --target jetson-orin" in outcome.error


def test_doctor_says_that_a_bundles_runtime_does_not_exist(edgevit, make_bundle, monkeypatch):
    others = tuple(runtime for runtime in choose.RUNTIMES if runtime.name != "ov")
    monkeypatch.setattr(choose, "RUNTIMES", others)
    outcome = edgevit("doctor", make_bundle(target="openvino"))
    assert outcome.status == 1
    assert "ov: this edgevit has no such runtime" in outcome.error


def test_doctor_knows_another_instruction_set(edgevit, monkeypatch, bundle):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert "this machine is x86_64, cpu-arm is AArch64" in edgevit("doctor", bundle, "--target", "cpu-arm").error


def test_doctor_of_an_unknown_target_is_usage(edgevit, bundle):
    outcome = edgevit("doctor", bundle, "--target", "jetson")
    assert outcome.status == 2
    assert "unknown target 'jetson'" in outcome.error
    assert edgevit("doctor", "--target", "cpu-x86").status == 2
