"""The manifest of a bundle: what the graph is, what it takes and gives, how it was verified, which files belong to it.

Its JSON is strict both ways: every key is written and wanted, none other is taken, and equal manifests are equal bytes.

Does not know: where the bundle lies, what the files hold, the clock (a manifest has no date).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError
from edgevit.preprocess import Preprocess
from edgevit.spec import Precision, ReductionSpec, RoutingSpec, TensorSpec
from edgevit.strict_json import build, encode, parse

if TYPE_CHECKING:
    from edgevit.parity import Parity

__all__ = ["MANIFEST_NAME", "SCHEMA_VERSION", "FileRecord", "Manifest", "ModelRecord", "ParityEvidence"]

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"

_SHA256 = re.compile(r"[0-9a-f]{64}")
# A bundle is flat: a name without separators cannot leave it, and one that starts with a letter or digit is not hidden.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_ELEMENTS = 2**31
_SHARE = "patches_agreed"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a file of the bundle must be: its SHA-256 in lower-case hexadecimal and its size."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        _want(_SHA256.fullmatch(self.sha256), "sha256: wanted 64 lower-case hexadecimal digits")
        _want(self.size_bytes >= 0, f"size_bytes: got {self.size_bytes}, wanted 0 or more")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Where the graph comes from.

    Attributes:
        source: what was exported: a model's name, or `package.module:function`.
        config: its architecture, as JSON.
        parameters: numbers it holds, each shared one counted once.
        checkpoint_sha256: hash of the checkpoint file; None for a model built without one.
    """

    source: str
    config: dict[str, object]
    parameters: int
    checkpoint_sha256: str | None

    def __post_init__(self) -> None:
        _want(self.source, "source: got nothing, wanted what was exported")
        _want(self.parameters >= 0, f"parameters: got {self.parameters}, wanted 0 or more")
        hashed = self.checkpoint_sha256 is None or _SHA256.fullmatch(self.checkpoint_sha256)
        _want(hashed, "checkpoint_sha256: wanted 64 lower-case hexadecimal digits or null")


@dataclass(frozen=True, kw_only=True)
class ParityEvidence:
    """How the artefact was compared with the source model before it became a bundle; `parity.json` has it in full.

    Attributes:
        reference: what it was compared with: `torch 2.13.0 fp32`.
        runtime: what ran the artefact: `onnxruntime 1.31.0 CPUExecutionProvider`.
        inputs: how many were compared.
        atol: absolute tolerance of a logit.
        rtol: relative tolerance of a logit.
        max_abs_error: the largest difference of a logit.
        decisions_agreed: inputs with the same class, of `inputs`.
        step_agreement: for each recursion step, the share of tokens chosen alike; empty without routing.
        near_ties: tokens chosen, and images merged, differently at a margin too small to count as a difference.
        patches_agreed: share of patches that ended in the same output token; None without a reduction.
    """

    reference: str
    runtime: str
    inputs: int
    atol: float
    rtol: float
    max_abs_error: float
    decisions_agreed: int
    step_agreement: tuple[float, ...]
    near_ties: int
    patches_agreed: float | None = None

    @classmethod
    def of(cls, parity: Parity, reference: str, runtime: str) -> ParityEvidence:
        """What of a comparison stands in the manifest."""
        return cls(
            reference=reference,
            runtime=runtime,
            inputs=parity.inputs,
            atol=parity.atol,
            rtol=parity.rtol,
            max_abs_error=parity.largest_difference,
            decisions_agreed=parity.decisions_agreeing,
            step_agreement=parity.tokens_agreeing,
            near_ties=parity.near_tied,
            patches_agreed=parity.patches_agreeing,
        )

    def __post_init__(self) -> None:
        _want(0 <= self.decisions_agreed <= self.inputs, "decisions_agreed: wanted 0 up to the number of inputs")
        _want(min(self.atol, self.rtol, self.max_abs_error, self.near_ties) >= 0, "wanted no negative number")
        _want(all(0 <= share <= 1 for share in self.step_agreement), "step_agreement: wanted shares from 0 to 1")
        _want(0 <= (self.patches_agreed or 0) <= 1, "patches_agreed: wanted a share from 0 to 1, or null")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        schema_version: of this format; a reader refuses a newer one, and makes an older one this one.
        name: of the bundle, for people.
        model: where the graph comes from.
        routing: how the graph carries routing out, thresholds included; None without a router.
        reduction: how the graph merges or drops tokens; None where every patch stays.
        input: the graph's input, `image`: float32, B x 3 x H x W.
        outputs: the graph's outputs in order; `logits`, B x labels, is among them.
        preprocess: from a picture to one entry of the input.
        labels: class names in the order of the logits.
        target: the row of the table of targets that the export was for.
        opset: of the ONNX graph.
        precision_requested: what the export was asked for.
        precision_achieved: what the written graph was read back to be.
        parity: how the artefact was verified; None if that was left out.
        cost: FLOPs and token counts, as JSON.
        versions: of the libraries that made the bundle.
        files: every file of the bundle but the manifest, by name; filled in when the bundle is written.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    model: ModelRecord
    routing: RoutingSpec | None
    reduction: ReductionSpec | None = None
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess
    labels: tuple[str, ...]
    target: str
    opset: int
    precision_requested: Precision
    precision_achieved: Precision
    parity: ParityEvidence | None
    cost: dict[str, object]
    versions: dict[str, str]
    files: dict[str, FileRecord] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _want(
            self.schema_version == SCHEMA_VERSION, f"schema_version: got {self.schema_version}, wanted {SCHEMA_VERSION}"
        )
        _want(self.name and self.target, "name and target: wanted text that is not empty")
        _want(self.opset >= 1, f"opset: got {self.opset}, wanted 1 or more")
        _want(self.labels and all(self.labels), "labels: wanted at least one, none of them empty")
        _want(len(set(self.labels)) == len(self.labels), "labels: one is repeated, wanted each once")
        self._check_tensors()
        if self.routing:
            _check_routing(self.routing, self.reduction)
        if self.reduction:
            _check_reduction(self.reduction, self.routing)
        for name in self.files:
            if not _FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
                raise InputError(
                    f"files: got {name[:100]!r}, wanted a plain file name of letters, digits, '.', '_' and '-'"
                )

    def _check_tensors(self) -> None:
        for spec in (self.input, *self.outputs):
            _want(spec.dtype in ("float32", "int32"), f"{spec.name}: got dtype {spec.dtype}, wanted float32 or int32")
            sound = spec.shape and all(side >= 1 for side in spec.shape) and math.prod(spec.shape) <= _MAX_ELEMENTS
            _want(sound, f"{spec.name}: wanted a shape of sides from 1, and at most {_MAX_ELEMENTS} elements")
        batch = self.input.shape[0]
        image = TensorSpec("image", "float32", (batch, 3, self.preprocess.height, self.preprocess.width))
        _want(self.input == image, f"input: got {self.input}, wanted {image}")
        names = [spec.name for spec in self.outputs]
        _want(len(set(names)) == len(names), "outputs: a name is repeated, wanted each once")
        logits = TensorSpec("logits", "float32", (batch, len(self.labels)))
        _want(logits in self.outputs, f"outputs: got {', '.join(map(str, self.outputs))}; wanted {logits} among them")

    def to_json(self) -> bytes:
        return encode(self)

    @classmethod
    def from_json(cls, data: bytes, where: str = MANIFEST_NAME) -> Manifest:
        """Read a manifest back.

        Args:
            data: the file.
            where: its path, for errors.

        Raises:
            InputError: not JSON, a newer schema, a missing or unknown key, a wrong type or value.
        """
        record = parse(data, where)
        version = record.get("schema_version") if isinstance(record, dict) else None
        if type(version) is int and version > SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version} is newer than {SCHEMA_VERSION}; upgrade edgevit to read it"
            )
        if type(version) is int and version == 1:
            record = _from_schema_1(record, where)
        return build(cls, record, where)


def _from_schema_1(record: Any, where: str) -> object:
    """What a manifest of schema 1 says, in this one, which added reductions and ladders. The record is ours now."""
    routing, parity = record.get("routing"), record.get("parity")
    for place, part, key in (
        ("", record, "reduction"),
        ("routing: ", routing, "tokens"),
        ("routing: ", routing, "budgets"),
        ("parity: ", parity, _SHARE),
    ):
        if isinstance(part, dict) and key in part:
            raise InputError(
                f"{where}: {place}unknown key {key!r}; schema 1 has none, wanted a file that edgevit wrote"
            )
    record |= {"schema_version": SCHEMA_VERSION, "reduction": None}
    if isinstance(routing, dict):
        routing["tokens"] = 0  # all patches
        routing["budgets"] = []
    if isinstance(parity, dict):
        parity[_SHARE] = None
    return record


def _check_routing(routing: RoutingSpec, reduction: ReductionSpec | None) -> None:
    patches, capacities, thresholds = routing.patches, routing.capacities, routing.thresholds
    _want(routing.steps >= 1, f"routing.steps: got {routing.steps}, wanted 1 or more")
    _want(min(routing.grid) >= 1 and patches <= _MAX_ELEMENTS, "routing.grid: wanted rows and columns of 1 or more")
    _want(len(capacities) in (0, routing.steps), "routing.capacities: wanted none, or one for each step")
    _want(1 <= routing.tokens <= patches, f"routing.tokens: got {routing.tokens}, wanted 1 to {patches}")
    merged = reduction is not None or routing.tokens == patches
    _want(merged, f"routing.tokens: got {routing.tokens} of {patches} patches and no reduction that leaves so many")
    within = all(0 <= k <= routing.tokens for k in capacities)
    _want(within, f"routing.capacities: wanted numbers from 0 to {routing.tokens}")
    _want(
        len(thresholds) in (0, routing.steps - 1),
        "routing.thresholds: wanted none, or one for each step after the first",
    )
    adaptive, steps = routing.mode == "adaptive", routing.steps - 1
    _want(
        len(routing.budgets) == (steps if adaptive else 0),
        f"routing.budgets: got {len(routing.budgets)} ladders; wanted one for each step after the first under "
        "adaptive, none otherwise",
    )
    for rungs in routing.budgets:
        rising = rungs and rungs[0] >= 0 and all(a < b for a, b in pairwise(rungs)) and rungs[-1] == routing.tokens
        _want(rising, f"routing.budgets: got {list(rungs)}, wanted rising numbers from 0 that end at {routing.tokens}")


def _check_reduction(reduction: ReductionSpec, routing: RoutingSpec | None) -> None:
    patches, tokens = reduction.patches, reduction.tokens
    _want(min(reduction.grid) >= 1 and patches <= _MAX_ELEMENTS, "reduction.grid: wanted rows and columns of 1 or more")
    _want(tokens, "reduction.tokens: got none, wanted one number for each block")
    _want(all(1 <= n <= patches for n in tokens), f"reduction.tokens: wanted numbers from 1 to {patches}")
    _want(all(a >= b for a, b in pairwise(tokens)), "reduction.tokens: wanted numbers that never rise")
    if routing is not None:
        _want(routing.grid == reduction.grid, f"reduction.grid: got {reduction.grid}, routing has {routing.grid}")
        _want(tokens[-1] == routing.tokens, f"reduction.tokens: leaves {tokens[-1]}, routing has {routing.tokens}")


def _want(condition: object, problem: str) -> None:
    if not condition:
        raise InputError(problem)
