"""From a bundle to a runner of one runtime, not entered: of its one graph, or of its stages.

Each function imports its own runner: an application runs one of them, and should not wait for the others at its start.

Does not know: the runtimes' names and libraries, which of them to take (choose.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from edgevit.bundle import ACTIVE, GRAPH_NAME, STATE, Bundle, Stages
from edgevit.engine_record import Library, build_command
from edgevit.engine_store import read_engine
from edgevit.runner import Runner

if TYPE_CHECKING:
    from .ort import OrtRunner
    from .ov import OpenVinoRunner
    from .trt import TrtRunner

__all__ = ["Asked", "null_runner", "openvino_runner", "ort_runner", "trt_runner"]

_Stage = TypeVar("_Stage", bound=Runner)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be run, and how.

    Attributes:
        bundle: of one graph or in stages.
        threads: CPU threads within one operator; None leaves it to the runtime, and a GPU's has none to set.
        provider: of ONNX Runtime; None for its own of the CPU.
        least: of a bundle in stages, tokens that its later steps have room for whatever the image.
    """

    bundle: Bundle
    threads: int | None
    provider: str | None
    least: int


def ort_runner(asked: Asked, providers: Sequence[str]) -> Runner:
    """On ONNX Runtime: one graph with its weights mapped, stages each with their own in memory."""
    from .ort import OrtRunner
    from .ort_mapped import MappedWeights

    bundle, stages = asked.bundle, asked.bundle.stages
    if stages is None:
        read_checked = partial(bundle.read, GRAPH_NAME)
        return OrtRunner(read_checked, threads=asked.threads, providers=providers, weights=MappedWeights(bundle))
    from .adaptive import ProfiledAdaptiveRunner

    def stage(name: str) -> OrtRunner:
        return OrtRunner(partial(bundle.read, name), threads=asked.threads, providers=providers, takes_turns=True)

    return ProfiledAdaptiveRunner(stage(stages.enter), _rests(stages, stage), least=asked.least)


def trt_runner(asked: Asked, library: Library) -> Runner:
    """On the engines of a library that `edgevit build` put beside the bundle.

    Raises:
        NoEngine: one is not there.
    """
    from .trt import TrtRunner

    bundle, stages = asked.bundle, asked.bundle.stages
    answers = [output.name for output in bundle.manifest.outputs]

    def engine(graph: str, output_names: Sequence[str] = answers) -> TrtRunner:
        record, read_checked = read_engine(bundle, library, graph)
        again = f"run: {build_command(bundle, library)}"
        return TrtRunner(read_checked, library, record=record, again=again, output_names=output_names)

    if stages is None:
        return engine(GRAPH_NAME)
    from .adaptive_device import AdaptiveDeviceRunner

    return AdaptiveDeviceRunner(engine(stages.enter, (STATE, ACTIVE)), _rests(stages, engine), least=asked.least)


def openvino_runner(asked: Asked) -> Runner:
    """On OpenVINO."""
    from .ov import OpenVinoRunner

    stages = asked.bundle.stages

    def graph(name: str) -> OpenVinoRunner:
        return OpenVinoRunner(partial(asked.bundle.read, name), threads=asked.threads)

    if stages is None:
        return graph(GRAPH_NAME)
    from .adaptive import AdaptiveRunner

    return AdaptiveRunner(graph(stages.enter), _rests(stages, graph), least=asked.least)


def null_runner(asked: Asked) -> Runner:
    """On nothing: there are no stages to what is not computed."""
    from .null_runner import NullRunner

    return NullRunner(asked.bundle.manifest.input, asked.bundle.manifest.outputs)


def _rests(stages: Stages, stage: Callable[[str], _Stage]) -> dict[int, _Stage]:
    """A runner of each stage after the first, by its budget."""
    return {budget: stage(name) for budget, name in stages.rests.items()}
