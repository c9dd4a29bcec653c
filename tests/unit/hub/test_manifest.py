from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.manifest import FileRecord, Manifest
from edgevit.spec import ReductionSpec, TensorSpec

on_one_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def complete(manifest: Manifest) -> Manifest:
    return replace(manifest, files={"model.onnx": FileRecord(sha256="a" * 64, size_bytes=3)})


def read_or_refuse(data: bytes) -> Manifest | None:
    """The manifest, or None where it was refused in one line; anything else is a fault."""
    try:
        return Manifest.from_json(data)
    except InputError as error:
        problem = str(error)
    assert len(problem.splitlines()) == 1
    assert problem.startswith("manifest.json: ")
    return None


def test_a_manifest_is_read_back_equal_and_written_alike(complete: Manifest) -> None:
    data = complete.to_json()
    assert Manifest.from_json(data) == complete
    assert Manifest.from_json(data).to_json() == data


def test_a_manifest_without_routing_parity_and_checkpoint_is_read_back_equal(complete: Manifest) -> None:
    bare = replace(
        complete, routing=None, reduction=None, parity=None, model=replace(complete.model, checkpoint_sha256=None)
    )
    assert Manifest.from_json(bare.to_json()) == bare


def as_schema_1(manifest: Manifest) -> dict[str, Any]:
    """What the first release wrote for it."""
    record: dict[str, Any] = json.loads(manifest.to_json())
    record["schema_version"] = 1
    del record["reduction"]
    if record["routing"] is not None:
        del record["routing"]["tokens"], record["routing"]["budgets"]
    if record["parity"] is not None:
        del record["parity"]["patches_agreed"]
    return record


@pytest.mark.parametrize("without", [(), ("routing",), ("parity",), ("routing", "parity")])
def test_a_manifest_of_schema_1_is_read_as_one_without_a_reduction(
    complete: Manifest, without: tuple[str, ...]
) -> None:
    assert complete.routing is not None and complete.parity is not None
    old = replace(
        complete,
        routing=replace(complete.routing, tokens=4),
        reduction=None,
        parity=replace(complete.parity, patches_agreed=None),
    )
    old = replace(old, **dict.fromkeys(without))
    read = Manifest.from_json(json.dumps(as_schema_1(old)).encode())
    assert read == old
    assert read.schema_version == 2


@pytest.mark.parametrize(
    "place", [("reduction",), ("routing", "tokens"), ("routing", "budgets"), ("parity", "patches_agreed")]
)
def test_a_manifest_of_schema_1_has_no_keys_of_the_second(complete: Manifest, place: tuple[str, ...]) -> None:
    data = edited(as_schema_1(complete), place, lambda holder, key: holder.__setitem__(key, None))
    with pytest.raises(InputError, match=f"unknown key '{place[-1]}'"):
        Manifest.from_json(data)


def test_a_schema_1_with_what_is_no_object_in_its_place_is_refused(complete: Manifest) -> None:
    for key in ("routing", "parity"):
        assert read_or_refuse(json.dumps(as_schema_1(complete) | {key: [1]}).encode()) is None


def test_a_reduction_without_routing_is_read_back_equal(complete: Manifest) -> None:
    reduced = replace(complete, routing=None, reduction=ReductionSpec(method="ltm", grid=(2, 2), tokens=(4, 2, 2, 1)))
    assert Manifest.from_json(reduced.to_json()) == reduced


def adaptive(manifest: Manifest, *budgets: tuple[int, ...]) -> Manifest:
    assert manifest.routing is not None
    return replace(manifest, routing=replace(manifest.routing, mode="adaptive", budgets=budgets))


def test_an_adaptive_manifest_is_read_back_equal(complete: Manifest) -> None:
    for rungs in ((3,), (0, 3), (0, 1, 2, 3)):
        manifest = adaptive(complete, rungs)
        assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("rungs", [(), (0,), (2, 1, 3), (1, 1, 3), (-1, 3), (3, 4)])
def test_a_ladder_that_does_not_rise_to_all_tokens_is_refused(complete: Manifest, rungs: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="wanted rising numbers from 0 that end at 3"):
        adaptive(complete, rungs)


def test_the_order_in_which_files_were_given_does_not_show(complete: Manifest) -> None:
    a, b = FileRecord(sha256="a" * 64, size_bytes=1), FileRecord(sha256="b" * 64, size_bytes=2)
    assert replace(complete, files={"a": a, "b": b}).to_json() == replace(complete, files={"b": b, "a": a}).to_json()


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in parsed JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, item in inner for place in places(item, (*at, key))]


def edited(record: Any, place: tuple[Any, ...], edit: Callable[[Any, Any], None]) -> bytes:
    record = json.loads(json.dumps(record))
    holder = record
    for key in place[:-1]:
        holder = holder[key]
    edit(holder, place[-1])
    return json.dumps(record).encode()


def is_free(place: tuple[Any, ...]) -> bool:
    """Whether a place is inside an object whose keys are not fixed."""
    return place[0] in ("cost", "versions", "files", "labels", "outputs") or place[:2] == ("model", "config") or any(
        isinstance(key, int) for key in place
    )  # fmt: skip


def test_every_missing_key_and_every_extra_key_is_named(complete: Manifest) -> None:
    record = json.loads(complete.to_json())
    fixed = [place for place in places(record) if not is_free(place)]
    assert len(fixed) >= 40
    for place in fixed:
        with pytest.raises(InputError, match=f"missing key '{place[-1]}'"):
            Manifest.from_json(edited(record, place, lambda holder, key: holder.pop(key)))
        with pytest.raises(InputError, match="unknown key 'zzz'"):
            Manifest.from_json(edited(record, place, lambda holder, key: holder.update(zzz=1)))


def test_every_wrong_type_is_named(complete: Manifest) -> None:
    record = json.loads(complete.to_json())
    for place in places(record):
        if place[0] == "cost" or place[:2] == ("model", "config"):
            continue  # any JSON is welcome here
        wrong: list[Any] = [True, [[]], {"a": {}}]
        if place not in (
            ("routing",),
            ("parity",),
            ("routing", "selection"),
            ("parity", "patches_agreed"),
            ("model", "checkpoint_sha256"),
        ):
            wrong.append(None)
        for value in wrong:
            with pytest.raises(InputError, match=r"^manifest\.json: "):
                Manifest.from_json(
                    edited(record, place, lambda holder, key, value=value: holder.__setitem__(key, value))
                )


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("schema_version",), 0, "schema_version: got 0, wanted 2"),
        (("schema_version",), 1.0, "schema_version: got 1.0, wanted a whole number"),
        (("labels",), [], "at least one"),
        (("labels",), ["a", "a"], "repeated"),
        (("labels", 0), "two\nlines", "control characters"),
        (("labels", 0), "\ud800", "control characters"),
        (("labels",), ["a", "b", "c"], "wanted logits: float32 1 x 3"),
        (("input", "shape"), [1, 3, 8, 9], "wanted image: float32 1 x 3 x 8 x 8"),
        (("input", "shape"), [], "image: wanted a shape"),
        (("input", "shape", 0), -1, "image: wanted a shape"),
        (("input", "shape", 0), 2**40, "at most 2147483648 elements"),
        (("input", "dtype"), "object", "got dtype object"),
        (("outputs",), [], "wanted logits"),
        (("outputs", 1, "name"), "logits", "a name is repeated"),
        (("preprocess", "std", 1), 0, "above 0"),
        (("preprocess", "mean"), [0.5, 0.5], "got 2 entries, wanted 3"),
        (("preprocess", "interpolation"), "nearest", "wanted bilinear or bicubic"),
        (("preprocess", "height"), 2**53, "wanted image"),
        (("routing", "mode"), "magic", "wanted dense or mask or topk or adaptive"),
        (("routing", "steps"), 0, "wanted 1 or more"),
        (("routing", "grid"), [0, 4], "wanted rows and columns"),
        (("routing", "capacities"), [4], "one for each step"),
        (("routing", "capacities"), [4, 3], "from 0 to 3"),
        (("routing", "tokens"), 5, "routing.tokens: got 5, wanted 1 to 4"),
        (("routing", "tokens"), 2, "leaves 3, routing has 2"),
        (("routing", "budgets"), [[0, 3]], "got 1 ladders; wanted one for each step after the first under adaptive"),
        (("routing", "mode"), "adaptive", "got 0 ladders"),
        (("reduction",), None, "routing.tokens: got 3 of 4 patches and no reduction"),
        (("reduction", "method"), "magic", "wanted tome or ltm or dynamicvit or evit"),
        (("reduction", "tokens"), [], "one number for each block"),
        (("reduction", "tokens"), [0], "numbers from 1 to 4"),
        (("reduction", "tokens"), [5, 3], "numbers from 1 to 4"),
        (("reduction", "tokens"), [2, 3], "never rise"),
        (("reduction", "grid"), [4, 1], r"reduction.grid: got \(4, 1\), routing has \(2, 2\)"),
        (("reduction", "grid"), [0, 4], "wanted rows and columns"),
        (("parity", "patches_agreed"), 1.5, "a share from 0 to 1"),
        (("routing", "thresholds"), [0.1, 0.2], "one for each step after the first"),
        (("parity", "decisions_agreed"), 17, "up to the number of inputs"),
        (("parity", "step_agreement"), [1.5], "shares from 0 to 1"),
        (("parity", "atol"), -1, "no negative"),
        (("precision_achieved",), "fp8", "wanted fp32 or fp16 or bf16 or int8"),
        (("model", "checkpoint_sha256"), "A" * 64, "lower-case hexadecimal"),
        (("model", "parameters"), -1, "0 or more"),
        (("files", "model.onnx", "sha256"), "a" * 63, "64 lower-case"),
        (("files", "model.onnx", "size_bytes"), -1, "0 or more"),
        (("opset",), 0, "1 or more"),
        (("target",), "", "not empty"),
    ],
)
def test_a_value_out_of_range_is_refused(
    complete: Manifest, place: tuple[Any, ...], value: object, message: str
) -> None:
    data = edited(json.loads(complete.to_json()), place, lambda holder, key: holder.__setitem__(key, value))
    with pytest.raises(InputError, match=message) as caught:
        Manifest.from_json(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xfe", b"null", b"[]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 1}', b"[" * 100_000, b'{"a":' * 5_000,
        b"9" * 10_000,
    ],
    ids=["empty", "not text", "null", "list", "cut", "NaN", "repeated key", "deep list", "deep object", "long number"],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    assert read_or_refuse(data) is None


def test_a_number_beyond_float_is_refused(complete: Manifest) -> None:
    assert read_or_refuse(complete.to_json().replace(b"12.5", b"1e999")) is None


def test_nesting_that_only_the_reader_of_json_survives_is_refused(complete: Manifest) -> None:
    for depth in (500, 900, 5_000, 50_000):
        read_or_refuse(complete.to_json().replace(b"12.5", b"[" * depth + b"]" * depth))
    assert read_or_refuse(complete.to_json().replace(b"12.5", b"[" * 50_000 + b"]" * 50_000)) is None


@on_one_fixture
@given(data=st.data())
def test_any_mutation_of_the_bytes_is_refused_or_read_back_equal(complete: Manifest, data: st.DataObject) -> None:
    mutated = bytearray(complete.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(mutated)))
        removed = data.draw(st.integers(0, 8))
        mutated[start : start + removed] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"0", b"-", b"1e9", b'"', b"{}", b"null"])
        )
    read = read_or_refuse(bytes(mutated))
    assert read is None or Manifest.from_json(read.to_json()) == read


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@on_one_fixture
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_read_back_equal(complete: Manifest, data: st.DataObject) -> None:
    record = json.loads(complete.to_json())
    place = data.draw(st.sampled_from(places(record)))
    value = data.draw(json_values)
    read = read_or_refuse(edited(record, place, lambda holder, key: holder.__setitem__(key, value)))
    assert read is None or Manifest.from_json(read.to_json()) == read


def test_a_manifest_that_is_built_is_held_to_the_same_rules(manifest: Manifest) -> None:
    with pytest.raises(InputError, match="wanted image: float32"):
        replace(manifest, input=TensorSpec("pixels", "float32", (1, 3, 8, 8)))
