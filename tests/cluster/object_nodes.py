"""Object nodes: nodes that exist in the API server alone, for scale and for every engine.

The real scheduler places pods on them by real resources and real DRA allocation; a
FakeKubelet lets those pods run. Everything made here is removed by ``close``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.cluster import dra_devices, kai_objects
from tests.cluster.api_client import ApiClient, ApiError, Json
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fake_kubelet import FakeKubelet
from tests.cluster.node_shapes import SHAPES, Kind

NODES = "/api/v1/nodes"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
DRA = (Kind.DRA_NVIDIA, Kind.DRA_NVIDIA_SHARES, Kind.DRA_HAMI)


def condition(status: str) -> dict[str, Any]:
    """The Ready condition. Only a kubelet writes "True"; the controller writes "Unknown"."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Ready",
        "status": status,
        "reason": {"True": "KubeletReady", "False": "KubeletNotReady"}.get(
            status, "NodeStatusUnknown"
        ),
        "message": "an object, without a kubelet",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


class ObjectNodes:
    """The nodes of one test at one control plane."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.api = cluster.api
        # Its own client: it runs in its own thread.
        self.kubelet = FakeKubelet(ApiClient(cluster.url, cluster.admin_token, cluster.ca_file))
        self._made: list[str] = []
        self._numbers = itertools.count(1)

    def add(self, shape: str, name: str = "", *, labels: Mapping[str, str] | None = None) -> str:
        """A Ready node of a shape of ``node_shapes.SHAPES``; returns its name.

        What belongs to the shape's engine in the cluster (device classes, KAI's queues) is
        installed with the first node that needs it.
        """
        kind = SHAPES[shape].kind
        name = name or f"{shape}-{next(self._numbers)}"
        if kind in DRA:
            self.install(CLASSES, dra_devices.device_classes())
        if kind is Kind.KAI:
            self._install_kai()
        manifest = SHAPES[shape].node(name)
        manifest["metadata"]["labels"] |= labels or {}
        self.add_manifest(manifest)
        for resource_slice in SHAPES[shape].slices(name):
            self._create(SLICES, resource_slice)
        return name

    def add_manifest(self, manifest: Json) -> str:
        """A Ready node as written, its status included; returns its name."""
        name = manifest["metadata"]["name"]
        manifest["status"]["conditions"] = [condition("True")]
        self.kubelet.nodes.add(name)
        self._create(NODES, manifest)
        # Every new node gets not-ready until the controller has looked at it.
        taints = manifest.get("spec", {}).get("taints", [])
        self.api.patch(f"{NODES}/{name}", {"spec": {"taints": taints}})
        return name

    def install(self, path: str, objects: list[Json]) -> None:
        """Create cluster-wide objects that are not there yet; removed by ``close``."""
        for made in objects:
            try:
                self._create(path, made)
            except ApiError as error:
                if error.code != 409:
                    raise

    def set_ready(self, name: str, status: str) -> None:
        """``status`` is "True", or "False" for a kubelet that says it is not ready.

        The real controller taints the node by it, and evicts pods that do not tolerate that.
        """
        ready = {"status": {"conditions": [condition(status)]}}
        self.api.patch(f"{NODES}/{name}/status", ready, kind="strategic")

    def lose(self, name: str) -> None:
        """The machine is gone without a word: Unknown, and nobody tends its pods.

        Kubernetes would find out after the heartbeat's time; here it knows at once. Its pods
        are evicted within 5 s after their toleration (300 s unless they say otherwise) and
        then stay Terminating; with no Ready node left, nobody is evicted. Only a
        controller that finds out by itself (``heartbeat_seconds``) also calls the pods not
        Ready.
        """
        self.kubelet.nodes.discard(name)
        self.set_ready(name, "Unknown")

    def recover(self, name: str) -> None:
        """The lost machine is back and looks after its pods again."""
        self.kubelet.nodes.add(name)
        self.set_ready(name, "True")
        self.kubelet.look_again()

    def cordon(self, name: str, *, on: bool = True) -> None:
        self.api.patch(f"{NODES}/{name}", {"spec": {"unschedulable": on or None}})

    def taint(self, name: str, key: str, effect: str = "NoSchedule") -> None:
        """Add one taint to the node's own."""
        there = self.api.get(f"{NODES}/{name}")["spec"].get("taints", [])
        taints = [*there, {"key": key, "effect": effect}]
        self.api.patch(f"{NODES}/{name}", {"spec": {"taints": taints}})

    def remove(self, name: str) -> None:
        """Delete the node and its ResourceSlices, as when a machine is taken away."""
        self.kubelet.nodes.discard(name)
        self.api.delete(f"{NODES}/{name}")
        for path in [p for p in self._made if p.startswith(f"{SLICES}/{name}-")]:
            self.api.delete(path)

    def close(self) -> None:
        """Delete everything made here and wait until the next test cannot meet it."""
        self.kubelet.close()
        for path in reversed(self._made):
            self.api.delete(path)
        for path in self._made:
            # A definition goes when its objects have gone, and refuses new ones until then.
            self.api.wait_until(path, lambda seen: not seen)
        self._made.clear()

    def _install_kai(self) -> None:
        self.install(kai_objects.PRIORITY_CLASSES, kai_objects.priority_classes())
        definition = kai_objects.definition()
        self.install(kai_objects.DEFINITIONS, [definition])
        self.api.wait_until(
            f"{kai_objects.DEFINITIONS}/{definition['metadata']['name']}",
            lambda seen: any(
                c["type"] == "Established" and c["status"] == "True"
                for c in seen["status"].get("conditions") or []
            ),
        )
        self.api.wait_until(kai_objects.QUEUES, bool)
        self.install(kai_objects.QUEUES, kai_objects.default_queues())

    def _create(self, path: str, made: Json) -> None:
        self.api.post(path, made)
        self._made.append(f"{path}/{made['metadata']['name']}")
