"""What an application embeds: a bundle loaded on a runtime, from pictures to labels.

Does not know: which runtime it is, how a bundle was made, files other than the pictures it is given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from edgevit.bundle import Bundle
from edgevit.engine_record import NoEngine, engine_target, library_of
from edgevit.errors import EdgevitError, FallbackWarning, InputError
from edgevit.preprocess import ImageSource
from edgevit.runner import Runner
from edgevit.targets import target_named

from ._softmax import softmax as _softmax
from ._traces import checked_tokens, traced
from .choose import open_runner
from .fallback import BUILDS_AT_START, Health, PassedOver, computed_in, first_that_starts, rungs
from .prediction import MergingTrace, Prediction, RoutingTrace, Timings
from .tuned import Tuned, tuned

if TYPE_CHECKING:
    from .deadline import Contract

__all__ = ["Session", "load"]

_Source = TypeVar("_Source", bound=ImageSource)  # so that a list[str] is welcome where lists are invariant


def load(
    bundle: str | Path | Bundle,
    runtime: str = "auto",
    threads: int | None = None,
    *,
    deadline_ms: float | None = None,
    min_tokens: int = 0,
    rebuild: Callable[[Bundle, str], object] | None = None,
) -> Session:
    """Load a bundle; the session is ready when this returns.

    With `auto`, what `edgevit bench --autotune` measured here is heeded; and where the runtime of the bundle's target
    does not run it here, the next best does, and a `FallbackWarning` says so. `Session.health` has the reasons.

    Args:
        bundle: a bundle or its folder.
        runtime: a name of `edgevit list runtimes`, that one or an error; `auto` takes the best that works.
        threads: CPU threads; the runtime's own choice by default.
        deadline_ms: milliseconds that a call of `predict` with as many pictures as the graph takes may last, on the
            curve that `edgevit bench --curve` measured here. Where the steps are held to fewer tokens for it, a
            prediction that lost some says so: `truncated`. See `edgevit.runtimes.deadline` for what is promised.
        min_tokens: with a deadline, the fewest tokens that a step which wants them is held to.
        rebuild: builds the engine beside the bundle for a target; called once if there is none that runs here. By
            default nothing is built, which takes minutes.

    Raises:
        InputError: no bundle, a damaged one, or one that nothing can load here; a deadline for a bundle that is not
            adaptive, without a curve of it, or that even the smallest budget misses: the line says by how much.
        MissingExtra: the runtime's library is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if deadline_ms is not None:
        return _within(opened, deadline_ms, min_tokens, runtime, threads)
    if min_tokens:
        raise InputError(f"min_tokens {min_tokens} without a deadline; give deadline_ms too, or leave it out")
    found = tuned(opened, threads) if runtime == "auto" else Tuned()
    names = found.order(rungs(target_named(opened.manifest.target))) if runtime == "auto" else (runtime,)

    def open_on(name: str, passed_over: tuple[PassedOver, ...]) -> Session:
        runner = open_runner(opened, name, threads=found.threads_on(name, threads))
        if passed_over and name == BUILDS_AT_START:
            text = f"{opened.path}: ONNX Runtime builds an engine now, which takes minutes; {passed_over[0].reason}"
            warnings.warn(text, FallbackWarning, stacklevel=6)
        return Session(opened, runner, runtime=name, passed_over=passed_over, tuning=found)

    def start(name: str, passed_over: tuple[PassedOver, ...]) -> Session:
        try:
            return open_on(name, passed_over)
        except NoEngine as error:  # and nothing else: no build brings a GPU or a library
            library = library_of(name)
            target = engine_target(opened, library) if library is not None else None
            if rebuild is None or target is None:
                raise
            try:
                rebuild(opened, target)
            except EdgevitError as failure:
                raise InputError(f"{error}; building it failed: {failure}") from failure
            return open_on(name, passed_over)

    session = first_that_starts(opened, names, start)
    health = session.health()
    if health.degraded:
        warnings.warn(f"{opened.path}: {health}", FallbackWarning, stacklevel=3)
    return session


def _within(bundle: Bundle, deadline_ms: float, min_tokens: int, runtime: str, threads: int | None) -> Session:
    """A session that keeps a deadline; no other runtime stands in, since nothing was measured of it."""
    from .deadline import RUNTIME, adaptive_routing, open_capped, promise  # a session without one does not wait for it

    adaptive_routing(bundle)  # said first: no other runtime helps a bundle that has no budgets to choose
    name = target_named(bundle.manifest.target).runtime if runtime == "auto" else runtime
    if name != RUNTIME:
        raise InputError(
            f"{bundle.path}: deadline_ms needs runtime {RUNTIME}, whose budgets can be set, and not {name}"
        )
    contract = promise(bundle, deadline_ms, min_tokens, threads=threads)
    return Session(bundle, open_capped(bundle, contract.caps, threads), runtime=RUNTIME, contract=contract)


class Session:
    """A bundle on a runner, which the session enters at once and leaves when it is closed.

    Several threads may predict at the same time. Close it with `close()` or by leaving its `with` block.

    Args:
        bundle: it says how pictures become tensors and logits become labels.
        runner: the graph of that bundle, not entered.
        runtime: the name it was opened by; the runner's own word for itself by default.
        passed_over: runtimes that would have been better and do not run the bundle here, best first.
        tuning: what a measurement on this machine said about the choice.
        contract: the deadline that the runner was capped for, by `promise` and `open_capped`.

    Attributes:
        bundle: as given.
        runner: as given, entered until the session is closed.
        labels: class names in the order of the logits.
        contract: as given; None where nothing is promised.

    Raises:
        InputError: the graph cannot be loaded, is not the one that the manifest describes, or runs on something else
            than the contract was measured on.
    """

    def __init__(
        self,
        bundle: Bundle,
        runner: Runner,
        *,
        runtime: str | None = None,
        passed_over: Sequence[PassedOver] = (),
        tuning: Tuned | None = None,
        contract: Contract | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.runner = runner
        self.labels = manifest.labels
        self.contract = contract
        self._preprocess = manifest.preprocess
        self._batch = manifest.input.shape[0]
        self._routing, self._reduction = traced(manifest)
        self._drops = "dropped" in [output.name for output in manifest.outputs]
        self._closed = False
        with ExitStack() as stack:
            stack.enter_context(runner)
            if (runner.input, runner.outputs) != (manifest.input, manifest.outputs):
                got = "; ".join(map(str, (runner.input, *runner.outputs)))
                wanted = "; ".join(map(str, (manifest.input, *manifest.outputs)))
                raise InputError(f"{bundle.path}: the graph has {got}, the manifest {wanted}; export the bundle again")
            facts = dict(runner.facts)
            if contract is not None:
                contract.check(facts)
            runs = runtime or str(facts["runtime"])
            self._health = Health(
                target=manifest.target,
                wanted=passed_over[0].runtime if passed_over else runs,
                runtime=runs,
                facts=facts,
                passed_over=tuple(passed_over),
                precision=manifest.precision_achieved,
                computed_in=computed_in(manifest, facts),
                tuning=None if tuning is None else tuning.said,
                tuning_ignored=tuning is not None and tuning.ignored,
                deadline=None if contract is None else str(contract),
            )
            self._loaded = stack.pop_all()

    @overload
    def predict(self, image: ImageSource) -> Prediction: ...

    @overload
    def predict(self, image: list[_Source] | tuple[_Source, ...]) -> list[Prediction]: ...

    def predict(self, image: ImageSource | list[_Source] | tuple[_Source, ...]) -> Prediction | list[Prediction]:
        """Label a picture, or each of a list of any length.

        Where the graph takes several pictures at once, they go in that many at a time and the last batch is filled up
        by repeating its last picture, which changes no answer.

        Args:
            image: path of an image file, a PIL image, an H x W x 3 uint8 RGB array, or a list or tuple of these.

        Raises:
            InputError: a picture cannot be read or would need a conversion that loses something; the session is closed.
            CheckFailed: the graph answered with something that is not a number, or with a token that it has not.
        """
        if self._closed:
            raise InputError(f"the session of {self.bundle.path} is closed; load the bundle again")
        if not isinstance(image, (list, tuple)):
            return self._predict_batch([image])[0]
        starts = range(0, len(image), self._batch)
        return [answer for start in starts for answer in self._predict_batch(image[start : start + self._batch])]

    def health(self) -> Health:
        """Which runtime runs the bundle, on what, and why each better one does not."""
        return self._health

    def close(self) -> None:
        """Free the runtime. Closing again does nothing."""
        self._closed = True
        self._loaded.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _predict_batch(self, images: Sequence[ImageSource]) -> list[Prediction]:
        """Predictions of 1 to B images."""
        begin_ns = perf_counter_ns()
        tensor = self._preprocess.batch(images)
        if len(images) < self._batch:
            tensor = np.concatenate([tensor, np.repeat(tensor[-1:], self._batch - len(images), axis=0)])
        run_ns = perf_counter_ns()
        outputs = self.runner(tensor)
        answered_ns = perf_counter_ns()

        logits = outputs["logits"][: len(images)].tolist()
        probabilities = [_softmax(row) for row in logits]
        best = [row.index(max(row)) for row in logits]  # not of the probabilities, where neighbours round to equal
        timings = Timings(run_ns - begin_ns, answered_ns - run_ns, perf_counter_ns() - begin_ns)
        late = self.contract is not None and timings.total_ns > self.contract.deadline_ms * 1e6
        return [
            Prediction(
                image=str(image) if isinstance(image, (str, Path)) else None,
                label=self.labels[best[i]],
                score=probabilities[i][best[i]],
                probabilities=dict(zip(self.labels, probabilities[i], strict=True)),
                routing=self._routed(outputs, i),
                merging=self._merged(outputs, i),
                timings=timings,
                tokens_dropped=tuple(outputs["dropped"][i].tolist()) if self._drops else (),
                late=late,
            )
            for i, image in enumerate(images)
        ]

    def _routed(self, outputs: dict[str, np.ndarray], i: int) -> RoutingTrace | None:
        """What was routed of image i."""
        if self._routing is None:
            return None
        depth = outputs["depth"][i]
        if self._reduction is not None:  # then the tokens are not the patches, and depth is by token
            tokens = checked_tokens(outputs["assignment"][i], self._reduction)
            depth = np.where(tokens < 0, 0, depth[tokens])
        return RoutingTrace(depth.reshape(self._routing.grid), tuple(outputs["counts"][i].tolist()))

    def _merged(self, outputs: dict[str, np.ndarray], i: int) -> MergingTrace | None:
        """What was merged or dropped of image i."""
        if self._reduction is None:
            return None
        tokens = checked_tokens(outputs["assignment"][i], self._reduction)
        return MergingTrace(tokens.reshape(self._reduction.grid), self._reduction.tokens)
