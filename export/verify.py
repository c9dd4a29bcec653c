"""The verification of an export: what was written answers as the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable

from edgevit.errors import CheckFailed
from edgevit.parity import Golden, Parity, compare
from edgevit.runner import Runner

from .finished import Graph
from .prove_stages import OpenStages, prove_stages, served
from .settings import ExportSettings

__all__ = ["verified"]


def verified(
    graph: Graph,
    golden: Golden,
    settings: ExportSettings,
    open_graph: Callable[[bytes], Runner],
    open_stages: OpenStages | None,
    note: Callable[[str], None],
) -> tuple[Parity, str]:
    """Run the artefact, not the module, against the reference.

    Args:
        graph: finished, in fp32.
        golden: inputs and outputs of the source model.
        settings: of the export, for its tolerances.
        open_graph: makes the runner of a graph.
        open_stages: makes one runner of those of a graph in stages.
        note: told which budgets served the golden inputs.

    Returns:
        How it compares, and what ran it.

    Raises:
        CheckFailed: it answers otherwise than its source.
    """
    if graph.rests:
        assert open_stages is not None, "whoever exports for a runtime without branches says what joins the stages"
        runner = prove_stages(graph, golden.images, settings, open_graph, open_stages)
        counts = served(graph, golden.images, open_graph)
        taken = ", ".join(f"{runs} runs took budget {budget}" for budget, runs in counts.items() if runs)
        note(f"on the golden inputs {taken}; each budget was also run filled to its last token")
    else:
        runner = open_graph(graph.onnx)
    with runner:
        parity = compare(
            golden,
            runner,
            settings.atol,
            settings.rtol,
            tokens=graph.reduction.tokens[-1] if graph.reduction is not None else None,
        )
        facts = runner.facts
    if not parity.passed:
        more = f" (and {len(parity.faults) - 1} more faults)" if len(parity.faults) > 1 else ""
        raise CheckFailed(
            f"the exported graph does not answer as its source: {parity.faults[0]}{more}; no bundle written"
        )
    return parity, " ".join(str(facts[key]) for key in ("runtime", "version", "provider") if key in facts)
