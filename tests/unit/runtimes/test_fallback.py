"""The order in which runtimes stand in for each other, and how loudly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgevit.bundle import Bundle
from edgevit.bundle_writer import write_bundle
from edgevit.engine_record import NoEngine
from edgevit.errors import FallbackWarning, InputError, MissingExtra
from edgevit.runtimes import session as loading
from edgevit.runtimes.choose import RUNTIMES
from edgevit.runtimes.fallback import Health, PassedOver, computed_in, first_that_starts, rungs
from edgevit.runtimes.session import Session, load
from edgevit.targets import target_named

NO_TENSORRT = "tensorrt is not installed, and this needs it; run: pip install 'edgevit[tensorrt]'"


class Machine:
    """Which runtimes work, instead of what is installed here; `tried` keeps the order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runner: type, **broken: str) -> None:
        self.broken = {name.replace("_", "-"): reason for name, reason in broken.items()}
        self.tried: list[str] = []
        self._runner = runner
        monkeypatch.setattr(loading, "open_runner", self.open)

    def open(self, bundle: Bundle, name: str, *, threads: int | None = None) -> object:
        self.tried.append(name)
        if name in self.broken:
            reason = self.broken[name]
            raise (NoEngine if reason.startswith("has no engine") else InputError)(reason)
        runner = self._runner(bundle.manifest)
        provider = {"ort": "CPUExecutionProvider", "ort-cuda": "CUDAExecutionProvider"}.get(name)
        runner.facts = {"runtime": name.partition("-")[0], "version": "1"} | (
            {"provider": provider} if provider else {}
        )
        return runner


@pytest.fixture
def machine(monkeypatch, brightness_runner) -> Callable[..., Machine]:
    return lambda **broken: Machine(monkeypatch, brightness_runner, **broken)


def lowered(bundle: Bundle, precision: str) -> Bundle:
    """The bundle as if its graph were of lower precision."""
    manifest = replace(bundle.manifest, precision_achieved=precision, precision_requested=precision, files={})
    path = bundle.path.with_name(f"{bundle.path.name}-{precision}")
    return write_bundle(path, manifest, {"model.onnx": bundle.read("model.onnx")})


@pytest.mark.parametrize(
    "target, names",
    [
        ("jetson-orin", ("trt", "ort-trt", "ort-cuda", "ort")),
        ("rtx", ("trt-rtx", "ort-cuda", "ort")),
        ("openvino", ("ov", "ort")),
        ("cpu-x86", ("ort",)),
    ],
)
def test_the_order_begins_with_what_the_target_is_for_and_ends_on_the_cpu(target, names):
    assert rungs(target_named(target)) == names
    assert set(names) - {"ov"} <= {runtime.name for runtime in RUNTIMES}


def test_where_the_best_works_nothing_is_said(make_bundle, machine):
    here = machine()
    with load(make_bundle(target="jetson-orin")) as session:
        assert here.tried == ["trt"]
        health = session.health()
    assert health.runtime == health.wanted == "trt" and health.passed_over == () and not health.degraded


def test_a_fallback_warns_in_one_line_and_health_has_every_reason(make_bundle, machine):
    machine(trt=NO_TENSORRT, ort_trt="got TensorrtExecutionProvider", ort_cuda="got CUDAExecutionProvider")
    bundle = make_bundle(target="jetson-orin")
    with pytest.warns(FallbackWarning) as said:
        session = load(bundle)
    (warning,) = said
    assert str(warning.message) == f"{bundle.path}: runs on ort (CPUExecutionProvider) in place of trt; {NO_TENSORRT}"
    health = session.health()
    assert (health.wanted, health.runtime, health.degraded) == ("trt", "ort", True)
    assert health.passed_over == (
        PassedOver("trt", NO_TENSORRT),
        PassedOver("ort-trt", "got TensorrtExecutionProvider"),
        PassedOver("ort-cuda", "got CUDAExecutionProvider"),
    )
    session.close()
    assert session.health() == health


def test_a_rung_that_builds_for_minutes_says_so_before_it_begins(make_bundle, machine):
    machine(trt=NO_TENSORRT)
    with pytest.warns(FallbackWarning) as said:
        load(make_bundle(target="jetson-orin")).close()
    assert "builds an engine now, which takes minutes" in str(said[0].message)
    assert "runs on ort-trt in place of trt" in str(said[1].message)


def test_the_next_rung_is_taken_when_a_graph_does_not_load(make_bundle, machine, monkeypatch):
    machine()
    init = Session.__init__

    def refuse_trt(session, bundle, runner, **settings):
        if settings["runtime"] != "ort":
            raise InputError("does not load")
        init(session, bundle, runner, **settings)

    monkeypatch.setattr(Session, "__init__", refuse_trt)
    with pytest.warns(FallbackWarning), load(make_bundle(target="rtx")) as session:
        assert [one.runtime for one in session.health().passed_over] == ["trt-rtx", "ort-cuda"]


def test_where_nothing_works_the_line_has_every_reason(make_bundle, machine):
    machine(trt_rtx="no engine", ort_cuda="no provider", ort="no onnxruntime")
    with pytest.raises(InputError) as refusal:
        load(make_bundle(target="rtx"))
    line = str(refusal.value)
    assert len(line.splitlines()) == 1
    assert line.endswith("nothing runs it here: trt-rtx: no engine; ort-cuda: no provider; ort: no onnxruntime")


def test_a_runtime_that_is_named_is_that_one_or_its_error(make_bundle, machine):
    here = machine(trt=NO_TENSORRT)
    with pytest.raises(InputError) as refusal:
        load(make_bundle(target="jetson-orin"), "trt")
    assert str(refusal.value) == NO_TENSORRT
    assert here.tried == ["trt"]


def test_the_only_runtime_of_a_target_keeps_its_own_error(make_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"edgevit\[cpu\]"):
        load(make_bundle())


@pytest.mark.parametrize(
    "precision, target, provider, wanted",
    [
        ("fp32", "jetson-orin", "CPUExecutionProvider", None),
        ("fp16", "jetson-orin", "CPUExecutionProvider", "fp32"),
        ("bf16", "rtx", "CPUExecutionProvider", "fp32"),
        ("int8", "rtx", "CPUExecutionProvider", "int8 and, where it says fp16, fp32"),
        ("int8", "cpu-x86", "CPUExecutionProvider", None),
        ("fp16", "jetson-orin", "CUDAExecutionProvider", None),
        ("fp16", "jetson-orin", "TensorrtExecutionProvider, CUDAExecutionProvider", "what TensorRT chooses"),
    ],
)
def test_a_provider_that_computes_in_another_precision_is_known(make_bundle, precision, target, provider, wanted):
    manifest = replace(make_bundle(target=target).manifest, precision_achieved=precision)
    found = computed_in(manifest, {"runtime": "ort", "provider": provider})
    assert found == wanted or (wanted is not None and found is not None and found.startswith(wanted))


def test_another_precision_is_said_even_of_a_runtime_that_was_named(make_bundle, machine):
    machine()
    bundle = lowered(make_bundle(target="jetson-orin"), "fp16")
    with pytest.warns(FallbackWarning, match="its fp16 graph is computed in fp32"), load(bundle, "ort") as session:
        assert session.health().computed_in == "fp32"


def test_health_is_json(make_bundle, machine):
    machine(trt=NO_TENSORRT, ort_trt="no")
    with pytest.warns(FallbackWarning), load(make_bundle(target="jetson-orin")) as session:
        health = session.health().to_dict()
    assert json.loads(json.dumps(health)) == health
    assert health["passed_over"] == [{"runtime": "trt", "reason": NO_TENSORRT}, {"runtime": "ort-trt", "reason": "no"}]
    assert (health["degraded"], health["runtime"], health["wanted"]) == (True, "ort-cuda", "trt")


def test_health_of_a_runner_of_ones_own_names_what_it_calls_itself(make_bundle, brightness_runner):
    bundle = make_bundle()
    with Session(bundle, brightness_runner(bundle.manifest)) as session:
        assert session.health() == Health(
            target="cpu-x86", wanted="brightness", runtime="brightness",
            facts={"runtime": "brightness", "version": "1"}, passed_over=(), precision="fp32", computed_in=None,
        )  # fmt: skip


def test_an_engine_is_built_only_when_asked_and_once(make_bundle, machine):
    here = machine(trt="has no engine of tensorrt")
    built: list[tuple[Bundle, str]] = []

    def rebuild(bundle: Bundle, target: str) -> None:
        built.append((bundle, target))
        here.broken.clear()

    bundle = make_bundle(target="jetson-orin")
    with load(bundle, rebuild=rebuild) as session:
        assert session.health().runtime == "trt" and not session.health().degraded
    assert built == [(bundle, "jetson-orin")] and here.tried == ["trt", "trt"]


@pytest.mark.parametrize(
    "target, runtime, built", [("desktop-gpu", "trt-rtx", "rtx"), ("rtx", "trt-rtx", "rtx"), ("cpu-x86", "trt", None)]
)
def test_the_engine_is_built_for_the_runtime_that_was_named(make_bundle, machine, target, runtime, built):
    """And not for the bundle's own target; where the runtime serves several, that is left to the command line."""
    here = machine(**{runtime.replace("-", "_"): "has no engine"})
    targets: list[str] = []

    def rebuild(bundle: Bundle, target: str) -> None:
        targets.append(target)
        here.broken.clear()

    if built is None:
        with pytest.raises(NoEngine):
            load(make_bundle(target=target), runtime, rebuild=rebuild)
    else:
        load(make_bundle(target=target), runtime, rebuild=rebuild).close()
    assert targets == [built] * (built is not None)


@pytest.mark.parametrize("reason", ["CUDA sees no device; run this on a machine with an NVIDIA GPU", NO_TENSORRT])
def test_what_no_build_can_mend_begins_none(make_bundle, machine, reason):
    machine(trt=reason)

    def rebuild(bundle: Bundle, target: str) -> None:
        pytest.fail("it was built")

    with pytest.raises(InputError, match=r"GPU|not installed"):
        load(make_bundle(target="jetson-orin"), "trt", rebuild=rebuild)


def test_a_build_that_fails_is_a_reason_like_another(make_bundle, machine):
    machine(trt="has no engine of tensorrt")

    def rebuild(bundle: Bundle, target: str) -> None:
        raise InputError("this machine cannot build for jetson-orin")

    with pytest.warns(FallbackWarning), load(make_bundle(target="jetson-orin"), rebuild=rebuild) as session:
        reason = session.health().passed_over[0].reason
    assert reason == "has no engine of tensorrt; building it failed: this machine cannot build for jetson-orin"


def test_a_bug_is_not_taken_for_a_reason(make_bundle):
    def start(name: str, passed_over: tuple[PassedOver, ...]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        first_that_starts(make_bundle(), ("trt", "ort"), start)
