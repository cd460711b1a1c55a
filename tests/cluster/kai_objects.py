"""KAI objects: what an installation of the KAI Scheduler leaves in a cluster.

The resource definition of its queues, a parent and a leaf queue, and its priority classes.
Its scheduler is not among them: a pod that names it stays Pending.

Sources: KAI-scheduler v0.17.0 (d5bc503), deployments/kai-scheduler/crds/ (queues) and
templates/priorityclasses/. The queue's schema here accepts any field.
"""

from __future__ import annotations

from typing import Any

GROUP = "scheduling.run.ai"
QUEUES = f"/apis/{GROUP}/v2/queues"
# Preemptible below 100.
PRIORITIES = {"train": 50, "build-preemptible": 75, "build": 100, "inference": 125}


def installation() -> list[tuple[str, list[dict[str, Any]]]]:
    """Pairs of a path and the objects to create there, in order."""
    definition = {
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
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": True,
                }},
            }],
        },
    }
    classes = [
        {"metadata": {"name": name}, "value": value} for name, value in PRIORITIES.items()
    ]
    return [
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", [definition]),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", classes),
    ]


def queue(name: str, parent: str = "", gpus: float = -1) -> dict[str, Any]:
    """A Queue; ``gpus`` is its quota and limit, -1 for no limit. Pods go to leaves only."""
    unlimited = {"quota": -1, "limit": -1, "overQuotaWeight": 1}
    resources = {
        "cpu": unlimited,
        "memory": unlimited,
        "gpu": {"quota": gpus, "limit": gpus, "overQuotaWeight": 1},
    }
    spec = {"resources": resources} | ({"parentQueue": parent} if parent else {})
    return {
        "apiVersion": f"{GROUP}/v2", "kind": "Queue", "metadata": {"name": name}, "spec": spec,
    }
