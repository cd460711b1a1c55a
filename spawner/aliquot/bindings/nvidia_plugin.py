"""NVIDIA's device plugin: whole GPUs, MIG slices, and turns on a shared GPU.

Under the ``mixed`` strategy a slice has a resource of its own, under ``single`` it is called
``nvidia.com/gpu``; discovery has read which. Time-sliced GPUs are handed out as equal
replicas, between which nothing is enforced: neither memory nor an equal part of compute.

Source: k8s-device-plugin v0.20.0, README.md and internal/rm/rm.go.
"""

from __future__ import annotations

from aliquot.bindings.counted_resources import counted
from aliquot.bindings.patches import Enforcement, NotBindable, Strength
from aliquot.bindings.pods import MIG, WHOLE, PodOrder, PodPatch, pod_patch
from aliquot.domain.inventory import BlocksBy

_TURNS = Enforcement(Strength.NONE, Strength.NONE, "time_slicing")

# The plugin's name for a resource that it hands out several times (renameByDefault).
_REPLICATED = ".shared"


def bind_plugin(order: PodOrder) -> PodPatch:
    limits = counted(order.held)
    part = order.part
    if part is not None and part.gpu.blocks_by is not BlocksBy.TIME_SLICING:
        raise NotBindable(
            f"GPU {part.piece.gpu_uuid} no longer serves parts. Try again; the next decision knows."
        )
    if part is not None or any(name.endswith(_REPLICATED) for name in limits):
        return pod_patch(order, _TURNS, limits=limits, notes=("note.time_slicing",))
    return pod_patch(order, MIG if order.slice else WHOLE, limits=limits)
