"""KAI Scheduler: fractions, whole GPUs and MIG slices, counted in queues.

A fraction is two decimals, KAI's own precision: one block each. KAI holds nobody to it. The
queue is the resource group's; the priority class decides whether KAI may end the notebook for
somebody else's work.

Source: KAI-Scheduler d5bc503, pkg/scheduler/api/resource_info/gpu_resource_requirment.go,
pkg/binder/plugins/gpusharing/gpu-request/gpu_request_validator.go and pkg/common/constants.
"""

from __future__ import annotations

import hashlib
import re

from aliquot.bindings.counted_resources import counted
from aliquot.bindings.patches import Enforcement, NotBindable, Strength
from aliquot.bindings.pods import MIG, WHOLE, PodOrder, PodPatch, PodPolicy, pod_patch
from aliquot.domain.inventory import BlocksBy

QUEUE = "kai.scheduler/queue"
FRACTION = "gpu-fraction"
FRACTION_CONTAINER = "gpu-fraction-container-name"

_COUNTED = Enforcement(Strength.NONE, Strength.NONE, "kai")
_MAX_NAME = 63
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9.]+")
_AROUND_A_DOT = re.compile(r"-*\.[.-]*")


def bind_kai(order: PodOrder) -> PodPatch:
    part = order.part
    annotations: dict[str, str] = {}
    limits: dict[str, str] = {}
    if part is None:
        enforcement, notes = MIG if order.slice else WHOLE, ()
        limits = counted(order.held)
    elif order.wholes:
        raise NotBindable(
            "KAI asks for one fraction on every GPU: whole GPUs and a part cannot share a pod."
        )
    elif part.gpu.blocks_by is not BlocksBy.KAI:
        raise NotBindable(
            f"KAI no longer gives out GPU {part.piece.gpu_uuid} in parts. "
            "Try again; the next decision knows."
        )
    else:
        enforcement, notes = _COUNTED, ("note.kai_counted",)
        annotations = {FRACTION: f"0.{part.piece.blocks:02d}"}
    return pod_patch(
        order,
        enforcement,
        notes=notes,
        limits=limits,
        annotations=annotations,
        labels={QUEUE: queue_of(order.policy, order.group)},
        scheduler_name=order.policy.kai_scheduler,
        priority_class=order.policy.kai_priority_class or None,
    )


def queue_of(policy: PodPolicy, group: str) -> str:
    """The queue of a resource group, by the policy's pattern: what an admin must create.

    A queue is named as Kubernetes names objects: lower case, digits, ``.`` and ``-``, at most
    63. Spaces and signs become ``-``. Where letters of another script would be lost, or the
    name is too long, eight digits of its SHA-256 are added, so that such groups do not share a
    queue: ``group-9f86d081``.
    """
    written = policy.kai_queue.replace("{group}", group)
    name = _AROUND_A_DOT.sub(".", _NOT_IN_A_NAME.sub("-", written.lower())).strip("-.")
    if written.isascii() and name and len(name) <= _MAX_NAME:
        return name
    mark = hashlib.sha256(written.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9].strip('-.') or 'group'}-{mark}"
