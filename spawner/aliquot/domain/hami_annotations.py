"""HAMi's annotations on a pod: what its scheduler gave, as it writes it.

Pure. ``hami.io/vgpu-devices-allocated`` holds ``UUID,NVIDIA,MiB,cores`` with ``:`` after each
device and ``;`` after each container; ``hami.io/vgpu-mig-allocations`` a JSON array with the
card, the profile and the place of each instance. Both are there once the pod has a node.

Whoever may change pods may write anything there: what is not of the form reads as None, and it
is the reader's part to say what that means.

Source: HAMi 4707fb0, pkg/device/devices.go (EncodePodSingleDevice) and
pkg/device/nvidia/mig_allocations.go.
"""

from __future__ import annotations

from typing import NamedTuple

from aliquot.domain.kubernetes_values import array, decimal, mapping, text

ALLOCATED = "hami.io/vgpu-devices-allocated"
# Until the pod is bound.
TO_ALLOCATE = "hami.io/vgpu-devices-to-allocate"
INSTANCES = "hami.io/vgpu-mig-allocations"


class HamiDevice(NamedTuple):
    """What HAMi gave of one card; ``cores`` 0 is a pod without a compute limit."""

    gpu_uuid: str
    memory_mib: int | None
    cores: int | None


class HamiInstance(NamedTuple):
    """A MIG instance that HAMi makes for the pod; ``start`` is its first memory slot."""

    gpu_uuid: str
    profile: str
    start: int | None


def devices_of(written: str) -> tuple[HamiDevice, ...]:
    """The cards that ``ALLOCATED`` or ``TO_ALLOCATE`` tells."""
    return tuple(_device(entry) for entry in written.replace(";", ":").split(":") if entry)


def _device(entry: str) -> HamiDevice:
    fields = entry.split(",")
    # Releases before 2.10 wrote "GPU-…[0-1]" for MIG.
    uuid = fields[0].partition("[")[0]
    if len(fields) != 4:
        return HamiDevice(uuid, None, None)
    return HamiDevice(uuid, decimal(fields[2]), decimal(fields[3]))


def instances_of(written: str) -> tuple[HamiInstance, ...] | None:
    """The instances that ``INSTANCES`` tells; None where it is no JSON array."""
    found = array(written)
    return None if found is None else tuple(_instance(row) for row in found)


def _instance(row: object) -> HamiInstance:
    start = mapping(row, "placement").get("start")
    return HamiInstance(
        text(row, "gpuUUID"),
        text(row, "profile"),
        start if type(start) is int and start >= 0 else None,
    )
