"""Pod patches: what a binding asks of a pod, beside what it asks of any process.

A patch is applied last, to the finished pod manifest, after profiles and hooks. It says all
that the pod may have of GPUs: whatever else is found there is refused, whoever put it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aliquot.bindings.patches import Enforcement, ProcessPatch, Strength
from aliquot.bindings.pod_env import GOVERNED_IN_PODS, NO_DEVICES
from aliquot.domain.inventory import Gpu, MigDevice
from aliquot.domain.leases import Piece
from aliquot.domain.shares import Kind

MIG = Enforcement(Strength.HARDWARE, Strength.HARDWARE, "mig")
WHOLE = Enforcement(Strength.HARDWARE, Strength.HARDWARE, "driver")


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

    def to_json(self) -> dict[str, Any]:
        """The request as it stands in a ResourceClaim."""
        exactly: dict[str, Any] = {
            "deviceClassName": self.device_class,
            "allocationMode": "ExactCount",
            "count": self.count,
        }
        if self.selectors:
            exactly["selectors"] = [{"cel": {"expression": text}} for text in self.selectors]
        if self.capacity:
            exactly["capacity"] = {"requests": dict(self.capacity)}
        return {"name": self.name, "exactly": exactly}


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


@dataclass(frozen=True, slots=True)
class Held:
    """A piece with the GPU that it is on, and the MIG instance that it is."""

    piece: Piece
    gpu: Gpu
    device: MigDevice | None = None

    @property
    def offered_as(self) -> str:
        """The resource or device class that a pod asks for to get it."""
        return self.gpu.offered_as if self.device is None else self.device.offered_as


@dataclass(frozen=True, slots=True)
class PodOrder:
    """What a binding translates: at least one piece, all on one node, whole GPUs first. They
    were there when the inventory was read."""

    held: tuple[Held, ...]
    group: str
    policy: PodPolicy

    @property
    def node(self) -> str:
        return self.held[0].gpu.node

    @property
    def wholes(self) -> tuple[Held, ...]:
        return tuple(held for held in self.held if held.piece.kind is Kind.WHOLE)

    @property
    def part(self) -> Held | None:
        """The blocks of less than a GPU, of which a share has at most one piece."""
        return next((held for held in self.held if held.piece.kind is Kind.BLOCKS), None)

    @property
    def slice(self) -> Held | None:
        return next((held for held in self.held if held.piece.kind is Kind.SLICE), None)


class PodBinding(Protocol):
    """One engine of a cluster.

    Every implementation owes: the pod can get exactly the pieces, on their node, and nothing
    beside them; what is charged is what is granted; the enforcement is never overstated; each
    governed variable is set or taken away. It raises NotBindable for what its engine cannot
    say.
    """

    def __call__(self, order: PodOrder, /) -> PodPatch: ...


def pod_patch(
    order: PodOrder,
    enforcement: Enforcement,
    *,
    env: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    limits: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    scheduler_name: str | None = None,
    priority_class: str | None = None,
    claims: tuple[DeviceRequest, ...] = (),
) -> PodPatch:
    """A patch that pins the pod to the order's node and governs every variable."""
    env = env or {}
    return PodPatch(
        env,
        enforcement,
        notes,
        unset=GOVERNED_IN_PODS - env.keys(),
        limits=limits or {},
        annotations=annotations or {},
        labels=labels or {},
        node=order.node,
        scheduler_name=scheduler_name,
        priority_class=priority_class,
        claims=claims,
    )


def bind_no_gpu() -> PodPatch:
    """A pod without a lease sees no GPU, also on a node full of them."""
    return PodPatch(
        NO_DEVICES,
        Enforcement(Strength.NONE, Strength.NONE, "none"),
        unset=GOVERNED_IN_PODS - NO_DEVICES.keys(),
    )
