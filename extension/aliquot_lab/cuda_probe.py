"""CUDA probe: what CUDA and the driver show to a process of this server.

Run as `python -m aliquot_lab.cuda_probe`, prints one JSON object and ends. A child process,
because looking makes a CUDA context, which would hold some hundred MiB of the user's piece
for as long as the server lives. It has the environment that kernels get, so it sees what
they see. It judges nothing; `receipt` does.

    {"cuda": {"error": null | "CUDA_ERROR_…" | "LIBRARY_NOT_FOUND",
              "devices": [{"uuid": "8-4-4-4-12 hex" | null, "error": null | "…",
                           "free_mib": …, "total_mib": …}]},
     "card_free_mib": {"<gpu uuid>": …},        by NVML, where it tells
     "thread_percentage": "30" | null}
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import uuid
from typing import Any

_MIB = 1024 * 1024
_SUCCESS = 0
_NAMES = {
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    801: "CUDA_ERROR_NOT_SUPPORTED",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    806: "CUDA_ERROR_MPS_RPC_FAILURE",
    807: "CUDA_ERROR_MPS_SERVER_NOT_READY",
    808: "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
    809: "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED",
    999: "CUDA_ERROR_UNKNOWN",
}


class _CudaError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(_NAMES.get(code, f"CUDA error {code}"))


class _Cuda:
    """The few functions of libcuda that the probe needs.

    Source: CUDA driver API. `_v2` names are what the header's plain names stand for.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != _SUCCESS:
            raise _CudaError(code)

    def has(self, name: str) -> bool:
        return hasattr(self._library, name)

    def device_count(self) -> int:
        count = ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def device_uuid(self, device: ctypes.c_int) -> str:
        """A MIG slice has its own UUID only in the second version; before, its card's."""
        raw = (ctypes.c_ubyte * 16)()
        second = self.has("cuDeviceGetUuid_v2")
        self.call("cuDeviceGetUuid_v2" if second else "cuDeviceGetUuid", raw, device)
        return str(uuid.UUID(bytes=bytes(raw)))

    def memory(self, device: ctypes.c_int) -> tuple[int, int]:
        """Free and total bytes; total is the card's under MPS, free is at most the limit."""
        context = ctypes.c_void_p()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value


def look_at_cuda() -> dict[str, Any]:
    try:
        cuda = _Cuda()
    except OSError:
        return {"error": "LIBRARY_NOT_FOUND", "devices": []}
    try:
        count = cuda.device_count()
    except (_CudaError, AttributeError) as error:
        return {"error": str(error), "devices": []}
    return {"error": None, "devices": [_device(cuda, index) for index in range(count)]}


def _device(cuda: _Cuda, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {"uuid": None, "error": None, "free_mib": None, "total_mib": None}
    device = ctypes.c_int()
    try:
        cuda.call("cuDeviceGet", ctypes.byref(device), index)
        found["uuid"] = cuda.device_uuid(device)
        free, total = cuda.memory(device)
        found["free_mib"], found["total_mib"] = free // _MIB, total // _MIB
    except (_CudaError, AttributeError) as error:
        found["error"] = str(error)
    return found


def look_at_cards(uuids: list[str]) -> dict[str, int]:
    """Free MiB of whole cards by NVML, which no limit of MPS hides."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return {}
    free: dict[str, int] = {}
    for name in uuids:
        try:
            info = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(name))
        except pynvml.NVMLError:
            continue
        free[name] = int(info.free) // _MIB
    return free


def main() -> None:
    # The user's first cell matters more than this check.
    os.nice(5)
    # Before CUDA: afterwards this process's own context lessens the card's free memory.
    cards = look_at_cards(sys.argv[1:])
    report = {
        "cuda": look_at_cuda(),
        "card_free_mib": cards,
        "thread_percentage": os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
    }
    print(json.dumps(report), flush=True)
    # Tearing a context down can hang with an ill driver; the operating system does it anyway.
    os._exit(0)


if __name__ == "__main__":
    main()
