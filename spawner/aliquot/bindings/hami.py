"""HAMi: blocks as a share of a card's cores and memory, and whole cards.

The card is the one that the ledger chose, by UUID. Memory is a percentage, of which HAMi takes
the floor in MiB, as the ledger does. 100 cores mean exclusive: HAMi refuses the card to
everybody else. Both limits live in the notebook's own processes (``libvgpu.so``), where a
determined user can take them off: soft.

By default HAMi throttles only while two containers compute on one card; ``strict_compute``
makes HAMi-core always do it. The size of a request holds for each card alike, so whole cards
and a part never share one.

Source: HAMi 4707fb0, pkg/device/nvidia/device.go (GenerateResourceRequests, Fit) and
cmd/vGPUmonitor/feedback.go; HAMi-core 8f3a89c, get_utilization_switch.
"""

from __future__ import annotations

from aliquot.bindings.counted_resources import counted, resource_of
from aliquot.bindings.patches import Enforcement, NotBindable, Strength
from aliquot.bindings.pod_env import COMPUTE_POLICY
from aliquot.bindings.pods import WHOLE, PodOrder, PodPatch, pod_patch
from aliquot.domain.inventory import BlocksBy

CORES = "nvidia.com/gpucores"
MEMORY = "nvidia.com/gpumem"
MEMORY_PERCENTAGE = "nvidia.com/gpumem-percentage"
CARD = "nvidia.com/use-gpuuuid"
MODE = "nvidia.com/vgpu-mode"

_SOFT = Enforcement(Strength.SOFT, Strength.SOFT, "hami")


def bind_hami(order: PodOrder) -> PodPatch:
    if order.slice is not None:
        raise NotBindable("HAMi gives MIG instances only on nodes that it runs in MIG mode.")
    part = order.part
    if part is None:
        return _patch(order, counted(order.wholes), 100)
    if order.wholes:
        raise NotBindable(
            "HAMi asks for one size on every card: whole GPUs and a part cannot share a pod."
        )
    if part.gpu.blocks_by is not BlocksBy.HAMI:
        raise NotBindable(
            f"HAMi no longer gives out GPU {part.piece.gpu_uuid} in parts. "
            "Try again; the next decision knows."
        )
    return _patch(order, {resource_of(part): "1"}, part.piece.blocks)


def _patch(order: PodOrder, cards: dict[str, str], blocks: int) -> PodPatch:
    """``cards`` is how many, under the name of their resource."""
    strict = order.policy.strict_compute
    if order.part is None:
        enforcement, notes = WHOLE, ()
    else:
        enforcement = _SOFT
        notes = ("note.hami_soft", *(() if strict else ("note.hami_contended",)))
    return pod_patch(
        order,
        enforcement,
        env={COMPUTE_POLICY: "force"} if strict else {},
        notes=notes,
        # 100 is written out: without HAMi's webhook, "gpu" alone is memory without cores, and
        # would let others compute on the card.
        limits={**cards, CORES: str(blocks), MEMORY_PERCENTAGE: str(blocks)},
        annotations={
            CARD: ",".join(held.piece.gpu_uuid for held in order.held),
            MODE: "hami-core",
        },
        scheduler_name=order.policy.hami_scheduler,
    )
