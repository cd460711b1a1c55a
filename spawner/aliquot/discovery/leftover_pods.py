"""Leftover pods: those of a lease that is over, found by their labels and deleted.

The service runs in the hub's pod and has its service account; outside of a cluster
``KUBECONFIG`` says where. It blocks on a loop of its own, so it is called off the event loop.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import ClientError
from kubernetes_asyncio import client

from aliquot.discovery.kubernetes.api import configure
from aliquot.discovery.kubernetes.failures import ApiFailure
from aliquot.domain.pod_marks import LEASE, LEDGER

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 10.0
_GONE = (404, 409)  # gone, or a later pod of the same name


class LeftoverPods:
    """In the cluster. ``ledger_mark`` is the deployment's; see ``domain.pod_marks``."""

    def __init__(self, ledger_mark: str) -> None:
        self._ledger_mark = ledger_mark

    def end(self, lease_id: str, spawner_id: int | None = None) -> int:
        try:
            return asyncio.run(self._end(lease_id))
        except (client.ApiException, ApiFailure, ClientError, OSError) as error:
            # It counts as held while it is there, and the next pass asks again.
            log.warning("the pod of lease %s cannot be deleted now: %s", lease_id, _said(error))
            return 0

    async def _end(self, lease_id: str) -> int:
        async with client.ApiClient(await _configuration()) as api:
            pods = client.CoreV1Api(api)
            # All namespaces: the Hub may give each user one.
            found = await pods.list_pod_for_all_namespaces(
                label_selector=f"{LEDGER}={self._ledger_mark},{LEASE}={lease_id}",
                _request_timeout=_REQUEST_SECONDS,
            )
            ended = 0
            for pod in found.items:
                if pod.metadata.deletion_timestamp is not None:
                    continue  # it has been asked already
                ended += await _delete(pods, pod.metadata)
            return ended


async def _delete(pods: client.CoreV1Api, metadata: client.V1ObjectMeta) -> int:
    # By uid: a user who starts again meanwhile gets a pod of the same name.
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=metadata.uid))
    try:
        await pods.delete_namespaced_pod(
            metadata.name, metadata.namespace, body=options, _request_timeout=_REQUEST_SECONDS
        )
    except client.ApiException as error:
        if error.status in _GONE:
            return 0
        raise
    log.warning("left-over pod %s/%s deleted", metadata.namespace, metadata.name)
    return 1


async def _configuration() -> client.Configuration:
    found = client.Configuration()
    await configure(found)
    return found


def _said(error: Exception) -> str:
    if isinstance(error, client.ApiException):
        return f"the API server answered {error.status} {error.reason}"
    return f"{type(error).__name__}: {error}"
