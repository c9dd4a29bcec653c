"""Sessions of ONNX Runtime: how they are set, and how little memory they keep.

What was measured for it is made by `benchmarks/suites/memory.py`. All sessions of the CPU in a process draw their
activations from one arena, which grows by what is asked for and not by doubling; and none plans one block for all
activations of a run, which was larger than what they take one after the other, and no faster.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["CPU", "imported", "library_build", "new_session", "one_line", "save_packed"]

CPU = "CPUExecutionProvider"

_SAVED_GRAPH, _SAVED_WEIGHTS = "optimized.onnx", "weights.bin"
_SAME_AS_REQUESTED = 1  # the arena's way to grow


def imported() -> Any:
    """The module onnxruntime.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise  # it is installed, and something it needs itself is not
        raise MissingExtra("onnxruntime", "cpu") from error
    return onnxruntime


def library_build() -> str:
    """Which build of ONNX Runtime this is, in its own words."""
    onnxruntime = imported()
    return f"{onnxruntime.__version__}; {one_line(onnxruntime.get_build_info())}"


def new_session(
    model: bytes,
    providers: Sequence[str],
    threads: int | None,
    *,
    weights_folder: Path | None = None,
    profile_prefix: str | None = None,
    takes_turns: bool = False,
) -> onnxruntime.InferenceSession:
    """Load a graph on exactly these providers.

    Args:
        model: the serialized graph.
        providers: in order of precedence; without the CPU's no node may run there.
        threads: within one operator; None leaves it to ONNX Runtime.
        weights_folder: where the files stand that the graph names as external data.
        profile_prefix: of the file that `end_profiling` writes; None to measure nothing.
        takes_turns: whether other sessions of this process run right after it, whose CPUs its threads then leave to
            them at once. By default they look for more work for a while, which is faster for a session by itself.

    Raises:
        InputError: the graph does not load, or a provider did not take it.
    """
    options = _options(providers, threads)
    if takes_turns:
        # And not one pool for all of them: it is the process's, for good, and from then on ONNX Runtime refuses
        # sessions with a pool of their own to everybody in it.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if weights_folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights_folder))
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return _load(model, options, list(providers))


def save_packed(
    model: bytes, providers: Sequence[str], threads: int | None, folder: Path
) -> tuple[onnxruntime.InferenceSession, bytes, bytes]:
    """Load a graph, and have ONNX Runtime save what it made of it.

    Args:
        model: the serialized graph.
        providers: in order of precedence.
        threads: within one operator; None leaves it to ONNX Runtime.
        folder: empty; for its files.

    Returns:
        The session, the graph it saved, and the file with that graph's weights as they were and as they were packed.

    Raises:
        InputError: the graph does not load or cannot be saved.
    """
    options = _options(providers, threads)
    options.optimized_model_filepath = str(folder / _SAVED_GRAPH)
    for key, value in (
        ("session.optimized_model_external_initializers_file_name", _SAVED_WEIGHTS),
        ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(key, value)
    session = _load(model, options, list(providers))
    weights = folder / _SAVED_WEIGHTS
    return session, (folder / _SAVED_GRAPH).read_bytes(), weights.read_bytes() if weights.exists() else b""


def one_line(said: object) -> str:
    """What an error or anything else says, in one line."""
    return " ".join(str(said).split())


def _options(providers: Sequence[str], threads: int | None) -> onnxruntime.SessionOptions:
    onnxruntime = imported()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal: whatever is an error is raised, and standard error is the program's
    if threads is not None:
        options.intra_op_num_threads = threads
    if CPU not in providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if list(providers) == [CPU]:
        options.enable_mem_pattern = False
        if _shared_arena():
            options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def _load(model: bytes, options: onnxruntime.SessionOptions, providers: list[str]) -> onnxruntime.InferenceSession:
    onnxruntime = imported()
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        version = onnxruntime.__version__
        raise InputError(
            f"onnxruntime {version} cannot load the graph on {', '.join(providers)}: {one_line(error)}"
        ) from error
    session.disable_fallback()
    # A provider whose own libraries are missing is dropped with no more than a log line; and the CPU is
    # always appended, which an option keeps idle.
    active = session.get_providers()
    if active[: len(providers)] != providers:
        raise InputError(
            f"asked onnxruntime for {', '.join(providers)} and got {', '.join(active)}; install the "
            "libraries that provider needs, or ask for another"
        )
    if hasattr(session, "_model_bytes"):
        session._model_bytes = b""  # kept for `set_providers` alone, which nobody calls, and as large as the weights
    _give_back_free_memory()
    return session


@cache
def _shared_arena() -> bool:
    """Whether this process has an arena for all its sessions: made here once, or by whoever came before."""
    onnxruntime = imported()
    try:
        memory = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        settings = onnxruntime.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED})
        onnxruntime.create_and_register_allocator(memory, settings)
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        return "already registered" in str(error)
    return True


def _give_back_free_memory() -> None:
    """Return to the system what loading left on the heap: parsed and optimized graphs, tens of megabytes."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; musl has none, and keeps less
    if trim is not None:
        trim(0)
