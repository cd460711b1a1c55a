"""Node facts: what of a Node matters for its GPUs.

Pure. Most changes of a Node are heartbeats; its facts stay equal then, and nothing is rebuilt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aliquot.domain.kubernetes_values import mapping, rows, text, whole_number

GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
MIG = "nvidia.com/mig-"

HAMI_REGISTER = "hami.io/node-nvidia-register"
HAMI_HANDSHAKE = "hami.io/node-handshake"
HAMI_CORDON = "hami.io/device-cordon"

_LABELS = frozenset(
    f"nvidia.com/{name}"
    for name in (
        "gpu.product",
        "gpu.count",
        "gpu.memory",
        "gpu.replicas",
        "gpu.sharing-strategy",
        "mig.strategy",
    )
)
_LABELS_OF_MIG = (".memory", ".replicas")
# Set by Kubernetes for reasons that the node's conditions tell better.
_OF_CONDITIONS = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """``capacity`` counts all devices of a resource, ``allocatable`` the healthy ones.

    ``hami_register`` is None where HAMi does not serve the node; ``closed`` is a sentence when
    the node takes no new pods, else empty.
    """

    name: str
    labels: Mapping[str, str]
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    hami_register: str | None
    hami_cordoned: frozenset[str]
    closed: str


def node_facts(node: Mapping[str, Any], tolerated: Collection[str]) -> NodeFacts:
    """``tolerated`` are the keys of taints that notebooks with a GPU tolerate."""
    metadata, status = mapping(node, "metadata"), mapping(node, "status")
    annotations = mapping(metadata, "annotations")
    register = text(annotations, HAMI_REGISTER)
    # HAMi's scheduler writes so when its plugin there has gone; the registration stays.
    gone = text(annotations, HAMI_HANDSHAKE).startswith("Deleted")
    name = text(metadata, "name")
    return NodeFacts(
        name=name,
        labels={
            key: value
            for key, value in mapping(metadata, "labels").items()
            if isinstance(value, str) and (key in _LABELS or _is_of_mig(key))
        },
        capacity=_gpu_resources(status, "capacity"),
        allocatable=_gpu_resources(status, "allocatable"),
        hami_register=register if register and not gone else None,
        hami_cordoned=frozenset(
            uuid.strip() for uuid in text(annotations, HAMI_CORDON).split(",") if uuid.strip()
        ),
        closed=_why_closed(name, mapping(node, "spec"), status, tolerated),
    )


def _is_of_mig(label: str) -> bool:
    return label.startswith(MIG) and label.endswith(_LABELS_OF_MIG)


def is_gpu_resource(name: str) -> bool:
    return name in (GPU, SHARED_GPU) or name.startswith(MIG)


def _gpu_resources(status: Mapping[str, Any], name: str) -> dict[str, int]:
    found = {
        resource: whole_number(quantity)
        for resource, quantity in mapping(status, name).items()
        if is_gpu_resource(resource)
    }
    return {resource: count for resource, count in found.items() if count}


def _why_closed(
    name: str, spec: Mapping[str, Any], status: Mapping[str, Any], tolerated: Collection[str]
) -> str:
    if spec.get("unschedulable") is True:
        return f"Node {name} is cordoned."
    ready = [c for c in rows(status, "conditions") if c.get("type") == "Ready"]
    if not any(condition.get("status") == "True" for condition in ready):
        return f"Node {name} is not ready."
    for taint in rows(spec, "taints"):
        key = text(taint, "key")
        if taint.get("effect") in ("NoSchedule", "NoExecute") and key not in tolerated:
            if key.startswith(_OF_CONDITIONS):
                return f"Node {name} takes no pods: Kubernetes has tainted it with {key}."
            return f"Node {name} has the taint {key}, which notebooks do not tolerate."
    return ""
