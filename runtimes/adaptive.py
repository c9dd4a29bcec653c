"""A graph in stages whose later steps run in the smallest of a few static sizes: a runner made of runners.

The first stage takes the image and gives two things: the *state*, which is all that the later steps need of it, and how
many tokens of each image are *active* at step two. That number is read on the host, which runs the rest of the graph
in the smallest budget that holds so many. Later steps take no token that an earlier one left, so the budget of step two
is enough for all of them. A batch runs by its fullest image.

Does not know: which runtime its parts are of, bundles, why somebody wants the worst case.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import numpy as np

from edgevit.bundle import ACTIVE, STATE
from edgevit.errors import CheckFailed, InputError
from edgevit.probes import LayerProfiler, LayerTime
from edgevit.runner import Runner
from edgevit.spec import TensorSpec

from ._contract import already_entered, check_image, not_entered

__all__ = ["AdaptiveRunner", "ProfiledAdaptiveRunner"]


_AGAIN = "export the bundle again"
_Stage = TypeVar("_Stage", bound=Runner)


class AdaptiveRunner(Generic[_Stage]):
    """The stages of one graph, entered and left together.

    Args:
        first: from the image to `state`, float32 B x M, and `active`, int32 B.
        rests: by the active tokens that each has room for, from `state` to the outputs of the graph.
        least: tokens that the later steps have room for whatever the image. With as many as the largest budget, every
            image costs what the fullest does: the worst case, for measuring or to keep the time the same.

    Raises:
        InputError: no budget has room for `least`. Entering: what a stage raises, or stages that are not of one graph.
    """

    def __init__(self, first: _Stage, rests: Mapping[int, _Stage], *, least: int = 0) -> None:
        self._first = first
        self._rests = dict(sorted(rests.items()))
        self._budgets = list(self._rests)
        self._least = least
        if not 0 <= least <= max(self._budgets, default=-1):
            raise InputError(f"got room for {least} tokens at least, wanted one that budgets {self._listed()} have")
        self._entered: ExitStack | None = None

    @property
    def input(self) -> TensorSpec:
        self._require_entered()
        return self._first.input

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        self._require_entered()
        return self._fullest.outputs

    @property
    def facts(self) -> Mapping[str, str | int]:
        """Those of the stages, one beside the other where they differ, and the budgets."""
        self._require_entered()
        facts: dict[str, str | int] = {**_joined(stage.facts for stage in self._stages()), "budgets": self._listed()}
        return {**facts, "budget_at_least": self._least} if self._least else facts

    def __enter__(self) -> AdaptiveRunner[_Stage]:
        if self._entered is not None:
            raise already_entered(self)
        with ExitStack() as stack:
            for stage in self._stages():
                stack.enter_context(stage)
            self._check()
            self._prepare()
            self._entered = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.__exit__(kind, error, trace)

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self._require_entered()
        given = self._first(image)
        return self._rests[self._budget(given[ACTIVE])](given[STATE])

    def _budget(self, active: np.ndarray) -> int:
        """The smallest budget for a batch of which image b has `active[b]` tokens active.

        Raises:
            CheckFailed: none has room for so many.
        """
        wanted = max(int(active.max()), self._least)
        place = bisect_left(self._budgets, wanted)
        if place == len(self._budgets):
            raise CheckFailed(f"{wanted} tokens are active, budgets {self._listed()} have no room for them; {_AGAIN}")
        return self._budgets[place]

    def _prepare(self) -> None:
        """What there is to do once the stages are loaded and found to be of one graph."""

    @property
    def _fullest(self) -> _Stage:
        return self._rests[self._budgets[-1]]

    def _stages(self) -> list[_Stage]:
        return [self._first, *self._rests.values()]

    def _listed(self) -> str:
        return ", ".join(map(str, self._budgets)) or "none"

    def _check(self) -> None:
        """Hold the loaded stages against each other.

        Raises:
            InputError: they are not those of one graph.
        """
        given = {output.name: output for output in self._first.outputs}
        if given.keys() != {STATE, ACTIVE}:
            raise InputError(f"got a first stage with {_lines(given.values())}, wanted {STATE} and {ACTIVE}; {_AGAIN}")
        wanted = self._fullest.outputs
        for budget, rest in self._rests.items():
            if rest.input != given[STATE]:
                raise InputError(f"got {given[STATE]}, and for budget {budget} wanted {rest.input}; {_AGAIN}")
            if rest.outputs != wanted:
                raise InputError(
                    f"got for budget {budget} {_lines(rest.outputs)}, wanted {_lines(wanted)} as for budget "
                    f"{self._budgets[-1]}; {_AGAIN}"
                )
        tokens = {output.name: output.shape[-1] for output in wanted}.get("depth", 0)
        if tokens > self._budgets[-1]:
            raise InputError(f"got budgets {self._listed()}, wanted one with room for all {tokens} tokens; {_AGAIN}")

    def _require_entered(self) -> None:
        if self._entered is None:
            raise not_entered(self)


class _Profiled(Runner, LayerProfiler, Protocol):
    """A runner that can time its layers."""


class ProfiledAdaptiveRunner(AdaptiveRunner[_Profiled]):
    """Of stages that can time their layers, so that it can as well."""

    def profile(self, batches: Sequence[np.ndarray]) -> list[LayerTime]:
        """See `edgevit.probes.LayerProfiler`: of each batch, the layers of the two stages that it runs through.

        Raises:
            InputError: not loaded, or a batch is none of this graph's.
        """
        self._require_entered()
        for batch in batches:
            check_image(batch, self.input)
        times = self._first.profile(batches)
        given = [self._first(batch) for batch in batches]
        for budget, rest in self._rests.items():
            queries = [query for query, one in enumerate(given) if self._budget(one[ACTIVE]) == budget]
            if queries:
                layers = rest.profile([given[query][STATE] for query in queries])
                times += [replace(layer, query=queries[layer.query]) for layer in layers]
        return times


def _joined(facts: Iterable[Mapping[str, str | int]]) -> dict[str, str | int]:
    """Every fact of any of them; where they differ, each value once."""
    values: dict[str, dict[str | int, None]] = {}
    for one in facts:
        for name, value in one.items():
            values.setdefault(name, {})[value] = None
    return {name: next(iter(all_)) if len(all_) == 1 else "; ".join(map(str, all_)) for name, all_ in values.items()}


def _lines(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "nothing"
