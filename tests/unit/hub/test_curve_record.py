from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import Bundle, device_dir
from edgevit.bundle_writer import write_bundle
from edgevit.curve_record import (
    CURVE_SCHEMA_VERSION,
    MARGIN,
    Curve,
    Durations,
    Point,
    curve_path,
    read_curve,
    write_curve,
)
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.machine import Machine, this_machine
from edgevit.strict_json import encode

MS = 1_000_000


def lasting(max_ms: float, runs: int = 300) -> Durations:
    return Durations(runs=runs, p50_ns=MS, p99_ns=MS, max_ns=int(max_ms * MS))


@pytest.fixture
def bundle(tmp_path: Path, manifest, content) -> Bundle:
    return write_bundle(tmp_path / "steel", manifest, content)


@pytest.fixture
def curve(bundle: Bundle) -> Curve:
    return Curve(
        bundle_digest=bundle.digest,
        runtime="ort",
        library_version="1.31.0",
        threads="2",
        machine=this_machine(),
        points=(Point(caps=(0,), durations=lasting(4)), Point(caps=(3,), durations=lasting(9))),
        around=lasting(1),
        around_of="pictures of line 3",
    )


def test_what_was_written_is_read(bundle, curve):
    path = write_curve(bundle, curve, 2)
    assert path == device_dir(bundle) / "curve-ort-2.json" == curve_path(bundle, "ort", 2)
    assert read_curve(bundle, "ort", 2) == curve


def test_another_number_of_threads_has_a_curve_of_its_own(bundle, curve):
    write_curve(bundle, curve, 2)
    write_curve(bundle, replace(curve, threads="auto", around_of="others"), None)
    assert read_curve(bundle, "ort", None).around_of == "others"
    assert read_curve(bundle, "ort", 2) == curve
    with pytest.raises(InputError, match=r"nobody measured yet .* run: edgevit bench .*/steel --curve --threads 4$"):
        read_curve(bundle, "ort", 4)


def test_a_curve_of_another_number_of_threads_is_not_taken(bundle, curve):
    write_curve(bundle, curve, None)  # by somebody who renamed the file
    with pytest.raises(InputError, match="with threads 2; run: edgevit bench"):
        read_curve(bundle, "ort", None)


def test_without_a_curve_the_line_names_the_command(bundle):
    with pytest.raises(InputError, match=r"run: edgevit bench .*/steel --curve$"):
        read_curve(bundle, "ort", None)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"bundle_digest": "0" * 64}, "of another bundle"),
        (
            {"machine": Machine(architecture="aarch64", cpu="Cortex-A78AE", features="0" * 16, cpus=8)},
            "measured on Cortex-A78AE, aarch64, 8 CPUs; this is ",
        ),
        ({"machine": replace(this_machine(), features="0" * 16)}, "this one has other instruction sets"),
        ({"points": (Point(caps=(0, 0), durations=lasting(4)),)}, "has caps for 2 steps, the bundle has 1"),
    ],
)
def test_a_curve_of_something_else_is_not_taken(bundle, curve, change, says):
    other = replace(curve, **change)
    path = curve_path(bundle, "ort", 2)
    path.parent.mkdir()
    path.write_bytes(encode({"curve": other, "sha256": sha256(encode(other))}))
    with pytest.raises(InputError, match=says) as refusal:
        read_curve(bundle, "ort", 2)
    assert "run: edgevit bench" in str(refusal.value) and "\n" not in str(refusal.value)


def faster(record):
    record["curve"]["points"][1]["durations"]["max_ns"] -= 1


def newer(record):
    record["curve"]["schema_version"] += 1


def more(record):
    record["curve"]["trust_me"] = True


def impossible(record):
    record["curve"]["points"][0]["durations"]["runs"] = 0


def twice(record):
    record["curve"]["points"][1]["caps"] = [0]


def negative(record):
    record["curve"]["points"][0]["caps"] = [-1]


def nothing(record):
    record["curve"]["points"] = []


@pytest.mark.parametrize(
    "damage, says",
    [
        (faster, "its hash differs"),
        (newer, f"schema version {CURVE_SCHEMA_VERSION + 1}, this edgevit reads {CURVE_SCHEMA_VERSION}"),
        (more, "unknown key 'trust_me'"),
        (impossible, "wanted 1 run or more"),
        (twice, "wanted each caps once"),
        (negative, "got a cap below 0"),
        (nothing, "wanted one or more"),
    ],
)
def test_a_changed_record_is_refused(bundle, curve, damage, says):
    path = write_curve(bundle, curve, 2)
    record = json.loads(path.read_bytes())
    damage(record)
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=says) as refusal:
        read_curve(bundle, "ort", 2)
    assert "run: edgevit bench" in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"curve": 1}', b"\xff", b" " * (2**20 + 1)])
def test_what_is_no_record_is_one_line(bundle, data):
    path = curve_path(bundle, "ort", None)
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(InputError, match="run: edgevit bench") as refusal:
        read_curve(bundle, "ort", None)
    assert "\n" not in str(refusal.value)


def test_a_link_in_its_place_is_not_followed(bundle, curve, tmp_path):
    path = write_curve(bundle, curve, 2)
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(InputError, match="cannot be read"):
        read_curve(bundle, "ort", 2)


def test_a_folder_that_cannot_be_made_is_one_line(bundle, curve):
    device_dir(bundle).write_text("a file in its place")
    with pytest.raises(InputError, match="cannot be written"):
        write_curve(bundle, curve, 2)


def test_a_bound_is_the_longest_of_all_that_may_happen_with_a_margin(curve):
    slow_below = replace(curve.points[0], durations=lasting(20))
    strange = replace(curve, points=(slow_below, curve.points[1]))
    assert strange.bound_ns(strange.points[1]) == pytest.approx(MARGIN * 21 * MS, abs=1)
    assert curve.bound_ns(curve.points[1]) == pytest.approx(MARGIN * 10 * MS, abs=1)
    assert curve.bound_ns(curve.points[0]) == pytest.approx(MARGIN * 5 * MS, abs=1)


def test_a_point_that_is_fuller_somewhere_is_not_part_of_a_bound(curve):
    points = tuple(Point(caps=caps, durations=lasting(ms)) for caps, ms in (((2, 0), 5), ((0, 2), 30), ((2, 2), 8)))
    two = replace(curve, points=points)
    assert two.bound_ns(points[0]) == pytest.approx(MARGIN * 6 * MS, abs=1)
    assert two.bound_ns(points[2]) == pytest.approx(MARGIN * 31 * MS, abs=1)


def test_durations_of_runs_in_any_order():
    durations = Durations.of([5, 1, 4, 2, 3])
    assert (durations.runs, durations.p50_ns, durations.p99_ns, durations.max_ns) == (5, 3, 5, 5)
    assert Durations.of(list(range(1000, 0, -1))).p99_ns == 990


@pytest.mark.parametrize("runs, share", [(1, 0.05), (59, 0.95), (299, 0.99), (2995, 0.999)])
def test_what_the_longest_of_so_many_runs_covers(runs, share):
    assert lasting(2, runs).covered == pytest.approx(share, abs=5e-4)
