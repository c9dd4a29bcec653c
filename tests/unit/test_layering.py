"""Who may import whom, read from the source: the rules that keep torch off the device and the mapped folders apart.

The rules are data (`RULES`); `import_problems` and `surface_problems` judge one file's text, so that they are tested on
sources made to break them as well as on the repository.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("export", "runtimes", "benchmarks")
SCRIPTS = ("benchmarks/suites", "benchmarks/peers")  # not installed, may import anything
COMPOSITION = (  # and commands/: the parts of cli.py
    "api", "buildable", "building", "calibrating", "cli", "console", "curve", "evaluating", "measuring",
    "threshold_trial", "tuning", "tuning_timer",
)  # fmt: skip

CORE = frozenset({"numpy", "PIL"})
LIBRARIES = frozenset(
    "PIL numpy onnx onnx_ir onnxruntime onnxscript onnxsim openvino plotly pynvml rich safetensors scipy tensorrt "
    "tensorrt_rtx timm torch torchvision typer".split()
)


@dataclass(frozen=True)
class Rule:
    """What the files of one layer may import besides the standard library.

    Attributes:
        layers: layers of edgevit.
        libraries: third-party packages, at any place.
        only_in: further packages, by the one file that may know them.
        types_of: packages named in annotations alone, under `if TYPE_CHECKING`.
        one_vendor_inside_functions: each file may know one further package, imported inside functions.
        at_import: layers that may be imported at module level; None for all of `layers`.
    """

    layers: frozenset[str]
    libraries: frozenset[str] = CORE
    only_in: dict[str, str] = field(default_factory=dict)
    types_of: frozenset[str] = frozenset()
    one_vendor_inside_functions: bool = False
    at_import: frozenset[str] | None = None


RULES = {
    "hub": Rule(frozenset({"hub"})),
    "models": Rule(
        frozenset({"hub", "models"}), CORE | {"torch"}, {"timm": "backbone.py", "safetensors": "tensor_file.py"}
    ),
    "training": Rule(frozenset({"hub", "models", "training"}), CORE | {"torch"}),
    "export": Rule(
        frozenset({"hub", "models", "export"}),
        CORE | {"torch", "onnx", "onnx_ir", "onnxscript", "onnxsim"},
        types_of=frozenset({"tensorrt"}),
    ),
    "runtimes": Rule(frozenset({"hub", "runtimes"}), one_vendor_inside_functions=True),
    "benchmarks": Rule(frozenset({"hub", "benchmarks"}), one_vendor_inside_functions=True),
    "composition": Rule(
        frozenset({"hub", "models", "training", "export", "runtimes", "benchmarks", "composition"}),
        CORE | {"typer", "rich"},
        types_of=frozenset({"torch"}),
        at_import=frozenset({"hub", "runtimes", "benchmarks", "composition"}),
    ),
}


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, with how it is written.

    Attributes:
        module: dotted and absolute.
        line: where.
        level: dots of a relative import.
        deferred: inside a function or `if TYPE_CHECKING`: importing the file does not import it.
        typing_only: under `if TYPE_CHECKING`.
    """

    module: str
    line: int
    level: int
    deferred: bool
    typing_only: bool


def source_files() -> list[str]:
    """Every Python file of the distribution, relative to the root."""
    files = [path for folder in ("edgevit", *MAPPED) for path in (ROOT / folder).rglob("*.py")]
    names = sorted(path.relative_to(ROOT).as_posix() for path in files)
    return [name for name in names if not name.startswith(SCRIPTS)]


def package_of(path: str) -> str:
    """The installed package a file belongs to: `export/check.py` is in `edgevit.export`."""
    folder = PurePosixPath(path).parent.as_posix().replace("/", ".")
    return f"edgevit.{folder}" if folder in MAPPED else folder


def layer_of(module: str) -> str:
    """The layer of a dotted edgevit name; a name that is no module (`edgevit.load`) is the API's."""
    parts = module.split(".")
    if len(parts) == 1:
        return "composition"
    if parts[1] in ("models", "training", *MAPPED):
        return parts[1]
    is_hub = (ROOT / "edgevit" / f"{parts[1]}.py").exists() and parts[1] not in COMPOSITION
    return "hub" if is_hub else "composition"


def imports(path: str, source: str) -> Iterator[Import]:
    """Every import of a file, `from edgevit import spec` as `edgevit.spec`."""

    def walk(node: ast.AST, deferred: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, 0, deferred, typing_only)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level == 1:
                    base = f"{package_of(path)}.{base}".rstrip(".")
                if base.split(".")[0] == "edgevit":
                    for alias in child.names:
                        yield Import(f"{base}.{alias.name}", child.lineno, child.level, deferred, typing_only)
                else:
                    yield Import(base, child.lineno, child.level, deferred, typing_only)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checked = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, deferred or inside or checked, typing_only or checked)

    yield from walk(ast.parse(source), False, False)


def import_problems(path: str, source: str) -> list[str]:
    """What a file imports against the rules of its layer, each with its mending."""
    own = package_of(path)
    name = PurePosixPath(path).name
    layer = layer_of(own if own != "edgevit" else f"edgevit.{name.removesuffix('.py')}")
    rule = RULES[layer]
    problems = []
    vendors = set()
    for found in imports(path, source):
        at = f"{path}:{found.line}: "
        root = found.module.split(".")[0]
        if found.level > 1:
            problems.append(at + "an import that climbs by dots; write `from edgevit.<module> import ...`")
        elif root in MAPPED:
            problems.append(
                at + f"`{root}` is a second copy of edgevit.{root}; import edgevit.{root}, its own with a dot"
            )
        elif root == "edgevit":
            if own.removeprefix("edgevit.") in MAPPED and found.level == 0 and layer_of(found.module) == layer:
                problems.append(
                    at + f"{found.module} is in this folder; write it relative, `from .<module> import ...`"
                )
            if (target := layer_of(found.module)) not in rule.layers:
                allowed = ", ".join(sorted(rule.layers))
                problems.append(
                    at
                    + f"{layer} must not import {target} ({found.module}), only {allowed}; take what is needed as an "
                    "argument and let api.py or cli.py pass it in"
                )
            elif rule.at_import is not None and not found.deferred and target not in rule.at_import:
                problems.append(at + f"{found.module} loads torch; import it inside the function that needs it")
        elif root in sys.stdlib_module_names or root in rule.libraries:
            continue
        elif root in rule.types_of and found.typing_only:
            continue
        elif root in rule.only_in:
            if name != rule.only_in[root]:
                problems.append(at + f"only {rule.only_in[root]} knows {root}; move this there")
        elif rule.one_vendor_inside_functions:
            vendors.add(root)
            if not found.deferred:
                problems.append(at + f"{root} at module level; import it in the constructor or function that needs it")
        else:
            problems.append(
                at + f"{layer} must not import {root}; move this to the layer that may (CONTRIBUTING.md has the table)"
            )
    if len(vendors) > 1:
        problems.append(f"{path}: knows {', '.join(sorted(vendors))}; split it into one file a library")
    return problems


def declared(source: str) -> list[str] | None:
    """The names in a module's `__all__`, None without one."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def surface_problems(path: str, source: str) -> list[str]:
    """Where a public module's `__all__` and what looks public disagree."""
    names = declared(source)
    if names is None:
        return [f"{path}: has no __all__; list what others may use, or name the module _{PurePosixPath(path).name}"]
    defined, bound = set(), set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom | ast.If):
            imported = (
                alias
                for part in ast.walk(node)
                if isinstance(part, ast.Import | ast.ImportFrom)
                for alias in part.names
            )
            bound |= {alias.asname or alias.name for alias in imported}
    problems = [
        f"{path}: `{name}` looks public and is not in __all__; list it or name it _{name}"
        for name in sorted(defined - set(names))
        if not name.startswith("_")
    ]
    problems += [
        f"{path}: __all__ lists `{name}`, which is not there; delete it"
        for name in names
        if name not in defined | bound
    ]
    problems += [
        f"{path}: __all__ lists the private name `{name}`; drop the underscore or the entry"
        for name in names
        if name.startswith("_") and not name.endswith("__")
    ]
    return problems


def looks_public(path: str) -> bool:
    # A package's __init__ is a docstring; the commands in cli.py are found by typer and not by name.
    return not PurePosixPath(path).name.startswith("_") and path != "edgevit/cli.py"


# edgevit/__init__.py is the door to the API; tests/packaging holds that it loads nothing.
@pytest.mark.parametrize("path", [path for path in source_files() if path != "edgevit/__init__.py"])
def test_a_module_imports_only_what_its_layer_may(path: str) -> None:
    problems = import_problems(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", [path for path in source_files() if looks_public(path)])
def test_what_a_public_module_lists_is_what_looks_public(path: str) -> None:
    problems = surface_problems(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not problems, "\n".join(problems)


def test_the_package_offers_exactly_the_names_of_its_api() -> None:
    offered = declared((ROOT / "edgevit/__init__.py").read_text(encoding="utf-8"))
    api = declared((ROOT / "edgevit/api.py").read_text(encoding="utf-8"))
    assert offered is not None
    assert api is not None
    assert sorted(offered) == sorted(["__version__", *api]), (
        "make __all__ in edgevit/__init__.py: __version__ and api's"
    )


def test_no_module_is_named_after_a_library() -> None:
    named = [path for path in source_files() if PurePosixPath(path).stem in LIBRARIES]
    assert not named, (
        f"{named}: would hide the library when the folder is on sys.path; use a short name (trt.py, ort.py)"
    )


@pytest.mark.parametrize("folder", MAPPED)
def test_a_mapped_folder_is_flat(folder: str) -> None:
    nested = [path for path in source_files() if path.startswith(f"{folder}/") and path.count("/") > 1]
    assert not nested, f"{nested}: would be missing from the wheel; move them up into {folder}/"


@pytest.mark.parametrize(
    "path, source, complaint",
    [
        ("edgevit/spec.py", "import torch", "hub must not import torch"),
        ("edgevit/spec.py", "def f():\n    import onnx", "hub must not import onnx"),
        ("edgevit/spec.py", "import rich", "hub must not import rich"),
        ("edgevit/spec.py", "from edgevit.models import tokens", "hub must not import models"),
        ("edgevit/spec.py", "from edgevit import load", "hub must not import composition"),
        ("edgevit/spec.py", "import edgevit", "hub must not import composition"),
        ("edgevit/models/tokens.py", "import timm", "only backbone.py knows timm"),
        ("edgevit/models/tokens.py", "import safetensors.torch", "only tensor_file.py knows safetensors"),
        ("edgevit/models/tokens.py", "from edgevit.export import check", "models must not import export"),
        ("edgevit/training/loop.py", "from edgevit.runtimes.ort import OrtRunner", "training must not import runtimes"),
        ("export/check.py", "import onnxruntime", "export must not import onnxruntime"),
        ("export/check.py", "from edgevit.runtimes import ort", "export must not import runtimes"),
        ("export/check.py", "from edgevit.training import loop", "export must not import training"),
        ("export/check.py", "import runtimes.ort", "second copy"),
        ("export/check.py", "from edgevit.export import verify", "write it relative"),
        ("export/check.py", "from ..edgevit import spec", "climbs by dots"),
        ("runtimes/ort.py", "import onnxruntime", "at module level"),
        ("runtimes/ort.py", "def f():\n    import onnxruntime\n    import torch", "one file a library"),
        (
            "runtimes/ort.py",
            "def f():\n    from edgevit.benchmarks import clock",
            "runtimes must not import benchmarks",
        ),
        ("runtimes/ort.py", "from edgevit.models import tokens", "runtimes must not import models"),
        ("benchmarks/clock.py", "from edgevit.api import load", "benchmarks must not import composition"),
        ("edgevit/api.py", "from edgevit.export import check", "inside the function"),
        ("edgevit/cli.py", "import torch", "composition must not import torch"),
        ("edgevit/commands/train.py", "from edgevit.training import loop", "inside the function"),
        ("edgevit/metrics.py", "from edgevit.console import note", "hub must not import composition"),
    ],
)
def test_an_import_against_the_rules_is_found(path: str, source: str, complaint: str) -> None:
    assert any(complaint in problem for problem in import_problems(path, source))


@pytest.mark.parametrize(
    "path, source",
    [
        ("edgevit/spec.py", "import json\nimport numpy as np\nfrom PIL import Image\nfrom edgevit import errors"),
        ("edgevit/models/backbone.py", "import timm\nimport torch\nfrom .tokens import gather"),
        ("export/check.py", "import onnx_ir\nfrom edgevit.models.tokens import gather\nfrom .verify import verify"),
        ("runtimes/ort.py", "class A:\n    def __init__(self):\n        import onnxruntime"),
        ("runtimes/torch_ref.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import nn"),
        (
            "edgevit/cli.py",
            "import typer\nfrom edgevit.runtimes.ort import A\ndef f():\n    from edgevit.export import b",
        ),
    ],
)
def test_an_import_within_the_rules_passes(path: str, source: str) -> None:
    assert import_problems(path, source) == []


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("X = 1", "has no __all__"),
        ("__all__ = ['f']\ndef f(): ...\ndef g(): ...", "`g` looks public"),
        ("__all__ = []\nLIMIT: int = 3", "`LIMIT` looks public"),
        ("__all__ = ['f']", "`f`, which is not there"),
        ("__all__ = ['_f']\ndef _f(): ...", "private name"),
    ],
)
def test_a_surface_that_disagrees_is_found(source: str, complaint: str) -> None:
    assert any(complaint in problem for problem in surface_problems("edgevit/module.py", source))


def test_a_surface_that_agrees_passes() -> None:
    source = "__all__ = ['A', 'join']\nfrom os.path import join\n_B = 1\nclass A: ...\ndef _f(): ..."
    assert surface_problems("edgevit/module.py", source) == []
