"""Pod facts: what of a Pod matters for the GPUs of its node.

Pure. A pod that has nothing to do with GPUs is None and is not kept at all.

Sources: k8s.io/component-helpers, resource.PodRequests (init containers, sidecars); KAI
d5bc503, pkg/common/constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from aliquot.discovery.kubernetes.node_facts import is_gpu_resource
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.hami_annotations import (
    ALLOCATED,
    INSTANCES,
    TO_ALLOCATE,
    HamiDevice,
    HamiInstance,
    devices_of,
    instances_of,
)
from aliquot.domain.kubernetes_values import (
    decimal,
    full_name,
    mapping,
    rows,
    text,
    whole_number,
)
from aliquot.domain.leases import Piece
from aliquot.domain.pod_marks import LEDGER, read_marks

KAI_FRACTION = "gpu-fraction"
KAI_MEMORY = "gpu-memory"
KAI_DEVICES = "gpu-fraction-num-devices"
KAI_GROUP = "runai-gpu-group"
KAI_RESERVATIONS = ("kai-resource-reservation", "runai-reservation")

_MOST_DEVICES = 64


class KaiPart(NamedTuple):
    """A fraction of each of ``devices`` cards, in blocks or else in MiB. ``groups`` names the
    cards: pods of one group share one."""

    blocks: int
    memory_mib: int
    devices: int
    groups: tuple[str, ...]


class OwnMarks(NamedTuple):
    """``pieces`` is None when the annotation cannot be read."""

    lease_id: str
    pieces: tuple[Piece, ...] | None


@dataclass(frozen=True, slots=True)
class PodFacts:
    """``name`` is ``namespace/name``; ``node`` is empty while the pod is not bound to one.

    ``hami`` is None for a pod that HAMi's scheduler has not placed. ``reserves`` is the KAI
    group for which the pod reserves a card.
    """

    name: str
    node: str
    requests: tuple[tuple[str, int], ...] = ()
    own: OwnMarks | None = None
    hami: tuple[HamiDevice, ...] | None = None
    hami_instances: tuple[HamiInstance, ...] = ()
    kai: KaiPart | None = None
    reserves: str = ""


def pod_facts(pod: Mapping[str, Any], ledger_mark: str) -> PodFacts | None:
    """None for a pod that holds no GPU and never will: it is over, or asks for none.

    A pod that ends (Terminating) holds its GPU until it is gone.
    """
    spec, metadata = mapping(pod, "spec"), mapping(pod, "metadata")
    if mapping(pod, "status").get("phase") in ("Succeeded", "Failed"):
        return None
    labels, annotations = mapping(metadata, "labels"), mapping(metadata, "annotations")
    own = None
    if ledger_mark and labels.get(LEDGER) == ledger_mark:
        marks = read_marks(metadata)
        own = marks and OwnMarks(marks.lease_id, marks.pieces)
    node = text(spec, "nodeName")
    if not node and own is None:
        return None
    requests = _requests(spec)
    hami = _hami(annotations)
    kai = _kai(labels, annotations)
    if not (requests or own or hami or kai):
        return None
    reserved = text(metadata, "namespace") in KAI_RESERVATIONS
    return PodFacts(
        name=full_name(pod),
        node=node,
        requests=requests,
        own=own,
        hami=hami,
        hami_instances=_hami_instances(annotations),
        kai=kai,
        reserves=text(labels, KAI_GROUP) if reserved else "",
    )


def _requests(spec: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """GPU resources that the pod occupies: of all its containers together, or of one init
    container where that is more. Sidecars run beside both."""
    together: dict[str, int] = {}
    for container in rows(spec, "containers"):
        _add(together, container)
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in rows(spec, "initContainers"):
        if container.get("restartPolicy") == "Always":
            _add(sidecars, container)
            continue
        alone = dict(sidecars)
        _add(alone, container)
        for name, count in alone.items():
            peak[name] = max(peak.get(name, 0), count)
    for name, count in sidecars.items():
        together[name] = together.get(name, 0) + count
    for name, count in peak.items():
        together[name] = max(together.get(name, 0), count)
    return tuple(sorted(together.items())) if together else ()


def _add(counts: dict[str, int], container: Mapping[str, Any]) -> None:
    resources = mapping(container, "resources")
    if not resources:
        return
    # The API server makes both equal for extended resources, or fills the missing one in.
    for name, quantity in {
        **mapping(resources, "limits"),
        **mapping(resources, "requests"),
    }.items():
        if is_gpu_resource(name):
            count = whole_number(quantity)
            if count:
                counts[name] = counts.get(name, 0) + count


def _hami(annotations: Mapping[str, Any]) -> tuple[HamiDevice, ...] | None:
    written = text(annotations, ALLOCATED) or text(annotations, TO_ALLOCATE)
    return devices_of(written)[:_MOST_DEVICES] if written else None


def _hami_instances(annotations: Mapping[str, Any]) -> tuple[HamiInstance, ...]:
    written = text(annotations, INSTANCES)
    return (instances_of(written) or ())[:_MOST_DEVICES] if written else ()


def _kai(labels: Mapping[str, Any], annotations: Mapping[str, Any]) -> KaiPart | None:
    blocks = _fraction(text(annotations, KAI_FRACTION))
    memory_mib = decimal(annotations.get(KAI_MEMORY)) or 0
    if not blocks and not memory_mib:
        return None
    groups = {text(labels, KAI_GROUP)} | {
        value
        for key, value in labels.items()
        if key.startswith(KAI_GROUP + "/") and isinstance(value, str)
    }
    devices = decimal(annotations.get(KAI_DEVICES)) or 1
    return KaiPart(blocks, memory_mib, min(devices, _MOST_DEVICES), tuple(sorted(groups - {""})))


def _fraction(written: str) -> int:
    """Blocks of a fraction; KAI rounds to 0.01 (gpu_resource_requirment.go)."""
    try:
        fraction = Decimal(written)
        if not 0 < fraction < 1:
            return 0
    except InvalidOperation:
        return 0
    return max(1, int((fraction * BLOCKS_PER_GPU).to_integral_value("ROUND_HALF_UP")))
