"""The inventory of a large cluster: built whole, kept up to date, and held in memory.

500 nodes of every engine and 5,000 pods, as pages of JSON like those that come from the API
server (managed fields, conditions, volumes and all). A process of its own reads the pages from
disk one by one, parses them and builds the inventory; then it takes one change of a pod after
the other, each as a line of a watch, up to the finished inventory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.rows import Row
from tests.cluster.dra_devices import NVIDIA, device_classes
from tests.cluster.node_shapes import SHAPES, NodeShape

NODES, PODS, CHANGES = 500, 5_000, 300
PAGE_OBJECTS = 250

_MEASURE = """
import gc, json, resource, sys, time
from datetime import UTC, datetime
from pathlib import Path
from aliquot.discovery.kubernetes.list_page import read_page
from aliquot.discovery.kubernetes.state import ClusterState, Kind
from aliquot.discovery.kubernetes import source, watch  # what a hub has loaded anyway
from aliquot.domain.mig_geometry import geometries
geometries()
folder = Path(sys.argv[1])

def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20

def peak_mib():
    # Not ru_maxrss: a child inherits that of the process it was forked from.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

gc.collect()
idle = resident_mib()
state = ClusterState(ledger_mark="0123456789abcdef")
began = time.perf_counter()
for kind in Kind:
    found = {}
    def take(obj):
        name, facts = state.facts(kind, obj)
        if facts is not None:
            found[name] = facts
    for page in sorted(folder.glob(f"{kind.value}-*.json")):
        read_page(page.read_bytes(), take)
    state.replace_all(kind, found)
inventory = state.inventory(datetime.now(UTC))
build_seconds = time.perf_counter() - began
found = None
resident, peak = resident_mib() - idle, peak_mib() - idle
changes, walls = [], []
for line in (folder / "changes").read_bytes().splitlines():
    # The thread's own time: what else runs on the machine is not the inventory's cost.
    began, wall = time.thread_time(), time.perf_counter()
    event = json.loads(line)
    name, facts = state.facts(Kind.PODS, event["object"])
    state.put(Kind.PODS, name, facts if event["type"] != "DELETED" else None)
    inventory = state.inventory(datetime.now(UTC))
    changes.append(time.thread_time() - began)
    walls.append(time.perf_counter() - wall)
print(json.dumps(dict(
    build_seconds=build_seconds, resident=resident, peak=peak, changes=sorted(changes),
    walls=sorted(walls),
    gpus=len(inventory.gpus), held=len(inventory.held), notes=len(inventory.notes),
)))
"""


def run() -> Sequence[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = _write(folder)
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, name],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    found = json.loads(done.stdout)
    changes = found["changes"]
    scale = f"{found['gpus']} GPUs, {found['held']} pieces held, {size / 2**20:.0f} MiB of JSON"
    median = found["walls"][len(changes) // 2] * 1000
    return [
        Row(
            "Inventory of 500 nodes and 5,000 pods",
            found["build_seconds"],
            "s",
            "at most",
            1.0,
            scale,
        ),
        Row(
            "One pod's change, the slowest",
            changes[-1] * 1000,
            "ms",
            "at most",
            5.0,
            f"processor time; median of {CHANGES} changes {median:.2f} ms by the clock",
        ),
        Row(
            "Memory above idle, at its peak",
            found["peak"],
            "MiB",
            "at most",
            60.0,
            f"{found['resident']:.1f} MiB when it is built",
        ),
    ]


def _write(folder: Path) -> int:
    """The pages and the changes on disk; returns how many bytes of pages there are."""
    shapes = [shape for shape in SHAPES.values() if shape.name != "cpu"]
    nodes = {f"node-{i:03}": shapes[i % len(shapes)] for i in range(NODES)}
    slices = [found for name, shape in nodes.items() for found in shape.slices(name)]
    pods = [_pod(i, *node) for i, node in zip(range(PODS), _over(nodes), strict=False)]
    _pages(folder, "nodes", [_node(name, shape) for name, shape in nodes.items()])
    _pages(folder, "resourceslices", slices)
    _pages(folder, "deviceclasses", device_classes())
    _pages(folder, "resourceclaims", list(_claims(nodes)))
    _pages(folder, "pods", pods)
    with (folder / "changes").open("w") as changes:
        for i in range(CHANGES):
            pod = pods[(i * 37) % PODS]
            kind = "DELETED" if i % 2 == 0 else "ADDED"
            changes.write(json.dumps({"type": kind, "object": pod}) + "\n")
    return sum(page.stat().st_size for page in folder.glob("*.json"))


def _over(nodes: dict[str, NodeShape]) -> Iterator[tuple[str, NodeShape]]:
    while True:
        yield from nodes.items()


def _pages(folder: Path, kind: str, objects: list[dict[str, Any]]) -> None:
    for i in range(0, len(objects), PAGE_OBJECTS):
        page = {"metadata": {"resourceVersion": "1"}, "items": objects[i : i + PAGE_OBJECTS]}
        (folder / f"{kind}-{i:06}.json").write_text(json.dumps(page))


def _managed(count: int) -> list[dict[str, Any]]:
    fields = {f"f:field-{i}": {".": {}, "f:value": {}} for i in range(count)}
    return [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:spec": fields}}]


def _node(name: str, shape: NodeShape) -> dict[str, Any]:
    node = shape.node(name)
    node["metadata"]["managedFields"] = _managed(40)
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure")
    node["status"]["conditions"] = [
        *({"type": kind, "status": "False", "message": "kubelet is fine"} for kind in kinds),
        {"type": "Ready", "status": "True", "message": "kubelet is posting ready status"},
    ]
    node["status"]["images"] = [
        {"names": [f"registry.example.com/notebooks/image-{i}@sha256:{i:064x}"], "sizeBytes": i}
        for i in range(50)
    ]
    return node


def _claims(nodes: dict[str, NodeShape]) -> Iterator[dict[str, Any]]:
    for name, shape in nodes.items():
        if shape.kind.value == "dra-nvidia":
            result = {"request": "gpu", "driver": NVIDIA, "pool": name, "device": "gpu-2"}
            yield {
                "metadata": {"name": f"claim-{name}", "namespace": "team"},
                "status": {"allocation": {"devices": {"results": [result]}}},
            }


def _pod(number: int, node: str, shape: NodeShape) -> dict[str, Any]:
    """About every second pod has a GPU; the rest is what else runs in a cluster."""
    resources = [key for key, count in shape.resources().items() if count]
    asks = {resources[0]: "1"} if resources and number % 2 else {}
    limits = {"cpu": "4", "memory": "16Gi", **asks}
    name = f"notebook-{number:05}"
    env = [{"name": f"VARIABLE_{i}", "value": f"value number {i}"} for i in range(25)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": f"team-{number % 40}",
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "resourceVersion": str(number),
            "creationTimestamp": "2026-11-23T12:00:00Z",
            "labels": {"app": "notebook", "user": f"user-{number}", "hub.example.com/x": "y"},
            "annotations": {"example.com/note": "an annotation of some length " * 4},
            "managedFields": _managed(60),
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "notebook",
                    "image": "registry.example.com/notebooks/pytorch:2026.11",
                    "env": env,
                    "resources": {"limits": limits, "requests": limits},
                    "volumeMounts": [
                        {"name": f"volume-{i}", "mountPath": f"/mnt/volume-{i}"} for i in range(6)
                    ],
                }
            ],
            "volumes": [
                {"name": f"volume-{i}", "persistentVolumeClaim": {"claimName": f"{name}-{i}"}}
                for i in range(6)
            ],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T12:00:00Z"}
                for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [
                {"name": "notebook", "ready": True, "containerID": f"containerd://{number:064x}"}
            ],
            "podIPs": [{"ip": "10.0.0.1"}],
        },
    }
