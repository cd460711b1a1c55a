"""Which binding a lease takes on a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from aliquot.bindings.dra import bind_dra_hami, bind_dra_nvidia
from aliquot.bindings.hami import bind_hami
from aliquot.bindings.hami_mig import bind_hami_mig
from aliquot.bindings.kai import bind_kai
from aliquot.bindings.nvidia_plugin import bind_plugin
from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pods import (
    Held,
    PodBinding,
    PodOrder,
    PodPatch,
    PodPolicy,
    bind_no_gpu,
)
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease, Piece

BINDINGS: Mapping[Engine, PodBinding] = {
    Engine.NVIDIA_PLUGIN: bind_plugin,
    Engine.HAMI: bind_hami,
    Engine.HAMI_MIG: bind_hami_mig,
    Engine.KAI: bind_kai,
    Engine.DRA_NVIDIA: bind_dra_nvidia,
    Engine.DRA_HAMI: bind_dra_hami,
}


def bind_pod(lease: Lease, inventory: Inventory, policy: PodPolicy) -> PodPatch:
    """Translate a lease into what its pod must ask for.

    Raises NotBindable when a GPU or a MIG instance of the placement is gone, or its node has
    changed its engine.
    """
    if not lease.placement.pieces:
        return bind_no_gpu()
    held = tuple(_held(piece, inventory) for piece in lease.placement.pieces)
    nodes = sorted({one.gpu.node for one in held})
    if nodes[0] == "" or len(nodes) > 1:
        raise NotBindable(
            f"The pieces of lease {lease.id} are on {len(nodes)} nodes ({', '.join(nodes)}), and "
            "a pod runs on one. Try again; the next decision knows."
        )
    engines = {one.gpu.engine for one in held}
    binding = BINDINGS.get(engines.pop()) if len(engines) == 1 else None
    if binding is None:
        raise NotBindable(
            f"Node {nodes[0]} hands out the GPUs of lease {lease.id} by no engine that can be "
            "bound. Check which device plugin or driver runs there."
        )
    return binding(PodOrder(held, lease.group, policy))


def _held(piece: Piece, inventory: Inventory) -> Held:
    gpu = inventory.by_uuid.get(piece.gpu_uuid)
    if gpu is None:
        raise NotBindable(
            f"GPU {piece.gpu_uuid} was there and is gone. Check its node and its driver."
        )
    if piece.mig_uuid is None:
        if gpu.mig_enabled and not gpu.makes_instances:
            raise NotBindable(
                f"GPU {piece.gpu_uuid} is in MIG mode now, and was leased out of it. "
                "Try again; the next decision knows."
            )
        return Held(piece, gpu)
    for device in gpu.mig_devices:
        if device.uuid == piece.mig_uuid:
            return Held(piece, gpu, device)
    raise NotBindable(
        f"MIG instance {piece.mig_uuid} was there and is gone. "
        "Was the GPU partitioned anew? Try again; the next decision knows."
    )
