"""Objects of a cluster as the API server writes them, and the inventory that follows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aliquot.discovery.kubernetes.state import ClusterState, Kind
from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import HeldPiece, Inventory
from aliquot.domain.leases import Piece
from tests.cluster.dra_devices import device_classes
from tests.cluster.node_shapes import SHAPES

LEDGER = "0123456789abcdef"
READ_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
READY = {"type": "Ready", "status": "True"}

Objects = list[tuple[Kind, dict[str, Any]]]


def shaped(shape: str, name: str = "n1", **spec: Any) -> dict[str, Any]:
    """A Node of a shape that is ready."""
    node = SHAPES[shape].node(name)
    node["spec"] = spec
    node["status"]["conditions"] = [READY]
    return node


def cluster_of(shape: str, name: str = "n1", **spec: Any) -> Objects:
    """A node of a shape with its slices, and the device classes of all drivers."""
    return [
        (Kind.NODES, shaped(shape, name, **spec)),
        *((Kind.SLICES, found) for found in SHAPES[shape].slices(name)),
        *((Kind.CLASSES, found) for found in device_classes()),
    ]


def pod(
    name: str,
    node: str = "n1",
    *,
    asks: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    phase: str = "Running",
    **spec: Any,
) -> tuple[Kind, dict[str, Any]]:
    namespace, _, short = name.rpartition("/")
    resources = {k: str(v) for k, v in (asks or {}).items()}
    return Kind.PODS, {
        "metadata": {
            "name": short,
            "namespace": namespace or "others",
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "containers": [
                {"name": "c", "resources": {"limits": resources, "requests": resources}}
            ],
            **({"nodeName": node} if node else {}),
            **spec,
        },
        "status": {"phase": phase},
    }


def marks(lease_id: str, *pieces: Piece, ledger: str = LEDGER) -> dict[str, dict[str, str]]:
    """Labels and annotations of a pod of ours."""
    import json

    return {
        "labels": {"aliquot.io/ledger": ledger, "aliquot.io/lease": lease_id},
        "annotations": {"aliquot.io/pieces": json.dumps([p.to_json() for p in pieces])},
    }


def piece(gpu_uuid: str, blocks: int = 100, mig_uuid: str | None = None) -> Piece:
    return Piece(gpu_uuid, "A100-80GB", blocks, 1024, cost_of_blocks(blocks), mig_uuid, None)


def claim(
    name: str,
    driver: str,
    device: str,
    *,
    pod_name: str = "",
    consumed: Any = None,
    **metadata: Any,
) -> tuple[Kind, dict[str, Any]]:
    """A claim that is allocated a device of node n1's pool."""
    result = {"request": "gpu", "driver": driver, "pool": "n1", "device": device}
    if consumed:
        result["consumedCapacity"] = consumed
    return Kind.CLAIMS, {
        "metadata": {"name": name, "namespace": "others", **metadata},
        "status": {
            "allocation": {"devices": {"results": [result]}},
            "reservedFor": [{"resource": "pods", "name": pod_name, "uid": "u"}] if pod_name else [],
        },
    }


def new_state(binding: str = "auto") -> ClusterState:
    engine = None if binding == "auto" else Engine(binding)
    return ClusterState(binding=engine, ledger_mark=LEDGER)


def put(state: ClusterState, objects: Iterable[tuple[Kind, dict[str, Any]]]) -> None:
    for kind, obj in objects:
        state.put(kind, *state.facts(kind, obj))


def inventory_of(*objects: Any, binding: str = "auto", kai: bool = False) -> Inventory:
    """Objects one by one, or lists of them."""
    state = new_state(binding)
    state.put_kai(kai)
    for entry in objects:
        put(state, entry if isinstance(entry, list) else [entry])
    return state.inventory(READ_AT)


def told(held: Iterable[HeldPiece]) -> list[tuple[str, str, int, str | None]]:
    """Where, by whom, how much and under which lease, in a readable order."""
    return sorted((p.mig_uuid or p.gpu_uuid, p.holder, p.blocks, p.lease_id) for p in held)
