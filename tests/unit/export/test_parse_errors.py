from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.export.parse_errors import Complaint, parse_errors


def refusing(*errors: tuple[str, str, str]) -> Any:
    """A parser with errors: name of the node, operator, description."""

    def error(number: int) -> Any:
        name, operator, says = errors[number]
        return SimpleNamespace(
            node_name=lambda: name, node_operator=lambda: operator, desc=lambda: says, func=lambda: "importFoo",
            code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE"),
        )  # fmt: skip

    return SimpleNamespace(num_errors=len(errors), get_error=error)


@pytest.mark.parametrize(
    "name, operator, line",
    [
        ("head/Foo", "Foo", "head/Foo (Foo): no such\nplugin"),
        ("", "Foo", "Foo: no such plugin"),
        ("head/Foo", "", "head/Foo: no such plugin"),
        ("", "", "no such plugin"),
    ],
)
def test_a_complaint_names_its_node_as_far_as_it_is_known(name: str, operator: str, line: str) -> None:
    (complaint,) = parse_errors(refusing((name, operator, "no such\n plugin")))
    assert str(complaint) == " ".join(line.split())


@pytest.mark.parametrize("says", ["false", "", "False"])
def test_a_description_that_says_nothing_gives_way_to_where_it_failed(says: str) -> None:
    assert parse_errors(refusing(("", "Foo", says))) == (Complaint("Foo", "unsupported node in importFoo"),)


def test_a_refusal_without_errors_is_one_all_the_same() -> None:
    assert parse_errors(refusing()) == (Complaint("", "it refuses the graph and gives no reason"),)


def test_the_same_complaint_is_made_once() -> None:
    assert len(parse_errors(refusing(*[("a", "Foo", "no"), ("b", "Foo", "no"), ("a", "Foo", "no")]))) == 2
