"""Frozen dataclasses to plain JSON values and back, strictly: the dataclass is the schema."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from edgevit.errors import InputError


def to_plain(value: Any) -> Any:
    """Dataclasses to objects, arrays and tuples to lists, paths to strings."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """The value of a type annotation that `to_plain` made `value` of.

    Args:
        kind: a dataclass, `X | None`, `tuple[X, ...]`, `Mapping[str, X]`, `Literal`, an array or a plain type.
        value: from JSON.
        where: what the value is, for the error.

    Raises:
        InputError: something is missing, too much or of another type; the line names it.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass_from(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _first_that_fits([option for option in arguments if option is not type(None)], value, where)
    if origin is Literal:
        return _checked(value, value in arguments, where, f"one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        _checked(value, isinstance(value, list), where, "a list")
        return tuple(from_plain(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        _checked(value, isinstance(value, dict), where, "an object")
        return {key: from_plain(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is np.ndarray:
        return _array_from(value, where)
    if kind is Path:
        return Path(_checked(value, isinstance(value, str), where, "a string"))
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(_checked(value, number, where, "a number"))
    return _checked(value, type(value) is kind, where, f"a value of type {kind.__name__}")


def _dataclass_from(kind: Any, value: Any, where: str) -> Any:
    _checked(value, isinstance(value, dict), where, "an object")
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        _checked(value, name in value, where, f"an object with the key '{name}'")
    for name in value:
        _checked(value, name in names, where, f"an object without the key '{name}'")
    return kind(**{name: from_plain(hints[name], value[name], f"{where}.{name}") for name in names})


def _first_that_fits(options: list[Any], value: Any, where: str) -> Any:
    # An int is a float too: the exact type comes first, so that a count stays a count.
    for option in sorted(options, key=lambda option: option is not type(value)):
        try:
            return from_plain(option, value, where)
        except InputError as error:
            refusal = error
    raise refusal


def _array_from(value: Any, where: str) -> np.ndarray:
    _checked(value, isinstance(value, list), where, "a list of numbers")
    try:
        array = np.array(value) if value else np.empty(0, dtype=np.int64)
    except ValueError:
        array = np.empty(0, dtype=object)
    _checked(value, array.dtype.kind in "if", where, "a list of numbers")
    return array


def _checked(value: Any, good: bool, where: str, wanted: str) -> Any:
    if not good:
        got = f"{str(value)[:40]}..." if len(str(value)) > 40 else str(value)
        raise InputError(f"{where} is {got}; wanted {wanted}")
    return value
