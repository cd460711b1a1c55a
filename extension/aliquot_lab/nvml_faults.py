"""NVML faults: what an error code of the driver means to the reader.

Most codes concern one reading ("not supported here") and leave the rest alone. A few mean
that the driver or a GPU is gone; then the library is closed and opened again.
"""

from __future__ import annotations

import pynvml

from aliquot_lab.wording import Sentence, say

# After these nothing that this process holds of NVML is valid any more.
_GONE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)

_REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "not_supported",
    pynvml.NVML_ERROR_INVALID_ARGUMENT: "not_supported",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not_supported_by_driver",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not_supported_by_driver",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "nvml_library_missing",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
    pynvml.NVML_ERROR_GPU_IS_LOST: "gpu_lost",
}

# Codes that a call gives where the driver or the GPU simply lacks it: asking again is useless.
LASTING = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)

_NAMES = {value: name for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}


def code_of(error: pynvml.NVMLError) -> int:
    return getattr(error, "value", pynvml.NVML_ERROR_UNKNOWN)


def is_gone(error: pynvml.NVMLError) -> bool:
    """Whether the driver or the GPU itself is lost, not just this reading."""
    return code_of(error) in _GONE


def reason_of(code: int) -> Sentence:
    """Why a reading is missing, by NVML's return code."""
    key = _REASONS.get(code)
    if key:
        return say(key)
    name = _NAMES.get(code, str(code)).removeprefix("NVML_ERROR_")
    return say("driver_lost" if code in _GONE else "driver_error", code=name)
