"""`edgevit list`: the models, targets and runtimes there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from edgevit import console
from edgevit.commands.options import Json
from edgevit.errors import InputError
from edgevit.extras import installed_version, needs

__all__ = ["listing", "runtimes", "show_runtimes"]

_Rows = list[dict[str, Any]]
_What = Annotated[
    Literal["models", "targets", "runtimes"] | None,
    typer.Argument(metavar="WHAT", help="What to list; all three by default."),
]


def listing(what: _What = None, json: Json = False) -> None:
    """List the models, targets and runtimes there are."""
    lists = {
        "models": (_models, _show_models),
        "targets": (_targets, _show_targets),
        "runtimes": (runtimes, show_runtimes),
    }
    found: dict[str, _Rows] = {}
    for name in [what] if what else lists:
        try:
            found[name] = lists[name][0]()
        except InputError as error:
            if what:
                raise
            # A device without torch still lists what it can run.
            console.note(f"no list of {name}: {error}")
    if json:
        console.show_json(found[what] if what else found)
        return
    for number, (name, rows) in enumerate(found.items()):
        if number:
            console.show_line("")
        lists[name][1](rows)


def _models() -> _Rows:
    with needs("export"):
        from edgevit.models.catalog import CATALOG

    return [
        {
            "name": entry.name,
            "parameters": entry.parameters,
            "image_size": entry.config.image_size,
            "router": getattr(entry.config, "router", "none"),
            "ships_weights": entry.weights is not None and entry.weights.exists(),
            "description": entry.description,
        }
        for entry in CATALOG
    ]


def _show_models(rows: _Rows) -> None:
    cells = (
        (
            row["name"],
            console.millions(row["parameters"]),
            f"{row['image_size']}",
            console.good("shipped") if row["ships_weights"] else console.faint("random"),
            row["description"],
        )
        for row in rows
    )
    console.show_table(("model", ">parameters", ">pixels", "weights", "what it is"), cells)


def _targets() -> _Rows:
    from edgevit.strict_json import plain
    from edgevit.targets import TARGETS

    return [plain(target) for target in TARGETS]


def _show_targets(rows: _Rows) -> None:
    cells = (
        (
            row["name"],
            row["runtime"],
            row["architecture"],
            f"{row['opset']}",
            ", ".join(row["precisions"]),
            row["description"],
        )
        for row in rows
    )
    console.show_table(("target", "runtime", "architecture", ">opset", "precisions", "what it is"), cells)


def runtimes() -> _Rows:
    """Every runtime of edgevit and whether its library is here."""
    from edgevit.runtimes.choose import RUNTIMES

    return [
        {
            "name": runtime.name,
            "library": runtime.library,
            "version": installed_version(runtime.library) if runtime.library else None,
            "installed": runtime.installed,
            "extra": runtime.extra,
            "install": runtime.remedy or (f"pip install 'edgevit[{runtime.extra}]'" if runtime.extra else None),
            "description": runtime.description,
        }
        for runtime in RUNTIMES
    ]


def show_runtimes(rows: _Rows) -> None:
    """Print them."""
    cells = ((row["name"], _state(row), row["description"]) for row in rows)
    console.show_table(("runtime", "state", "what it is"), cells)


def _state(row: dict[str, Any]) -> Any:
    if row["library"] is None:
        return console.good("built in")
    if row["installed"]:
        return console.good(f"{row['library']} {row['version'] or ''}".rstrip())
    return console.bad(f"missing: {row['install']}")
