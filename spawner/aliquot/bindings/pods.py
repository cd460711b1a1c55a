"""Pod patches: what a binding asks of a pod, beside what it asks of any process.

A patch is applied last, to the finished pod manifest, after profiles and hooks. It says all
that the pod may have of GPUs: whatever else is found there is refused, whoever put it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aliquot.bindings.patches import ProcessPatch


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One request of a resource claim (``resource.k8s.io/v1``, ``exactly``).

    ``capacity`` are Kubernetes quantities by name, ``selectors`` CEL expressions that all must
    hold.
    """

    name: str
    device_class: str
    count: int = 1
    capacity: Mapping[str, str] = field(default_factory=dict)
    selectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PodPatch(ProcessPatch):
    """Limits of the notebook's container, and what schedules the pod.

    ``node`` is the node that the ledger placed the piece on; the pod is bound to it by
    affinity, so that what is charged there is held there. ``claims`` become one
    ResourceClaimTemplate that the pod owns, named for the attempt.
    """

    limits: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    node: str = ""
    scheduler_name: str | None = None
    priority_class: str | None = None
    claims: tuple[DeviceRequest, ...] = ()


@dataclass(frozen=True)
class PodPolicy:
    """What an admin decides about pods; the traits of ``c.Aliquot`` of the same names tell.

    ``kai_queue`` is the name of a KAI queue, in which ``{group}`` is the resource group.
    """

    strict_compute: bool = False
    hami_scheduler: str = "hami-scheduler"
    kai_scheduler: str = "kai-scheduler"
    kai_queue: str = "{group}"
    kai_priority_class: str = "build"
