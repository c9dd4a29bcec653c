"""`load` with a record of autotuning beside the bundle."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from tuning_records import FASTER, LIBRARIES, MACHINE, record_of

from edgevit.errors import FallbackWarning, InputError
from edgevit.runtimes import session as loading
from edgevit.runtimes import tuned as tuning
from edgevit.runtimes.session import load
from edgevit.tuning_record import write_tuning


@pytest.fixture
def opened(monkeypatch, brightness_runner):
    """The runtimes that were opened with how many threads; `ov` fails if it is in `broken`."""
    calls = []
    broken = set()

    def open_runner(bundle, name, *, threads=None):
        calls.append((name, threads))
        if name in broken:
            raise InputError(f"{name} does not start")
        runner = brightness_runner(bundle.manifest)
        runner.facts = {"runtime": name, "version": "1", "device": "CPU"}
        return runner

    monkeypatch.setattr(loading, "open_runner", open_runner)
    monkeypatch.setattr(tuning, "this_machine", lambda: MACHINE)
    monkeypatch.setattr(tuning, "installed_libraries", lambda: LIBRARIES)
    open_runner.calls, open_runner.broken = calls, broken
    return open_runner


def test_what_was_measured_here_is_opened_and_health_says_so(make_bundle, opened):
    bundle = make_bundle()
    write_tuning(bundle, record_of(bundle.digest))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = load(bundle)
    with session:
        assert opened.calls == [("ov", 2)]
        health = session.health()
    assert (health.runtime, health.wanted, health.degraded) == ("ov", "ov", False)
    assert "autotuning measured ov with 2 threads at 0.800" in str(health)
    assert health.to_dict()["tuning"] == health.tuning


def test_without_a_record_health_is_silent_about_it(make_bundle, opened):
    with load(make_bundle()) as session:
        assert opened.calls == [("ort", None)]
        assert session.health().tuning is None and "autotuning" not in str(session.health())


@pytest.mark.parametrize("asked", [{"runtime": "ort"}, {"threads": 1}])
def test_what_the_caller_asks_for_goes_before_what_was_measured(make_bundle, opened, asked):
    bundle = make_bundle()
    write_tuning(bundle, record_of(bundle.digest))
    with load(bundle, **asked) as session:
        assert opened.calls == [("ort", asked.get("threads"))]
        assert not session.health().degraded


def test_a_record_of_another_machine_is_ignored_with_a_warning(make_bundle, opened):
    bundle = make_bundle()
    write_tuning(bundle, record_of(bundle.digest, machine=replace(MACHINE, cpus=64)))
    with pytest.warns(FallbackWarning, match="autotuning is ignored: it was measured on Xeon, x86_64, 64 CPUs"):
        session = load(bundle)
    with session:
        assert opened.calls == [("ort", None)]
        assert session.health().degraded and session.health().tuning_ignored


def test_where_the_measured_one_does_not_start_the_default_does_on_its_own_threads(make_bundle, opened):
    bundle = make_bundle()
    write_tuning(bundle, record_of(bundle.digest))
    opened.broken.add("ov")
    with pytest.warns(FallbackWarning, match="in place of ov; ov does not start"):
        session = load(bundle)
    with session:
        assert opened.calls == [("ov", FASTER.threads), ("ort", None)]
        assert session.predict(np.zeros((8, 8, 3), np.uint8)).label == "dark"
