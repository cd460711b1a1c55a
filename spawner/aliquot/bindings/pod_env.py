"""The environment of a pod's containers, as far as it reaches for GPUs.

In a pod the engine sets the variables: the device plugin when it hands out the device, HAMi
with its limits, a DRA driver through the container runtime. A value in the pod's own manifest
comes later than the device plugin's and wins (kubelet, GenerateRunContainerOptions), so a
governed variable stands in a finished pod only where the patch put it.

``LD_PRELOAD`` is not governed: images use it for their allocators, and who may set it in a
notebook could as well start a program with it. It is one of the reasons why HAMi's limits are
called soft.

Sources: NVIDIA Container Toolkit, environment variables of the OCI image; HAMi-core 8f3a89c,
src/libvgpu.c and src/multiprocess/multiprocess_memory_limit.c; HAMi 4707fb0,
pkg/device-plugin/nvidiadevice/nvinternal/plugin/server.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from aliquot.bindings.patches import GOVERNED, visible

COMPUTE_POLICY = "GPU_CORE_UTILIZATION_POLICY"

# HAMi-core reads limits for at most so many devices (CUDA_DEVICE_MAX_COUNT).
_HAMI_DEVICES = 16

_RUNTIME = frozenset(
    {"NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_IMEX_CHANNELS"}
)
_HAMI = frozenset(
    {
        COMPUTE_POLICY,
        "ACTIVE_OOM_KILLER",
        "CUDA_DEVICE_MEMORY_LIMIT",
        "CUDA_DEVICE_MEMORY_SHARED_CACHE",
        "CUDA_DEVICE_SM_LIMIT",
        "CUDA_DISABLE_CONTROL",
        "CUDA_OVERSUBSCRIBE",
        "CUDA_REDIRECT",
        "CUDA_TASK_PRIORITY",
        *(f"CUDA_DEVICE_MEMORY_LIMIT_{device}" for device in range(_HAMI_DEVICES)),
        *(f"CUDA_DEVICE_SM_LIMIT_{device}" for device in range(_HAMI_DEVICES)),
    }
)

# Variables that could widen a pod's piece: each patch sets or unsets all of them.
GOVERNED_IN_PODS = GOVERNED | _RUNTIME | _HAMI
_GOVERNED_PREFIXES = (
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_SM_LIMIT",
    "CUDA_MPS_",
    "NVIDIA_MIG_",
)

# What a container without a device is given. Images built from CUDA's carry
# NVIDIA_VISIBLE_DEVICES=all, and would be handed every GPU of a node.
NO_DEVICES: Mapping[str, str] = visible()

# Values that ask for nothing, so that a profile that has them can stay as it is. The two that
# only narrow or order what CUDA sees may have any.
_ANY: frozenset[str] = frozenset()
_HARMLESS: Mapping[str, frozenset[str]] = {
    "CUDA_VISIBLE_DEVICES": _ANY,
    "CUDA_DEVICE_ORDER": _ANY,
    "NVIDIA_VISIBLE_DEVICES": frozenset({"", "void", "none"}),
    "CUDA_DISABLE_CONTROL": frozenset({"", "0", "false"}),
    COMPUTE_POLICY: frozenset({"force"}),
}


def is_governed(name: str) -> bool:
    return name in GOVERNED_IN_PODS or name.startswith(_GOVERNED_PREFIXES)


def is_harmless(name: str, value: str | None) -> bool:
    """Whether a governed variable asks for nothing; ``value`` None is one that is not written
    in the manifest but taken from elsewhere."""
    allowed = _HARMLESS.get(name)
    return allowed is not None and (allowed is _ANY or value in allowed)


def may_govern(prefix: str) -> bool:
    """Whether variables whose names begin so, out of a map that is not seen, could be governed."""
    names = (*GOVERNED_IN_PODS, *_GOVERNED_PREFIXES)
    return any(name.startswith(prefix) for name in names) or is_governed(prefix)
