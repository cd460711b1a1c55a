"""HAMi's dynamic MIG: an instance cut on demand, chosen by its memory.

A profile cannot be named. HAMi sorts the profiles that its admin allows by memory, then by
compute slices, and takes the first that is large enough and has a free place. So a profile is
reached by asking for exactly its memory, unless another of the same memory comes first
(``1g.20gb`` before ``2g.20gb``, or ``1g.10gb`` beside ``1g.10gb+me``): that is refused here,
before the pod would get something else than was charged.

Where HAMi has no place left for the profile it takes a larger one; ``granted`` tells then.

Source: HAMi 4707fb0, pkg/device/nvidia/device.go (selectMigCandidate, AddResourceUsage).
"""

from __future__ import annotations

from aliquot.bindings.counted_resources import resource_of
from aliquot.bindings.hami import CARD, MEMORY, MODE
from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pods import MIG, PodOrder, PodPatch, pod_patch
from aliquot.domain.inventory import Gpu, MigDevice


def bind_hami_mig(order: PodOrder) -> PodPatch:
    held = order.slice
    if held is None or held.device is None:
        raise NotBindable(
            f"HAMi runs node {order.node} in MIG mode, where it gives MIG instances alone. "
            "Try again; the next decision knows."
        )
    if (rival := taken_instead(held.gpu, held.device)) is not None:
        raise NotBindable(
            f"HAMi cannot be asked for {held.device.profile} on node {order.node}: it chooses by "
            f"memory, and {rival} has as much ({held.device.memory_mib} MiB). Take one of the two "
            "out of HAMi's migProfileAllowlist."
        )
    # Of an instance the resource is the parent's: HAMi counts devices, not profiles.
    resource = held.device.offered_as or held.gpu.offered_as
    return pod_patch(
        order,
        MIG,
        limits={resource or resource_of(held): "1", MEMORY: str(held.device.memory_mib)},
        annotations={CARD: held.piece.gpu_uuid, MODE: "mig"},
        scheduler_name=order.policy.hami_scheduler,
    )


def taken_instead(gpu: Gpu, wanted: MigDevice) -> str | None:
    """The profile that HAMi would, or might, take when asked for the memory of ``wanted``."""
    for device in gpu.mig_devices:
        if (
            device.profile != wanted.profile
            and device.memory_mib == wanted.memory_mib
            and device.compute_slices <= wanted.compute_slices
        ):
            return device.profile
    return None
