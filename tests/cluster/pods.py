"""Pods and claims of tests: the least that the API server accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.cluster.api_client import ApiClient, Json


def pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def make_pod(
    api: ApiClient,
    namespace: str,
    name: str,
    *,
    limits: Mapping[str, str] | None = None,
    template: str = "",
    **spec: Any,
) -> Json:
    """A pod of one container. ``template`` names a ResourceClaimTemplate; ``spec`` is added."""
    container: dict[str, Any] = {
        "name": "notebook", "image": "none", "resources": {"limits": dict(limits or {})},
    }
    body: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 1}
    if template:
        body["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": template}]
        container["resources"]["claims"] = [{"name": "gpu"}]
    manifest = {"metadata": {"name": name}, "spec": body | spec}
    return api.post(f"/api/v1/namespaces/{namespace}/pods", manifest)


def claim_template(
    api: ApiClient,
    namespace: str,
    name: str,
    device_class: str,
    *,
    capacity: Mapping[str, str] | None = None,
    selector: str = "",
) -> Json:
    """A ResourceClaimTemplate for one device; ``selector`` is a CEL expression."""
    exactly: dict[str, Any] = {"deviceClassName": device_class}
    if capacity:
        exactly["capacity"] = {"requests": dict(capacity)}
    if selector:
        exactly["selectors"] = [{"cel": {"expression": selector}}]
    requests = [{"name": "gpu", "exactly": exactly}]
    return api.post(
        f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaimtemplates",
        {"metadata": {"name": name}, "spec": {"spec": {"devices": {"requests": requests}}}},
    )


def waiting_message(pod: Json) -> str:
    """What the scheduler says of a pod that it could not place; empty otherwise."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("message", "")
    return ""
