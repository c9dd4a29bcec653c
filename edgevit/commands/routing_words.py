"""Routing and reduction of a graph in words, a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.spec import ReductionSpec, RoutingSpec

__all__ = ["budget_words", "reduction_words", "routing_words"]


def routing_words(routing: RoutingSpec | None, reduction: ReductionSpec | None = None) -> str:
    """Which mode and rule, and how many tokens the steps take."""
    if routing is None:
        return "dense: every patch in every layer" if reduction is None else "none: every token that is left"
    words = {"expert_choice": "expert choice", "token_choice": "token choice", "none": "no router"}
    what = f"{routing.mode}, {words[routing.router]}"
    tokens = f"{routing.tokens} {'patches' if routing.tokens == routing.patches else 'tokens'}"
    if routing.capacities:
        return f"{what}: {', '.join(map(str, routing.capacities))} of {tokens} in {routing.steps} steps"
    rule = f" by threshold {', '.join(f'{value:.3g}' for value in routing.thresholds)}" if routing.thresholds else ""
    return f"{what}{rule}: up to {tokens} in {routing.steps} steps"


def budget_words(bundle: Bundle, routing: RoutingSpec) -> str:
    """The token counts that a step chooses from, and who chooses: the graph at every step, or the host once."""
    ladders = [", ".join(map(str, rungs)) for rungs in routing.budgets]
    if bundle.stages is not None:
        return f"{ladders[0]} tokens for all later steps, a graph each, chosen by the host after the first"
    return f"{ladders[0] if len(set(ladders)) == 1 else '; '.join(ladders)} tokens, chosen in the graph at every step"


def reduction_words(reduction: ReductionSpec) -> str:
    """How many tokens are left after each block that merges or drops some."""
    steps = [str(reduction.patches)]
    steps += [str(tokens) for tokens in reduction.tokens if str(tokens) != steps[-1]]
    left = list(dict.fromkeys(steps))
    shown = " -> ".join(left if len(left) <= 8 else [*left[:3], "...", *left[-2:]])
    return f"{reduction.method}: {shown} tokens"
