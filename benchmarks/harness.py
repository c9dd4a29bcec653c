"""Measure candidates side by side: one process each, in interleaved blocks, every sample kept.

The harness does not know: models, images, bundles, what a good number is, how results are shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Literal

import numpy as np

from edgevit.errors import InputError

from ._lane import Lane, Launch
from .candidate import Candidate, validate_together
from .child import start_process
from .facts import machine_facts
from .layers import Profile
from .measurement import Measurement, Pilot
from .progress import Phase, Progress, running
from .readers import all_readers
from .schedule import ArrivalTimes, BatchOrder, balanced_orders, queries_per_block
from .settings import Settings
from .telemetry import Reader, Sampler

__all__ = ["measure"]

_PROGRESS_PERIOD_S = 0.25


def measure(
    candidates: Sequence[Candidate],
    settings: Settings | None = None,
    *,
    image_names: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = None,
    command_line: Sequence[str] = (),
    launch: Launch = start_process,
    readers: Sequence[Reader] | None = None,
) -> Measurement:
    """Measure candidates in one run. The first is the reference that the others are compared with.

    A candidate that crashes, hangs or cannot be loaded is recorded as failed and the others go on. Ctrl-C ends the run
    early: what was measured till then is returned, marked `interrupted`.

    Args:
        candidates: what to measure, in the order of reports.
        settings: how; the defaults if None.
        image_names: names of the images in the candidates' images files, for reports.
        progress: called now and then between blocks, never while something is timed.
        command_line: kept with the results.
        launch: starts a candidate's process.
        readers: of telemetry; all there are if None.

    Raises:
        InputError: settings or candidates make no sense, or no candidate could be loaded; the line says why.
        KeyboardInterrupt: before anything was measured.
    """
    settings = settings or Settings()
    settings.validate()
    validate_together(candidates)
    run = _Run([Lane(candidate, settings, launch) for candidate in candidates], settings, progress, launch)
    sampler = _sampler(run.pids, settings.telemetry_interval_s, readers)
    started_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    start = time.monotonic()
    ended: Literal["complete", "interrupted"] = "complete"
    try:
        sampler.start()
        run.load()
        run.warm_up()
        run.pilot()
        run.rounds()
        run.profile()
    except KeyboardInterrupt:
        if not any(lane.measured.queries for lane in run.lanes):
            raise
        ended = "interrupted"
    finally:
        telemetry = sampler.stop()
        run.close()
    return Measurement(
        settings=settings,
        results=tuple(lane.result() for lane in run.lanes),
        orders=tuple(run.orders),
        ended=ended,
        pilot=run.pilot_result,
        machine=machine_facts(),
        image_names=tuple(image_names),
        started_at=started_at,
        elapsed_s=time.monotonic() - start,
        profiles=run.profiles,
        telemetry=telemetry,
        command_line=tuple(command_line),
    )


class _Run:
    """The phases of one measurement, in the order of the methods."""

    def __init__(
        self, lanes: list[Lane], settings: Settings, progress: Callable[[Progress], None] | None, launch: Launch
    ) -> None:
        self.lanes = lanes
        self.orders: list[tuple[int, ...]] = []
        self.pilot_result: Pilot | None = None
        self.pids: dict[str, int] = {}
        self.profiles: tuple[Profile, ...] = ()
        self._settings = settings
        self._progress = progress
        self._launch = launch
        self._last_progress_s = -_PROGRESS_PERIOD_S

    def load(self) -> None:
        """Load every candidate, one after another.

        Raises:
            InputError: none could be loaded.
        """
        for index, lane in enumerate(self.lanes):
            self._tell("load", lane.candidate.name, index / len(self.lanes), None)
            lane.load()
            if lane.pid is not None:
                self.pids[lane.candidate.name] = lane.pid
        failures = [lane.failure for lane in self.lanes if lane.failure is not None]
        if len(failures) == len(self.lanes):
            raise InputError(failures[0].reason)
        images = {lane.loaded.images for lane in self.lanes if lane.loaded is not None}
        if len(images) > 1:
            raise InputError(f"candidates have different numbers of images ({sorted(images)}); give all the same ones")

    def warm_up(self) -> None:
        """Warm every candidate up by itself, and ask for its routing."""
        for index, lane in enumerate(self.lanes):
            self._tell("warm-up", lane.candidate.name, index / len(self.lanes), None)
            lane.warm_up()
            lane.route()

    def pilot(self) -> None:
        """Measure the reference against a second process of itself."""
        reference = self.lanes[0]
        if len(self.lanes) == 1 or not self._settings.pilot_rounds or not reference.alive:
            return
        twin = Lane(reference.candidate, self._settings, self._launch)
        try:
            self._tell("pilot", reference.candidate.name, 0.0, None)
            twin.load()
            if twin.pid is not None:
                self.pids[f"{reference.candidate.name} (pilot)"] = twin.pid
            twin.warm_up()
            if twin.alive:
                self._interleave([reference, twin], "pilot", [])
        finally:
            twin.close()
        self.pilot_result = Pilot(
            candidate=reference.candidate.name,
            first=reference.take_measured(),
            second=twin.take_measured(),
            failure=twin.failure,
        )

    def rounds(self) -> None:
        """Run blocks of all candidates in turn until everyone has enough."""
        self._interleave(self.lanes, "measure", self.orders)

    def profile(self) -> None:
        """Time the layers of every candidate, when all timing is over."""
        if not self._settings.profile_queries:
            return
        profiles = []
        for index, lane in enumerate(self.lanes):
            self._tell("profile", lane.candidate.name, index / len(self.lanes), None)
            profiles.append(lane.profile())
        self.profiles = tuple(profiles)

    def close(self) -> None:
        """End all processes."""
        for lane in self.lanes:
            lane.close()

    def _interleave(self, lanes: list[Lane], phase: Phase, orders: list[tuple[int, ...]]) -> None:
        settings = self._settings
        alive = [lane for lane in lanes if lane.alive]
        if not alive:
            return
        arrivals = ArrivalTimes(settings) if settings.scenario == "paced" else None
        slowest_s = max(lane.typical_query_s * lane.calls for lane in alive)
        gap_s = slowest_s if arrivals is None else max(slowest_s, arrivals.mean_gap_ms / 1e3)
        queries = queries_per_block(settings, gap_s, len(lanes))
        streams = [_batch_orders(lane, settings) for lane in lanes]
        start = time.monotonic()
        for block, order in enumerate(balanced_orders(len(lanes), settings.seed)):
            offsets = None if arrivals is None else arrivals.next_block(settings.lead_in_queries + queries)
            # Candidates of one round run the same images, whatever their order.
            plans = [
                (lead_in.next_block(settings.lead_in_queries), measured.next_block(queries))
                for lead_in, measured in streams
            ]
            orders.append(tuple(order))
            for index in order:
                if lanes[index].alive:
                    lanes[index].run_block(block, *plans[index], offsets, expected_s=queries * gap_s)
            done = self._done(lanes, block + 1, phase)
            elapsed_s = time.monotonic() - start
            self._tell(phase, "", done, elapsed_s * (1 / done - 1) if done > 0 else None)
            if done >= 1 or not any(lane.alive for lane in lanes):
                return
        raise AssertionError("the orders of rounds never end")

    def _done(self, lanes: list[Lane], rounds: int, phase: Phase) -> float:
        """Share of the phase that is done: of its rounds, its time or its queries, whichever is furthest behind."""
        settings = self._settings
        if phase == "pilot":
            return min(1.0, rounds / settings.pilot_rounds)
        alive = [lane for lane in lanes if lane.alive]
        if not alive:
            return 1.0
        # A mean over candidates: a block has the same queries in each, so a fast one may take long to get its time.
        mean_s = float(np.mean([lane.measured.measured_ns for lane in alive])) / 1e9
        shares = [
            mean_s / settings.min_duration_s,
            min(lane.measured.queries for lane in alive) / settings.min_queries,
            rounds / settings.min_rounds if len(lanes) > 1 else 1.0,
        ]
        return min(1.0, *shares)

    def _tell(self, phase: Phase, candidate: str, done: float, remaining_s: float | None) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if phase in ("pilot", "measure") and done < 1 and now - self._last_progress_s < _PROGRESS_PERIOD_S:
            return
        self._last_progress_s = now
        lanes = tuple(running(lane, self._settings.confidence) for lane in self.lanes)
        self._progress(Progress(phase, candidate, done, remaining_s, lanes))


def _sampler(pids: dict[str, int], interval_s: float, readers: Sequence[Reader] | None) -> Sampler:
    if interval_s == 0:
        return Sampler((), 1.0)
    return Sampler(all_readers(pids) if readers is None else readers, interval_s)


def _batch_orders(lane: Lane, settings: Settings) -> tuple[BatchOrder, BatchOrder]:
    """Orders of the lead-in's and the measured batches: of one seed, so the same for candidates of one batch size."""
    batches = 1 if lane.loaded is None else lane.loaded.batches
    return BatchOrder(batches, lane.calls, settings.seed + 1), BatchOrder(batches, lane.calls, settings.seed)
