from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.bundle import Bundle, device_dir
from edgevit.bundle_writer import write_bundle
from edgevit.errors import InputError
from edgevit.files import sha256
from edgevit.strict_json import encode, plain
from edgevit.tuning_record import Choice, Decision, Ratio, read_tuning, tuning_path, unfit, write_tuning

sys.path.insert(0, str(Path(__file__).parents[2] / "simulated"))

from tuning_records import CLEAR, DEFAULT, FASTER, LIBRARIES, MACHINE, WRONG, record_of


@pytest.fixture
def make_bundle(tmp_path, manifest, content) -> Callable[[], Bundle]:
    return lambda: write_bundle(tmp_path / "bundle", manifest, content)


def test_what_was_written_is_what_is_read(make_bundle):
    bundle = make_bundle()
    assert read_tuning(bundle) is None
    record = record_of(bundle.digest)
    path = write_tuning(bundle, record)
    assert path == tuning_path(bundle) and path.parent == device_dir(bundle)
    assert read_tuning(bundle) == record
    another = replace(record, images=9)
    write_tuning(bundle, another)
    assert read_tuning(bundle) == another


@pytest.mark.parametrize(
    "high, floor, winner",
    [(0.85, 1.02, FASTER), (0.99, 1.02, DEFAULT), (1.1, 1.0, DEFAULT), (1.0, 1.0, DEFAULT), (0.999, 1.0, FASTER)],
)
def test_the_default_stays_unless_the_whole_interval_is_below_the_noise(high, floor, winner):
    ratio = Ratio(ratio=0.8, low=0.7, high=high, confidence=0.99)
    decision = Decision(challenger=FASTER, ratio=ratio, floor=floor, rounds=50)
    assert record_of("0" * 64, decision=decision).winner == winner


def test_without_a_decision_the_default_stays():
    assert record_of("0" * 64, decision=None).winner == DEFAULT


@pytest.mark.parametrize("challenger", [WRONG, DEFAULT, Choice(runtime="ov", threads=7)])
def test_no_record_says_that_something_won_which_was_refused_or_never_tried(challenger):
    with pytest.raises(InputError, match="one of the trials that was not refused"):
        record_of("0" * 64, decision=Decision(challenger=challenger, ratio=CLEAR, floor=1.0, rounds=50))


@pytest.mark.parametrize(
    "change",
    [
        lambda: record_of("digest"),
        lambda: record_of("0" * 64, trials=()),
        lambda: record_of("0" * 64, default=FASTER),
        lambda: Choice(runtime="ort", threads=0),
        lambda: Ratio(ratio=0.5, low=0.6, high=0.7, confidence=0.99),
        lambda: Decision(challenger=FASTER, ratio=CLEAR, floor=0.9, rounds=50),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(change):
    with pytest.raises(InputError):
        change()


@pytest.mark.parametrize("place", range(0, 2200, 97))
def test_a_changed_byte_is_found(make_bundle, place):
    bundle = make_bundle()
    path = write_tuning(bundle, record_of(bundle.digest))
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError) as refusal:
        read_tuning(bundle)
    assert str(path) in str(refusal.value) and len(str(refusal.value).splitlines()) == 1


def test_an_edit_that_leaves_it_well_formed_is_found(make_bundle):
    bundle = make_bundle()
    path = write_tuning(bundle, record_of(bundle.digest))
    values = json.loads(path.read_bytes())
    values["record"]["decision"]["ratio"]["ratio"] = 0.76
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="its hash differs"):
        read_tuning(bundle)


@pytest.mark.parametrize(
    "data, line",
    [
        (b"", "not valid JSON"),
        (b"[]", "wanted an object"),
        (b"{}", "missing key"),
        (b" " * (2**20 + 1), "no record of autotuning"),
        (b'{"record": {"schema_version": 2}, "sha256": ""}', "schema version 2, this edgevit reads 1"),
    ],
)
def test_a_damaged_record_is_refused_in_one_line(make_bundle, data, line):
    bundle = make_bundle()
    path = tuning_path(bundle)
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(InputError, match=line) as refusal:
        read_tuning(bundle)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_link_in_its_place_is_not_followed(make_bundle, tmp_path):
    bundle = make_bundle()
    path = write_tuning(bundle, record_of(bundle.digest))
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(InputError):
        read_tuning(bundle)


def test_a_record_fits_the_bundle_machine_and_versions_it_was_made_with(make_bundle):
    bundle = make_bundle()
    record = record_of(bundle.digest)
    assert unfit(record, bundle, MACHINE, LIBRARIES) is None
    assert unfit(record, bundle, MACHINE, LIBRARIES | {"tensorrt": "10.3"}) is None
    others = [
        (replace(record, bundle_digest="0" * 64), MACHINE, LIBRARIES, "another bundle"),
        (record, replace(MACHINE, cpus=4), LIBRARIES, "on Xeon, x86_64, 2 CPUs; this is Xeon, x86_64, 4 CPUs"),
        (record, replace(MACHINE, features="1" * 16), LIBRARIES, "other instruction sets"),
        (record, MACHINE, LIBRARIES | {"openvino": "2027.0"}, "openvino 2026.4.1; here is 2027.0"),
        (record, MACHINE, {"onnxruntime": "1.31.1"}, "openvino 2026.4.1; here is none"),
    ]
    for measured, machine, libraries, line in others:
        assert line in str(unfit(measured, bundle, machine, libraries))


def test_the_hash_is_of_the_record_alone(make_bundle):
    bundle = make_bundle()
    record = record_of(bundle.digest)
    written = json.loads(write_tuning(bundle, record).read_bytes())
    assert written == {"record": json.loads(encode(record)), "sha256": sha256(encode(record))}
    assert written["record"]["machine"] == plain(MACHINE)


def test_where_nothing_can_be_written_the_line_names_the_folder(make_bundle):
    bundle = make_bundle()
    device_dir(bundle).write_text("a file in its place")
    with pytest.raises(InputError, match=r"\.device"):
        write_tuning(bundle, record_of(bundle.digest))
