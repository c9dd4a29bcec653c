"""`edgevit verify`: does a bundle still answer as its source model, here?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgevit import api, console
from edgevit.commands.options import BundlePath, Json, Runtime, Threads, setting
from edgevit.errors import CheckFailed

if TYPE_CHECKING:
    from edgevit.parity import Parity

__all__ = ["verify"]

_Atol = Annotated[float | None, setting("--atol", "X", "Absolute tolerance on logits.", "the export's")]
_Ladder = Annotated[bool, typer.Option("--ladder", help="Also show where a lower precision drifts from fp32.")]
_Rtol = Annotated[float | None, setting("--rtol", "X", "Tolerance relative to a logit.", "the export's")]


def verify(
    bundle: BundlePath,
    runtime: Runtime = "auto",
    threads: Threads = None,
    atol: _Atol = None,
    rtol: _Rtol = None,
    ladder: _Ladder = False,
    json: Json = False,
) -> None:
    """Check that a bundle answers here as its source model.

    Every hash first, then the golden samples: inputs stored in the bundle with the source model's outputs. It needs
    neither torch nor onnx.

    With --ladder the result of each block at each recursion step of a bundle of lower precision is compared with fp32,
    and the first that drifts is named. That needs onnx, and ONNX Runtime: on a GPU (ort-cuda, ort-trt) it computes as
    it is, on the CPU it is emulated.
    """
    notes: list[str] = []
    with console.progress() as tell:
        parity = api.verify_bundle(
            bundle,
            runtime=runtime,
            threads=threads,
            atol=atol,
            rtol=rtol,
            report=lambda done: tell(done, "run the golden samples"),
            note=notes.append,
        )
    for line in notes:
        console.note(line)
    climbed = None
    if ladder:
        from edgevit.commands.verify_ladder import climb_ladder, show_ladder

        climbed = climb_ladder(bundle, runtime, threads)
    if json:
        more = {"ladder": climbed} if climbed is not None else {}
        console.show_json({"bundle": str(bundle), "passed": parity.passed, "parity": parity, "notes": notes} | more)
    else:
        _show(bundle, parity)
        if climbed is not None:
            show_ladder(climbed, passed=parity.passed)
    if not parity.passed:
        raise CheckFailed(f"{bundle}: {parity.faults[0]}; it does not answer as its source: export it again")


def _show(bundle: Path, parity: Parity) -> None:
    mark = console.good if parity.passed else console.bad
    facts: dict[str, Any] = {
        "files": console.good("every hash as in the manifest"),
        "decisions": f"{parity.decisions_agreeing} of {parity.inputs} inputs as the source",
        "logits": f"within {parity.largest_difference:.1e}, allowed are {parity.atol:g} + {parity.rtol:g} of the value",
    }
    if parity.largest_share is not None:  # a lower precision
        facts["logits"] = f"within {parity.largest_share:.2g} of their spread, allowed are {parity.rtol:g}"
    for one in parity.decided_otherwise:
        tie = ", a near-tie" if one.near_tie else ""
        facts[f"{one.image}"] = f"decided otherwise, at a margin of {one.margin:.1e} of the spread{tie}"
    for step, share in enumerate(parity.selected_agreeing, start=2):
        facts[f"selected at step {step}"] = f"{100 * share:.4g} % the same"
    for step, share in enumerate(parity.tokens_agreeing, start=2):
        facts[f"tokens of step {step}"] = f"{100 * share:.4g} % as the source"
    ties = [f"{tie.image}: step {tie.step}, patch {tie.patch}, {tie.margin:.1e} apart" for tie in parity.near_ties]
    if parity.patches_agreeing is not None:
        facts["merged patches"] = f"{100 * parity.patches_agreeing:.4g} % as the source"
        ties += [
            f"{one.image}: {one.patches} patches in another token, where two scores all but tie"
            for one in parity.merged_otherwise
            if one.near_tie
        ]
    if parity.tokens_agreeing or parity.patches_agreeing is not None:
        facts["near-ties"] = "\n".join(ties) or "none"
    if parity.faults:
        facts["faults"] = "\n".join(parity.faults)
    facts["verdict"] = mark("answers as its source" if parity.passed else "does not answer as its source")
    console.show_facts(facts, title=str(bundle))
