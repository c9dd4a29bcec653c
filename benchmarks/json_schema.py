"""The published schema of the JSON report, made from the dataclasses that are its schema in the program."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from .measurement import Measurement
from .report_json import FORMAT, SCHEMA_VERSION
from .summary import Summary

__all__ = ["report_schema"]

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "string"}


def report_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what `measurement_to_json` writes."""
    definitions: dict[str, Any] = {}
    properties = {
        "format": {"const": FORMAT},
        "schema_version": {"const": SCHEMA_VERSION},
        "units": {"type": "object", "additionalProperties": {"type": "string"}},
        "measurement": _schema_of(Measurement, definitions),
        "summary": _schema_of(Summary, definitions),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Report of edgevit bench",
        "description": "Every sample, every fact, and the summary computed from them.",
        **_closed(properties),
        "$defs": definitions,
    }


def _schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = {}  # stands in while its fields are visited
            hints = get_type_hints(kind)
            fields = {field.name: _schema_of(hints[field.name], definitions) for field in dataclasses.fields(kind)}
            about = (kind.__doc__ or "").strip()
            definitions[name] = {"description": " ".join(about.split("\n\n")[0].split()), **_closed(fields)}
        return {"$ref": f"#/$defs/{name}"}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(option, definitions) for option in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0], definitions)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], definitions)}
    if kind is np.ndarray:  # a column of numbers, or of rows of numbers
        return {
            "type": "array",
            "items": {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]},
        }
    if kind is type(None):
        return {"type": "null"}
    return {"type": _PLAIN[kind]} if kind in _PLAIN else {}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
