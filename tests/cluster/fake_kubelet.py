"""Fake kubelet: says of pods on nodes that are only objects what a kubelet would say.

A pod that the scheduler bound becomes Running and Ready, with a loopback address of its own;
a pod that is to be deleted is deleted for good, as a kubelet does when the containers have
ended. No container runs. Pods on other nodes are left alone, so a real kubelet may work
beside it.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import requests

from tests.cluster.api_client import ApiClient, ApiError, Json

# A watch is opened anew after this time, so that a closed kubelet ends soon.
WATCH_SECONDS = 1
FIRST_ADDRESS = ipaddress.IPv4Address("127.64.0.1")


def always(pod: Json) -> bool:
    return True


def never(pod: Json) -> bool:
    return False


class FakeKubelet:
    """A thread at one API server, for the node names in ``nodes``.

    ``starts`` and ``ends`` are asked of every pod and may be replaced by a test: a pod for
    which ``starts`` is false stays in ContainerCreating, one for which ``ends`` is false stays
    Terminating. ``look_again`` makes it ask about all pods once more.

    A pod's address is in 127.64.0.0/10, so a server that listens on 0.0.0.0 answers for it.
    """

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self.nodes: set[str] = set()
        self.starts: Callable[[Json], bool] = always
        self.ends: Callable[[Json], bool] = always
        self._addresses: dict[str, str] = {}
        self._closed = threading.Event()
        self._look_again = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="fake-kubelet")
        self._thread.start()

    def look_again(self) -> None:
        """Ask ``starts`` and ``ends`` of all pods again, within WATCH_SECONDS."""
        self._look_again.set()

    def close(self) -> None:
        """Leave every pod alone from now on. The thread itself ends a moment later."""
        self.nodes.clear()
        self._closed.set()

    def _run(self) -> None:
        version = ""
        while not self._closed.is_set():
            try:
                if not version or self._look_again.is_set():
                    self._look_again.clear()
                    listed = self.api.get("/api/v1/pods")
                    version = listed["metadata"]["resourceVersion"]
                    for pod in listed["items"]:
                        self._tend(pod)
                for event in self.api.watch("/api/v1/pods", seconds=WATCH_SECONDS, version=version):
                    if event["type"] == "ERROR":  # 410: the version is too old
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "DELETED":
                        self._tend(event["object"])
            except (ApiError, requests.RequestException, OSError):
                # The API server is away: tests take it away on purpose.
                version = ""
                time.sleep(0.2)

    def _tend(self, pod: Json) -> None:
        meta = pod["metadata"]
        if pod["spec"].get("nodeName") not in self.nodes:
            return
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        with suppress(ApiError):  # changed or deleted meanwhile: the next event tells
            if meta.get("deletionTimestamp"):
                if self.ends(pod):
                    same = {"preconditions": {"uid": meta["uid"]}, "gracePeriodSeconds": 0}
                    self.api.request("DELETE", path, same)
            elif pod["status"].get("phase") == "Pending" and self.starts(pod):
                status = running_status(pod, self._address_of(meta["uid"]))
                self.api.patch(f"{path}/status", {"status": status}, kind="strategic")

    def _address_of(self, uid: str) -> str:
        return self._addresses.setdefault(uid, str(FIRST_ADDRESS + len(self._addresses)))


def running_status(pod: Json, address: str) -> dict[str, Any]:
    """The status of a pod whose containers all run and are ready, since now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now}
        for kind in ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    ]
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "containerID": f"fake://{pod['metadata']['uid']}/{container['name']}",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": now}},
        }
        for container in pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "startTime": now,
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions,
        "containerStatuses": containers,
    }
