"""One candidate as the harness sees it while a measurement runs: its process, its samples so far, its failure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from edgevit.spec import TensorSpec

from ._buffer import SampleBuffer, rows
from .candidate import Candidate
from .child import CandidateFailed, Child, Failure
from .layers import LayerCost, Profile
from .measurement import CandidateResult, Loaded, Samples, WarmUp
from .schedule import BatchOrder, calls_per_query
from .settings import Settings
from .steady import is_steady

WINDOW_S = 0.05

Launch = Callable[[Candidate], Child]
T = TypeVar("T")


class Lane:
    """One candidate under measurement. After a failure it stays, with what it measured until then.

    Args:
        candidate: what to measure.
        settings: of the measurement.
        launch: starts its process.
    """

    def __init__(self, candidate: Candidate, settings: Settings, launch: Launch) -> None:
        self.candidate = candidate
        self.failure: Failure | None = None
        self.loaded: Loaded | None = None
        self.warm_up_result: WarmUp | None = None
        self.counts: np.ndarray | None = None
        self.measured = SampleBuffer(1)
        self.lead_in = SampleBuffer(1)
        self.calls = 1
        self.typical_query_s = 0.0
        self._settings = settings
        self._launch = launch
        self._child: Child | None = None
        self._resident: list[int] = []
        self._peak: int | None = None

    @property
    def alive(self) -> bool:
        return self._child is not None and self.failure is None

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    def load(self) -> None:
        """Start the process and load the runner."""
        settings = self._settings

        def load() -> None:
            self._child = self._launch(self.candidate)
            reply, _ = self._child.ask(
                {
                    "command": "load",
                    "factory": self.candidate.factory,
                    "arguments": dict(self.candidate.arguments),
                    "images": None if self.candidate.images is None else str(self.candidate.images),
                    "noise_images": settings.noise_images,
                    "seed": settings.seed,
                    "cpus": settings.cpus,
                    "include_transfers": settings.include_transfers,
                },
                timeout_s=settings.load_timeout_s,
            )
            self.loaded = _loaded(reply)
            self.calls = calls_per_query(settings, self.loaded.input.shape[0])
            self.measured, self.lead_in = SampleBuffer(self.calls), SampleBuffer(self.calls)

        self._attempt(load)

    def route(self) -> None:
        """Ask for the active patches of every image, where there are real images and the graph tells."""

        def route() -> None:
            assert self._child is not None
            assert self.loaded is not None
            if self.loaded.images:
                _, arrays = self._child.ask({"command": "route"}, timeout_s=self._settings.load_timeout_s)
                if "counts" in arrays:
                    self.counts = arrays["counts"][: self.loaded.images]

        self._attempt(route)

    def warm_up(self) -> None:
        """Run windows of queries until they look steady, or the cap."""

        def warm_up() -> None:
            assert self.loaded is not None
            order = BatchOrder(self.loaded.batches, self.calls, self._settings.seed)
            buffer = SampleBuffer(self.calls)
            medians: list[float] = []
            # The first query is a window of its own: it shows what a cold start costs. The second gives the scale.
            sizes = [1, 1]
            steady = False
            while True:
                window = len(medians)
                size = sizes[window] if window < len(sizes) else max(1, math.ceil(WINDOW_S * 1e9 / medians[1]))
                part, _ = self._run(order.next_block(size), block=window, expected_s=0.0)
                buffer.add(part)
                medians.append(float(np.median(part.service_ns)))
                steady = is_steady(np.array(medians[1:]))
                if steady or buffer.measured_ns >= self._settings.warmup_cap_s * 1e9:
                    break
            self.warm_up_result = WarmUp(samples=buffer.samples(), steady=steady)
            self.typical_query_s = medians[-1] / 1e9

        self._attempt(warm_up)

    def run_block(
        self, block: int, lead_in: np.ndarray, batches: np.ndarray, offsets_ns: np.ndarray | None, expected_s: float
    ) -> None:
        """Run one block and keep its samples.

        Args:
            block: index of the round.
            lead_in: batches of the queries kept apart, [lead-in queries, calls].
            batches: batches of the queries that count, [queries, calls].
            offsets_ns: intended starts of all of them, for paced queries.
            expected_s: how long it should take.
        """

        def run_block() -> None:
            everything = np.concatenate([lead_in, batches])
            part, memory = self._run(everything, block=block, expected_s=expected_s, offsets_ns=offsets_ns)
            self.lead_in.add(rows(part, slice(None, len(lead_in))))
            self.measured.add(rows(part, slice(len(lead_in), None)))
            if "resident_bytes" in memory:
                self._resident.append(memory["resident_bytes"])
            self._peak = memory.get("peak_resident_bytes", self._peak)

        self._attempt(run_block)

    def profile(self) -> Profile:
        """Time the candidate's layers, or say why not."""
        queries = self._settings.profile_queries
        replies: list[Mapping[str, object]] = []

        def profile() -> None:
            assert self._child is not None
            assert self.loaded is not None
            which = BatchOrder(self.loaded.batches, 1, self._settings.seed).next_block(queries)[:, 0]
            # Profiling builds the graph anew, so it may take as long as loading does.
            reply, _ = self._child.ask(
                {"command": "profile"}, {"batches": which}, timeout_s=self._settings.load_timeout_s
            )
            replies.append(reply)

        self._attempt(profile)
        name = self.candidate.name
        if not replies:
            return Profile(name, 0, (), "it was not loaded" if self.failure is None else self.failure.reason)
        if "absence" in replies[0]:
            return Profile(name, 0, (), str(replies[0]["absence"]))
        layers = tuple(LayerCost(**layer) for layer in replies[0]["layers"])  # type: ignore[attr-defined]
        return Profile(name, queries, layers, None)

    def run_loadgen(self, queries: int, expected_s: float, seed: int) -> tuple[float, float] | None:
        """Median and 90th percentile that loadgen sees, in nanoseconds; None if the candidate has failed."""
        found: list[tuple[float, float]] = []

        def run_loadgen() -> None:
            assert self._child is not None
            timeout_s = self._settings.stall_timeout_s + 10 * expected_s
            reply, _ = self._child.ask({"command": "loadgen", "queries": queries, "seed": seed}, timeout_s=timeout_s)
            percentiles = reply["percentiles"]
            found.append((percentiles["50.00"], percentiles["90.00"]))  # type: ignore[index]

        self._attempt(run_loadgen)
        return found[0] if found else None

    def take_measured(self) -> Samples:
        """The measured samples so far; measuring starts again from none."""
        samples = self.measured.samples()
        self.measured, self.lead_in = SampleBuffer(self.calls), SampleBuffer(self.calls)
        self._resident = []
        return samples

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def result(self) -> CandidateResult:
        """What was measured until now."""
        return CandidateResult(
            candidate=self.candidate,
            loaded=self.loaded,
            warm_up=self.warm_up_result,
            counts=self.counts,
            lead_in=self.lead_in.samples(),
            measured=self.measured.samples(),
            resident_bytes=np.array(self._resident, dtype=np.int64),
            peak_resident_bytes=self._peak,
            failure=self.failure,
        )

    def _run(
        self, batches: np.ndarray, *, block: int, expected_s: float, offsets_ns: np.ndarray | None = None
    ) -> tuple[Samples, Mapping[str, int]]:
        assert self._child is not None
        arrays = {"batches": batches}
        if offsets_ns is not None:
            arrays["offsets_ns"] = offsets_ns
        message = {"command": "block", "spin_ns": round(self._settings.spin_ms * 1e6)}
        # Ten times what it should take is slow; with the stall time on top it is taken for hung.
        timeout_s = self._settings.stall_timeout_s + 10 * expected_s
        reply, columns = self._child.ask(message, arrays, timeout_s=timeout_s)
        samples = Samples(block=np.full(len(batches), block, dtype=np.int64), batches=batches, **columns)
        return samples, reply["memory"]  # type: ignore[return-value]

    def _attempt(self, step: Callable[[], None]) -> None:
        """Take a step if this candidate is still in the race; a failure ends its part and nobody else's."""
        if self.failure is None:
            try:
                step()
            except CandidateFailed as error:
                self.failure = error.failure
                self.close()


def _loaded(reply: Mapping[str, object]) -> Loaded:
    def spec(fields: Mapping[str, object]) -> TensorSpec:
        return TensorSpec(str(fields["name"]), str(fields["dtype"]), tuple(fields["shape"]))  # type: ignore[arg-type]

    plain = {name: reply[name] for name in Loaded.__dataclass_fields__ if name not in ("input", "outputs", "cpus")}
    return Loaded(
        input=spec(reply["input"]),  # type: ignore[arg-type]
        outputs=tuple(spec(output) for output in reply["outputs"]),  # type: ignore[attr-defined]
        cpus=None if reply["cpus"] is None else tuple(reply["cpus"]),  # type: ignore[arg-type]
        **plain,  # type: ignore[arg-type]
    )
