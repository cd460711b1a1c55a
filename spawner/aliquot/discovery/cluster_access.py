"""Cluster access: what the hub's service account may do, asked of the API server itself.

The rights are those that ``hub_config/kubernetes/chart`` grants and those of KubeSpawner's own
Role for pods; a test holds the list against the chart. Asking needs no right (Kubernetes,
SelfSubjectAccessReview), and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError
from kubernetes_asyncio import client, config

from aliquot.discovery.kubernetes.api import configure
from aliquot.discovery.kubernetes.failures import ApiFailure

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Right:
    """``everywhere`` is for all namespaces, or for what has none; otherwise the hub's own.
    ``is_for`` says what does not work without it."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    everywhere: bool
    is_for: str


_FOLLOW = ("list", "watch")
_READ = ("get", *_FOLLOW)
_DRA = "resource.k8s.io"
RIGHTS = (
    Right("", "nodes", _FOLLOW, True, "seeing which GPUs there are"),
    Right("", "pods", _FOLLOW, True, "seeing who else holds GPUs"),
    Right(_DRA, "resourceslices", _FOLLOW, True, "GPUs of DRA drivers"),
    Right(_DRA, "deviceclasses", _FOLLOW, True, "GPUs of DRA drivers"),
    Right(_DRA, "resourceclaims", _FOLLOW, True, "GPUs of DRA drivers"),
    Right(_DRA, "resourceclaimtemplates", ("create",), False, "DRA notebooks"),
    Right(_DRA, "resourceclaims", ("get",), False, "reading what a DRA notebook was given"),
    Right("", "pods", (*_READ, "create", "delete"), False, "starting and stopping notebooks"),
    Right("", "events", _READ, False, "telling why a notebook waits"),
)


@dataclass(frozen=True, slots=True)
class Access:
    """``denied`` are the rights that lack, each with the verbs that lack of it."""

    version: str
    namespace: str
    denied: tuple[Right, ...]


def look() -> Access:
    """Blocks; call it off an event loop.

    Raises:
        ApiFailure: no cluster is known or its API server does not answer.
    """
    try:
        return asyncio.run(_look())
    except client.ApiException as error:
        raise ApiFailure(f"answered {error.status} {error.reason}", error.status) from error
    except (ClientError, OSError) as error:
        raise ApiFailure(f"cannot be reached ({error or type(error).__name__})") from error


async def _look() -> Access:
    configuration = client.Configuration()
    await configure(configuration)
    namespace = await asyncio.to_thread(_own_namespace)
    async with client.ApiClient(configuration) as api:
        version = await client.VersionApi(api).get_code(_request_timeout=_REQUEST_SECONDS)
        reviews = client.AuthorizationV1Api(api)
        asked = [(right, verb) for right in RIGHTS for verb in right.verbs]
        answers = await asyncio.gather(
            *(_is_allowed(reviews, right, verb, namespace) for right, verb in asked)
        )
    lacking = [one for one, allowed in zip(asked, answers, strict=True) if not allowed]
    return Access(version.git_version, namespace, tuple(_together(lacking)))


async def _is_allowed(
    reviews: client.AuthorizationV1Api, right: Right, verb: str, namespace: str
) -> bool:
    attributes = client.V1ResourceAttributes(
        group=right.group,
        resource=right.resource,
        verb=verb,
        namespace=None if right.everywhere else namespace,
    )
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = await reviews.create_self_subject_access_review(
        client.V1SelfSubjectAccessReview(spec=spec), _request_timeout=_REQUEST_SECONDS
    )
    return bool(review.status.allowed)


def _together(lacking: list[tuple[Right, str]]) -> Iterator[Right]:
    for right in RIGHTS:
        if verbs := tuple(verb for one, verb in lacking if one is right):
            yield Right(right.group, right.resource, verbs, right.everywhere, right.is_for)


def _own_namespace() -> str:
    """Where the hub runs, or what KUBECONFIG's context names. KubeSpawner's default too."""
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        pass
    try:
        _, active = config.list_kube_config_contexts()
    except (config.ConfigException, OSError):
        return "default"
    return (active or {}).get("context", {}).get("namespace") or "default"
