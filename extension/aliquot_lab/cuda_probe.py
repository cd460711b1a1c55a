"""CUDA probe: what CUDA and the driver show to a process of this server.

Run as `python -m aliquot_lab.cuda_probe`, prints one JSON object and ends. A child process,
because looking makes a CUDA context, which would hold some hundred MiB of the user's piece
for as long as the server lives. It has the environment that kernels get, so it sees what
they see. It judges nothing; `receipt` does.

    {"cuda": {"error": null | "CUDA_ERROR_…" | "LIBRARY_NOT_FOUND",
              "devices": [{"uuid": "8-4-4-4-12 hex" | null, "name": "NVIDIA …" | null,
                           "error": null | "…", "free_mib": …, "total_mib": …}]},
     "card_free_mib": {"<gpu uuid>": …},        by NVML, where it tells
     "thread_percentage": "30" | null,
     "hami": null | {"is_off": …, "limits_mib": {"<device number>": …}}}
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
import uuid
from collections.abc import Mapping
from typing import Any

_MIB = 1024 * 1024
_LIMIT = re.compile(r"CUDA_DEVICE_MEMORY_LIMIT_(\d{1,2})")
_SIZE = re.compile(r"(\d{1,15})([kKmMgG]?)")
_UNITS = {"": 1, "k": 1024, "m": _MIB, "g": 1024 * _MIB}
_MEANS_NO = ("", "0", "false")
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

    def device_name(self, device: ctypes.c_int) -> str:
        """The product; of a MIG slice "NVIDIA A100-SXM4-80GB MIG 1g.10gb"."""
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        return name.value.decode(errors="replace")

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
    unknown = ("uuid", "name", "error", "free_mib", "total_mib")
    found: dict[str, Any] = dict.fromkeys(unknown)
    device = ctypes.c_int()
    try:
        cuda.call("cuDeviceGet", ctypes.byref(device), index)
        found["uuid"] = cuda.device_uuid(device)
        found["name"] = cuda.device_name(device)
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


def look_at_hami(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """HAMi's own settings; None where it is not at work.

    Source: HAMi 4707fb0, nvinternal/plugin/server.go (`CUDA_DEVICE_MEMORY_LIMIT_0=24467m`), and
    HAMi-core 8f3a89c, libvgpu.c (CUDA_DISABLE_CONTROL).
    """
    limits: dict[str, int] = {}
    for name, value in environ.items():
        found = _LIMIT.fullmatch(name)
        size = _SIZE.fullmatch(value.strip())
        if found and size:
            limits[found[1]] = int(int(size[1]) * _UNITS[size[2].lower()]) // _MIB
    disabled = environ.get("CUDA_DISABLE_CONTROL", "").lower() not in _MEANS_NO
    return {"is_off": disabled, "limits_mib": limits} if limits or disabled else None


def main() -> None:
    # The user's first cell matters more than this check.
    os.nice(5)
    # Before CUDA: afterwards this process's own context lessens the card's free memory.
    cards = look_at_cards(sys.argv[1:])
    report = {
        "cuda": look_at_cuda(),
        "card_free_mib": cards,
        "thread_percentage": os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
        "hami": look_at_hami(os.environ),
    }
    print(json.dumps(report), flush=True)
    # Tearing a context down can hang with an ill driver; the operating system does it anyway.
    os._exit(0)


if __name__ == "__main__":
    main()
