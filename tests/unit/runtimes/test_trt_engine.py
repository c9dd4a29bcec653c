"""What is asked of the real TensorRT-RTX, which needs no device to be asked, and that the simulation asks no more."""

from __future__ import annotations

import pytest

from edgevit.errors import InputError
from edgevit.runtimes.trt_engine import load_engine

# Every name of the library that the runner uses, beside what one of the two libraries alone has.
USED = {
    "ILogger": ("Severity", "log"),
    "Runtime": ("deserialize_cuda_engine", "engine_host_code_allowed", "get_engine_validity"),
    "ICudaEngine": (
        "create_execution_context", "num_io_tensors", "get_tensor_name", "get_tensor_shape", "get_tensor_dtype",
        "get_tensor_mode",
    ),
    "IExecutionContext": ("set_tensor_address", "execute_async_v3", "is_stream_capturable"),
    "TensorIOMode": ("INPUT", "OUTPUT"),
    "DataType": ("FLOAT", "HALF", "INT64", "INT32", "INT8", "UINT8", "BOOL"),
    "EngineValidity": ("VALID", "SUBOPTIMAL", "INVALID"),
    "EngineInvalidityDiagnostics": ("VERSION_MISMATCH", "UNSUPPORTED_CC", "MALFORMED_ENGINE"),
}  # fmt: skip


@pytest.fixture
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")


def test_rtx_has_every_name_that_is_used(rtx):
    missing = [
        f"{owner}.{name}" for owner, names in USED.items() for name in names if not hasattr(getattr(rtx, owner), name)
    ]
    assert missing == []
    assert {"INTERNAL_ERROR", "ERROR"} <= set(rtx.ILogger.Severity.__members__)


@pytest.mark.parametrize("data", [b"", b"no engine", b"\0" * 4096], ids=["empty", "text", "zeros"])
def test_what_is_no_engine_is_refused_before_it_is_loaded(rtx, data, capfd):
    with pytest.raises(InputError) as refusal:
        load_engine(rtx, data, output_names=(), embeds_runtime=False, again="build it again")
    line = str(refusal.value)
    assert line.startswith(f"tensorrt_rtx {rtx.__version__} says that the engine does not run here (")
    assert line.endswith("); build it again") and len(line.splitlines()) == 1
    assert capfd.readouterr() == ("", "")
