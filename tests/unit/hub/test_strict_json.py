from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.strict_json import build, decode, encode


@dataclass(frozen=True)
class Leaf:
    name: str
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InputError("size is negative")


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    pair: tuple[int, float]
    kind: Literal["oak", "elm"]
    note: str | None
    flags: dict[str, bool]
    extra: object


text = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp")), max_size=6)
trees = st.builds(
    Tree,
    leaves=st.lists(st.builds(Leaf, text, st.integers(0))).map(tuple),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    kind=st.sampled_from(["oak", "elm"]),
    note=st.none() | text,
    flags=st.dictionaries(text, st.booleans()),
    extra=st.recursive(
        st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner)
    ),
)


@given(trees)
def test_what_is_written_is_read_back_equal(tree: Tree) -> None:
    assert decode(Tree, encode(tree), "tree.json") == tree


def test_the_place_of_a_problem_is_named() -> None:
    record: dict[str, Any] = {
        "leaves": [{"name": "a", "size": 1}, {"name": "b", "size": "2"}],
        "pair": [1, 2],
        "kind": "oak",
        "note": None,
        "flags": {},
        "extra": 0,
    }
    with pytest.raises(InputError, match=r"^tree\.json: leaves\[1\]\.size: got '2', wanted a whole number$"):
        build(Tree, record, "tree.json")
    record["leaves"][1]["size"] = -2
    with pytest.raises(InputError, match=r"^tree\.json: leaves\[1\]: size is negative$"):
        build(Tree, record, "tree.json")


@pytest.mark.parametrize(
    "kind, value",
    [
        (int, True),
        (int, 1.0),
        (float, True),
        (float, 2**53),
        (float, float("nan")),
        (bool, 1),
        (str, None),
        (str, b"a"),
        (tuple[int, ...], "ab"),
        (tuple[int, int], [1]),
        (dict[str, int], []),
        (dict[str, int], {"a": "b"}),
        (dict[str, int], {"a\n": 1}),
        (object, [float("inf")]),
        (object, {"a": ["\x1b[31m"]}),
    ],
)
def test_nothing_is_converted_that_could_lose_or_hide_something(kind: Any, value: object) -> None:
    with pytest.raises(InputError, match=r"^x: ") as caught:
        build(kind, value, "x")
    assert len(str(caught.value).splitlines()) == 1


def test_a_whole_number_is_welcome_where_a_float_is_wanted() -> None:
    read = build(float, 3, "x")
    assert read == 3.0
    assert type(read) is float


def test_what_json_cannot_hold_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode({"a": float("nan")})


def test_a_long_value_and_many_keys_do_not_flood_the_line() -> None:
    with pytest.raises(InputError) as caught:
        build(int, "x" * 10_000, "x")
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError) as caught:
        build(Leaf, {"k" * 1000 + str(i): 0 for i in range(1000)}, "x")
    assert len(str(caught.value)) < 400
