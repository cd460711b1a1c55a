"""HAMi's dynamic MIG: an instance cut on demand, chosen by its memory.

Discovery offers only profiles that HAMi can be brought to (``domain.hami_mig``); what it would
not choose is refused here once more, before the pod would get something else than was charged.
"""

from __future__ import annotations

from aliquot.bindings.counted_resources import resource_of
from aliquot.bindings.hami import CARD, MEMORY, MODE
from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pods import MIG, PodOrder, PodPatch, pod_patch
from aliquot.domain.hami_mig import taken_for


def bind_hami_mig(order: PodOrder) -> PodPatch:
    held = order.slice
    if held is None or held.device is None:
        raise NotBindable(
            f"HAMi runs node {order.node} in MIG mode, where it gives MIG instances alone. "
            "Try again; the next decision knows."
        )
    taken = taken_for(held.device.memory_mib, held.gpu.mig_devices)
    if taken != held.device.profile:
        raise NotBindable(
            f"HAMi cannot be asked for {held.device.profile} on node {order.node}: it chooses by "
            f"memory, and {taken} has as much ({held.device.memory_mib} MiB). Take one of the two "
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
