"""DRA facts: what of ResourceSlices and ResourceClaims matters for GPUs.

Pure. Source: ``resource.k8s.io/v1``; for the drivers' names of attributes and capacities,
dra-driver-nvidia-gpu 9593204 and HAMi k8s-dra-driver ebeaad9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aliquot.domain.kubernetes_values import (
    MIB,
    full_name,
    mapping,
    number,
    rows,
    text,
    whole_number,
)
from aliquot.domain.pod_marks import read_marks

NVIDIA_DRIVER = "gpu.nvidia.com"
HAMI_DRIVER = "hami-core-gpu.project-hami.io"
DRIVERS = (NVIDIA_DRIVER, HAMI_DRIVER)

_SLOT_COUNTER = re.compile(r"memory-slice-(\d{1,2})")
_SLOT_CAPACITY = re.compile(r"memorySlice(\d{1,2})")


class Device(NamedTuple):
    """``kind`` is the driver's ``type``: ``gpu``, ``mig`` or ``hami-gpu``. ``uuid`` and
    ``start`` are empty and None where the driver does not tell them; ``makeable`` says that it
    is a partition which the driver makes when it is claimed."""

    name: str
    kind: str
    uuid: str
    parent_uuid: str
    product: str
    profile: str
    memory_mib: int
    shareable: bool
    shares: int
    start: int | None
    makeable: bool
    taint: str


@dataclass(frozen=True, slots=True)
class SliceFacts:
    """``slices_in_pool`` is how many slices of this generation make the pool whole."""

    name: str
    driver: str
    node: str
    pool: str
    generation: int
    slices_in_pool: int
    devices: tuple[Device, ...]


class DeviceUse(NamedTuple):
    """An allocated device. ``consumed`` is empty for one that is given whole."""

    driver: str
    pool: str
    device: str
    consumed: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """An allocated claim, for the pods that it is reserved for or belongs to."""

    name: str
    uses: tuple[DeviceUse, ...]
    pods: tuple[str, ...]
    lease_id: str | None = None


def slice_facts(obj: Mapping[str, Any]) -> SliceFacts | None:
    """None for a slice of another driver, or of devices that belong to no node."""
    spec = mapping(obj, "spec")
    driver, node = text(spec, "driver"), text(spec, "nodeName")
    if driver not in DRIVERS or not node:
        return None
    pool = mapping(spec, "pool")
    return SliceFacts(
        name=full_name(obj),
        driver=driver,
        node=node,
        pool=text(pool, "name"),
        generation=number(pool, "generation"),
        slices_in_pool=number(pool, "resourceSliceCount"),
        devices=tuple(_device(row, driver) for row in rows(spec, "devices")),
    )


def _device(row: Mapping[str, Any], driver: str) -> Device:
    attributes = {_bare(key, driver): value for key, value in mapping(row, "attributes").items()}
    capacity = {_bare(key, driver): value for key, value in mapping(row, "capacity").items()}
    taints = [t for t in rows(row, "taints") if t.get("effect") in ("NoSchedule", "NoExecute")]
    uuid = text(attributes.get("uuid"), "string")
    kind = text(attributes.get("type"), "string")
    counters = [
        counter for used in rows(row, "consumesCounters") for counter in mapping(used, "counters")
    ]
    slots = [int(m[1]) for m in map(_SLOT_COUNTER.fullmatch, counters) if m]
    slots += [int(m[1]) for m in map(_SLOT_CAPACITY.fullmatch, capacity) if m]
    return Device(
        name=text(row, "name"),
        kind=kind,
        uuid=uuid,
        parent_uuid=text(attributes.get("parentUUID"), "string"),
        product=text(attributes.get("productName"), "string"),
        profile=text(attributes.get("profile"), "string"),
        memory_mib=_value(capacity, "memory") // MIB,
        shareable=row.get("allowMultipleAllocations") is True,
        shares=_value(capacity, "shares") or _value(capacity, "cores"),
        start=min(slots, default=None),
        makeable=kind == "mig" and not uuid,
        taint=text(taints[0], "key") if taints else "",
    )


def claim_facts(obj: Mapping[str, Any], ledger_mark: str) -> ClaimFacts | None:
    """None for a claim that holds no GPU of these drivers."""
    status = mapping(obj, "status")
    uses = tuple(
        DeviceUse(
            text(row, "driver"),
            text(row, "pool"),
            text(row, "device"),
            tuple(
                sorted(
                    (_bare(name, text(row, "driver")), whole_number(quantity) or 0)
                    for name, quantity in mapping(row, "consumedCapacity").items()
                )
            ),
        )
        for row in rows(mapping(mapping(status, "allocation"), "devices"), "results")
        # Admin access looks at devices that others hold, and holds nothing.
        if row.get("driver") in DRIVERS and row.get("adminAccess") is not True
    )
    if not uses:
        return None
    metadata = mapping(obj, "metadata")
    namespace = text(metadata, "namespace")
    pods = [text(r, "name") for r in rows(status, "reservedFor") if r.get("resource") == "pods"]
    pods += [text(o, "name") for o in rows(metadata, "ownerReferences") if o.get("kind") == "Pod"]
    marks = read_marks(metadata)
    return ClaimFacts(
        name=full_name(obj),
        uses=uses,
        pods=tuple(dict.fromkeys(f"{namespace}/{pod}" for pod in pods if pod)),
        lease_id=marks.lease_id if marks and ledger_mark and marks.ledger == ledger_mark else None,
    )


def _bare(name: str, driver: str) -> str:
    """Names may be written with the driver's domain before them."""
    return name.removeprefix(driver + "/")


def _value(capacity: Mapping[str, Any], name: str) -> int:
    return whole_number(mapping(capacity, name).get("value")) or 0
