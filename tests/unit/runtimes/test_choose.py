from __future__ import annotations

import sys

import numpy as np
import pytest

from edgevit.errors import InputError, MissingExtra
from edgevit.runtimes.choose import RUNTIMES, open_runner
from edgevit.runtimes.null_runner import NullRunner


def test_every_runtime_has_a_name_of_its_own_and_one_line():
    names = [runtime.name for runtime in RUNTIMES]
    assert len(set(names)) == len(names)
    assert "auto" not in names
    assert all(runtime.description and "\n" not in runtime.description for runtime in RUNTIMES)
    assert all((runtime.library is None) == (runtime.extra is None) for runtime in RUNTIMES)


def test_a_runtime_is_installed_when_its_library_can_be_found(monkeypatch):
    ort, null = RUNTIMES
    assert null.installed
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert not ort.installed
    assert null.installed


def test_an_unknown_runtime_is_refused_with_those_there_are(make_bundle):
    with pytest.raises(InputError, match="unknown runtime 'gpu'; wanted auto or one of: ort, null"):
        open_runner(make_bundle(), "gpu")


def test_a_runtime_whose_library_is_missing_names_the_extra(make_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    bundle = make_bundle()
    for runtime in ("ort", "auto"):
        with pytest.raises(MissingExtra, match=r"edgevit\[cpu\]"):
            open_runner(bundle, runtime)


@pytest.mark.parametrize("runtime", ["auto", "ort"])
@pytest.mark.parametrize("as_path", [True, False])
def test_a_bundle_or_its_folder_becomes_a_runner_on_its_targets_runtime(make_bundle, make_model, runtime, as_path):
    pytest.importorskip("onnxruntime", reason="the runtime of target cpu-x86")
    bundle = make_bundle(make_model(), routed=False)
    with open_runner(str(bundle.path) if as_path else bundle, runtime, threads=1) as runner:
        assert runner.facts["runtime"] == "ort"
        assert runner.facts["threads"] == 1
        image = np.full((1, 3, 8, 8), 0.5, np.float32)
        np.testing.assert_allclose(runner(image)["logits"], [[0.5, 0.5, 0.5]])


def test_null_has_the_shapes_of_the_manifest(make_bundle):
    bundle = make_bundle()
    runner = open_runner(bundle, "null")
    assert isinstance(runner, NullRunner)
    with runner:
        assert (runner.input, runner.outputs) == (bundle.manifest.input, bundle.manifest.outputs)


def test_auto_does_not_fall_back_when_the_target_has_another_runtime(make_bundle):
    bundle = make_bundle(target="jetson-orin")
    with pytest.raises(InputError, match="is for target jetson-orin, and this edgevit has no runtime trt"):
        open_runner(bundle)
    assert open_runner(bundle, "null")  # a runtime that is named is taken, whatever the target


def test_a_provider_that_is_not_there_is_refused(make_bundle):
    pytest.importorskip("onnxruntime", reason="providers are its own")
    with pytest.raises(InputError, match="got MoonExecutionProvider"):
        open_runner(make_bundle(), "ort", provider="MoonExecutionProvider")


def test_a_provider_for_the_runtime_that_has_none_is_refused(make_bundle):
    with pytest.raises(InputError, match="runtime null, which has none"):
        open_runner(make_bundle(), "null", provider="CPUExecutionProvider")


def test_a_graph_changed_after_the_bundle_was_opened_is_not_loaded(make_bundle, make_model):
    pytest.importorskip("onnxruntime", reason="the runtime of target cpu-x86")
    model = make_model()
    bundle = make_bundle(model, routed=False)
    runner = open_runner(bundle)
    flipped = bytearray(model)
    flipped[len(model) // 2] ^= 1
    (bundle.path / "model.onnx").write_bytes(flipped)
    with pytest.raises(InputError, match="SHA-256 differs"), runner:
        pass


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_runner(tmp_path / "none")
