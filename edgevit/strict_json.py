"""Frozen dataclasses to JSON and back, strictly: what is read is what was declared, or an `InputError` names the key.

The bytes are deterministic (sorted keys, no time, no NaN), so equal values give equal files and equal hashes.

Does not know: any particular record, defaults (every field is written and every field is wanted), versions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from edgevit.errors import InputError

__all__ = ["build", "decode", "encode", "parse", "plain"]

_T = TypeVar("_T")

# Control characters would break the one line an error has, changes of direction would disguise it, and a lone surrogate
# cannot be printed at all.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(value: Any) -> Any:
    """A dataclass, mapping, sequence or scalar as the dicts, lists and scalars that JSON has."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def encode(value: Any) -> bytes:
    """`plain(value)` as UTF-8 JSON, the same bytes for equal values."""
    text = json.dumps(plain(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def decode(kind: type[_T], data: bytes, where: str) -> _T:
    """Read JSON bytes as `kind`.

    Args:
        kind: a dataclass, or any type `build` takes.
        data: UTF-8 JSON.
        where: what the bytes are, for errors: `manifest.json`.

    Raises:
        InputError: the bytes are not JSON, repeat a key, or hold anything but what `kind` declares.
    """
    return build(kind, parse(data, where), where)


def parse(data: bytes, where: str) -> object:
    """Read JSON bytes as dicts, lists and scalars.

    Raises:
        InputError: the bytes are not JSON, repeat a key, or hold NaN or infinity.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8, bad JSON, a number too long to convert
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not valid JSON ({reason}); wanted a file that edgevit wrote") from error


def build(kind: type[_T], value: object, where: str) -> _T:
    """Turn parsed JSON into `kind`, checking every type on the way down.

    Args:
        kind: a dataclass, `str`, `int`, `float`, `bool`, `Literal`, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`,
            `X | None`, a union of dataclasses told apart by their keys, or `object` for any JSON.
        value: what `json.loads` gives.
        where: what the value is, for errors: `manifest.json`.

    Raises:
        InputError: a wrong type, a missing or an unknown key, or a value the dataclass itself refuses.
    """
    try:
        return _build(kind, value, "")  # type: ignore[no-any-return]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply; wanted a file that edgevit wrote") from error


def _build(kind: Any, value: Any, place: str) -> Any:
    """`build` of the value at `place`, as `preprocess.mean[0]`; empty at the top."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, place)
    if origin in (Union, UnionType):
        if all(is_dataclass(option) for option in arguments):
            return _build_one_of(arguments, value, place)
        wanted, none = arguments
        assert none is NoneType, f"only X | None and unions of dataclasses are supported, not {kind}"
        return None if value is None else _build(wanted, value, place)
    if origin is Literal:
        return value if type(value) is str and value in arguments else _refuse(value, " or ".join(arguments), place)
    if origin is tuple:
        return _build_tuple(arguments, value, place)
    if origin is dict:
        if type(value) is not dict:
            _refuse(value, "an object", place)
        return {_build(str, key, place): _build(arguments[1], item, _key(place, key)) for key, item in value.items()}
    if kind is object:
        return _build_any(value, place)
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not kind:
        _refuse(value, _SCALARS[kind], place)
    if kind is float and not math.isfinite(value):
        _refuse(value, "a finite number", place)
    if kind is str and _UNPRINTABLE.search(value):
        _refuse(value, "text without control characters", place)
    return value


_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def _build_dataclass(kind: Any, value: Any, place: str) -> Any:
    if type(value) is not dict:
        _refuse(value, "an object", place)
    types = _field_types(kind)
    for problem, keys in (("missing", types.keys() - value.keys()), ("unknown", value.keys() - types.keys())):
        if keys:
            listed = ", ".join(_shown(key) for key in sorted(keys)[:5])
            raise InputError(_at(place, f"{problem} key {listed}; wanted exactly: {', '.join(types)}"))
    arguments = {name: _build(types[name], value[name], _key(place, name)) for name in types}
    try:
        return kind(**arguments)
    except InputError as error:
        raise InputError(_at(place, str(error))) from error


def _build_one_of(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """The dataclass whose keys these are: no two of a union have the same."""
    if type(value) is not dict:
        _refuse(value, "an object", place)
    for kind in kinds:
        if _field_types(kind).keys() == value.keys():
            return _build_dataclass(kind, value, place)
    # None fits exactly, so the nearest one says what is missing or unknown.
    return _build_dataclass(max(kinds, key=lambda kind: len(_field_types(kind).keys() & value.keys())), value, place)


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    types = get_type_hints(kind)
    return {field.name: types[field.name] for field in fields(kind)}


def _build_tuple(arguments: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if type(value) is not list:
        _refuse(value, "a list", place)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    elif len(arguments) != len(value):
        raise InputError(_at(place, f"got {len(value)} entries, wanted {len(arguments)}"))
    return tuple(
        _build(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _build_any(value: Any, place: str) -> Any:
    if type(value) is dict:
        return {_build(str, key, place): _build_any(item, _key(place, key)) for key, item in value.items()}
    if type(value) is list:
        return [_build_any(item, f"{place}[{i}]") for i, item in enumerate(value)]
    return _build(type(value), value, place)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key is repeated")
    return keys


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(value: Any, wanted: str, place: str) -> NoReturn:
    raise InputError(_at(place, f"got {_shown(value)}, wanted {wanted}"))


def _key(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _at(place: str, problem: str) -> str:
    return f"{place}: {problem}" if place else problem


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."
