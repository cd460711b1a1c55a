"""KAI objects: what an installation of the KAI Scheduler leaves in a cluster.

The resource definition of its queues with the two queues that come with it, and its priority
classes. Its scheduler is not among them: a pod that names it stays Pending.

Sources: NVIDIA/KAI-Scheduler 72de64f, deployments/kai-scheduler: crds/scheduling.run.ai_queues,
templates/priorityclasses, values.yaml (defaultQueue); values of the classes: KAI-scheduler
v0.17.0 (d5bc503).
"""

from __future__ import annotations

from typing import Any

GROUP = "scheduling.run.ai"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
QUEUES = f"/apis/{GROUP}/v2/queues"
PRIORITY_CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
# Preemptible below 100.
PRIORITIES = {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}


def priority_classes() -> list[dict[str, Any]]:
    return [{"metadata": {"name": name}, "value": value} for name, value in PRIORITIES.items()]


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition of Queue, with the fields of its spec."""
    numbers = {
        name: {"type": "number"} for name in ("quota", "limit", "overQuotaWeight")
    }
    resource = {"type": "object", "properties": numbers}
    spec = {
        "displayName": {"type": "string"},
        "parentQueue": {"type": "string"},
        "preemptMinRuntime": {"type": "string"},
        "reclaimMinRuntime": {"type": "string"},
        "priority": {"type": "integer"},
        "resources": {
            "type": "object",
            "properties": dict.fromkeys(("cpu", "gpu", "memory"), resource),
        },
    }
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": spec},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "metadata": {"name": f"queues.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"kind": "Queue", "plural": "queues", "singular": "queue"},
            "scope": "Cluster",
            "versions": [{
                "name": "v2",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }


def default_queues() -> list[dict[str, Any]]:
    return [queue("default-parent-queue"), queue("default-queue", "default-parent-queue")]


def queue(
    name: str, parent: str = "", *, gpu_quota: float = 0, gpu_limit: float = -1
) -> dict[str, Any]:
    """A Queue in cards; -1 is unlimited. Pods go to leaves only."""
    free = {"quota": 0, "limit": -1, "overQuotaWeight": 1}
    cards = {"quota": gpu_quota, "limit": gpu_limit, "overQuotaWeight": 1}
    spec: dict[str, Any] = {"resources": {"cpu": free, "memory": free, "gpu": cards}}
    if parent:
        spec["parentQueue"] = parent
    return {
        "apiVersion": f"{GROUP}/v2", "kind": "Queue", "metadata": {"name": name}, "spec": spec,
    }
