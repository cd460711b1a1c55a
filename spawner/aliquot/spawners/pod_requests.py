"""Requests to the API server about one server's pod, beside those that KubeSpawner makes.

Plain objects go out and come in, so that no field depends on the version of the client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from kubernetes_asyncio import client
from kubernetes_asyncio.client.rest import ApiException
from kubespawner.clients import shared_client

# Answers of an API server that is busy or coming up: asked again, for as long as KubeSpawner
# asks again after a timeout (``k8s_api_request_retry_timeout``).
_AGAIN = (429, 500, 502, 503, 504)
_OVER = ("Succeeded", "Failed")
_RESOURCE_API = ("resource.k8s.io", "v1")


class FinishedPod(dict[str, Any]):
    """A finished manifest, with the two things of a V1Pod that KubeSpawner logs. The manifest
    itself is not logged: it holds the server's token."""

    @property
    def metadata(self) -> Any:
        return SimpleNamespace(name=self["metadata"]["name"])

    def to_str(self) -> str:
        return f"pod {self['metadata']['name']}"


def is_worth_another_try(error: Exception) -> bool:
    return not isinstance(error, ApiException) or error.status in _AGAIN


def message_of(error: Exception) -> str:
    """What the API server says in words; the whole of it is JSON with headers."""
    if not isinstance(error, ApiException):
        return f"{type(error).__name__}: {error}"
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, TypeError, KeyError):
        message = error.reason
    return f"{error.status}: {message}"


def selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def carries(pod: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a pod, as the watch has it, has all these labels."""
    found = (pod["metadata"].get("labels") or {}) if pod is not None else {}
    return bool(labels) and labels.items() <= found.items()


async def create_claim_template(namespace: str, body: dict[str, Any], seconds: float) -> bool:
    """One try, for KubeSpawner's backoff: False when it is worth another.

    Raises ApiException for an answer that will not change.
    """
    api = shared_client("CustomObjectsApi")
    create = api.create_namespaced_custom_object(
        *_RESOURCE_API, namespace, "resourceclaimtemplates", body
    )
    try:
        await asyncio.wait_for(create, seconds)
    except TimeoutError:
        return False
    except ApiException as error:
        # 409: its name is the attempt's, so the answer to an earlier try was lost.
        if error.status == 409:
            return True
        if is_worth_another_try(error):
            return False
        raise
    return True


async def claims_of(pod: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """The resource claims that were made for a pod."""
    statuses = pod["status"].get("resourceClaimStatuses") or []
    names = [one["resourceClaimName"] for one in statuses if one.get("resourceClaimName")]
    api = shared_client("CustomObjectsApi")
    return [
        await api.get_namespaced_custom_object(*_RESOURCE_API, namespace, "resourceclaims", name)
        for name in names
    ]


async def delete_pods(
    api: Any, namespace: str, labels: Mapping[str, str], grace_seconds: int
) -> tuple[list[Any], list[Any]]:
    """Delete the pods with these labels; the metadata of those that were asked to end, and the
    pods that had been asked before and are still there. What is over holds nothing and stays."""
    found = await api.list_namespaced_pod(namespace, label_selector=selector(labels))
    stuck = [pod for pod in found.items if pod.metadata.deletion_timestamp is not None]
    ended = [
        pod.metadata
        for pod in found.items
        if pod.metadata.deletion_timestamp is None and pod.status.phase not in _OVER
    ]
    for metadata in ended:
        # By uid: a later pod of the same name is not the one that is meant.
        options = client.V1DeleteOptions(
            grace_period_seconds=grace_seconds,
            preconditions=client.V1Preconditions(uid=metadata.uid),
        )
        try:
            await api.delete_namespaced_pod(metadata.name, metadata.namespace, body=options)
        except ApiException as error:
            if error.status not in (404, 409):
                raise
    return ended, stuck
