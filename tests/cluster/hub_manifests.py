"""Hub manifests: what ``hub_config/kubernetes`` puts into a cluster, ready to be sent.

``shipped(namespace)`` gives the objects of our chart without needing helm: its templates
only fill in values, and ``test_hub_config`` holds this reading against helm's own.
``chart_rights(namespace)`` is the Role that Zero to JupyterHub's chart gives its hub.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api_client import ApiClient

CONFIG = Path(__file__).resolve().parents[2] / "hub_config" / "kubernetes"
CHART = CONFIG / "chart"
RBAC = "rbac.authorization.k8s.io"
# Where objects of a kind are created.
_PLACES = {
    "Role": f"/apis/{RBAC}/v1/namespaces/{{}}/roles",
    "RoleBinding": f"/apis/{RBAC}/v1/namespaces/{{}}/rolebindings",
    "ClusterRole": f"/apis/{RBAC}/v1/clusterroles",
    "ClusterRoleBinding": f"/apis/{RBAC}/v1/clusterrolebindings",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "Queue": "/apis/scheduling.run.ai/v2/queues",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
}


def path_of(manifest: dict[str, Any], namespace: str) -> str:
    """Where to POST it."""
    return _PLACES[manifest["kind"]].format(manifest["metadata"].get("namespace", namespace))


def shipped(namespace: str) -> list[dict[str, Any]]:
    """Our chart's objects for a hub in this namespace."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = {".Release.Namespace": namespace} | {
        f".Values.{name}": str(value) for name, value in values.items()
    }
    found: list[dict[str, Any]] = []
    for path in sorted((CHART / "templates").glob("*.yaml")):
        text = re.sub(r"\{\{\s*(\S+)\s*\}\}", lambda gap: known[gap[1]], path.read_text())
        found += [manifest for manifest in yaml.safe_load_all(text) if manifest]
    return found


def chart_rights(namespace: str, account: str = "hub") -> list[dict[str, Any]]:
    """What KubeSpawner needs. Source: jupyterhub/zero-to-jupyterhub-k8s,
    jupyterhub/templates/hub/rbac.yaml (48ea50e)."""
    reads = ["get", "watch", "list"]
    mine = ["pods", "persistentvolumeclaims", "secrets", "services"]
    metadata = {"name": "hub", "namespace": namespace}
    return [
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": [""], "resources": mine, "verbs": [*reads, "create", "delete"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": reads},
        ]},
        {
            "apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": metadata,
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "hub"},
        },
    ]


def give_rights(api: ApiClient, namespace: str) -> None:
    """Let ``namespace/hub`` do what a deployed hub may do, and no more."""
    for manifest in [*chart_rights(namespace), *shipped(namespace)]:
        if manifest["kind"] != "NetworkPolicy":
            api.post(path_of(manifest, namespace), manifest)
