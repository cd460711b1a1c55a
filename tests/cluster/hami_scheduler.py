"""HAMi's real scheduler at the tests' control plane, where somebody has built it.

As HAMi's chart does it: a second kube-scheduler, called ``hami-scheduler``, asks HAMi's program
as its extender where a pod fits and lets it bind. Nobody plays HAMi's webhook, so a pod must
name the scheduler itself; the part of its device plugin in a start is played here.

Source: HAMi 4707fb0, cmd/scheduler and charts/hami (scheduler's config maps).
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.cluster import binaries
from tests.cluster.api_client import ApiClient, ApiError, Json
from tests.cluster.control_plane import ControlPlane, die_with_parent, free_port
from tests.cluster.pods import pod_path

VARIABLE = "ALIQUOT_HAMI_SCHEDULER"
NAME = "hami-scheduler"
RESOURCES = ("gpu", "gpumem", "gpucores", "gpumem-percentage", "priority")
_READY_SECONDS = 40
_PHASE = "hami.io/bind-phase"

_DEVICES = {
    "nvidia": {
        "resourceCountName": "nvidia.com/gpu",
        "resourceMemoryName": "nvidia.com/gpumem",
        "resourceMemoryPercentageName": "nvidia.com/gpumem-percentage",
        "resourceCoreName": "nvidia.com/gpucores",
        "resourcePriorityName": "nvidia.com/priority",
        "defaultMemory": 0,
        "defaultCores": 0,
        "defaultGPUNum": 1,
        "memoryFactor": 1,
        "deviceSplitCount": 100,
        "deviceMemoryScaling": 1,
        "deviceCoreScaling": 1,
    }
}


class HamiScheduler:
    """Both programs and the device plugin's part at one control plane, until ``close``.

    With ``plugin_answers`` false a pod stays in the middle of its start, and HAMi lets no other
    begin on that node.
    """

    def __init__(self, cluster: ControlPlane, program: Path, folder: Path) -> None:
        self.folder = folder
        self.plugin_answers = True
        self._running: list[subprocess.Popen[bytes]] = []
        self._closed = threading.Event()
        # Its own client: it runs in its own thread.
        api = ApiClient(cluster.url, cluster.admin_token, cluster.ca_file)
        self._plugin = threading.Thread(target=self._play_plugin, args=(api,), daemon=True)
        try:
            self._start(cluster, program)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._closed.set()
        for process in reversed(self._running):
            process.kill()
            process.wait()

    def _start(self, cluster: ControlPlane, program: Path) -> None:
        extender, metrics, secure = free_port(), free_port(), free_port()
        devices, scheduling = self.folder / "devices.yaml", self.folder / "scheduling.yaml"
        devices.write_text(yaml.safe_dump(_DEVICES))
        scheduling.write_text(yaml.safe_dump(_scheduling(cluster, extender)))
        commands = {
            "hami": [
                str(program),
                f"--http_bind=127.0.0.1:{extender}",
                f"--metrics-bind-address=127.0.0.1:{metrics}",
                f"--scheduler-name={NAME}",
                f"--device-config-file={devices}",
                "--kube-qps=100",
                "--kube-burst=200",
            ],
            "kube-scheduler": [
                str(binaries.find_binaries() / "kube-scheduler"),
                f"--config={scheduling}",
                "--bind-address=127.0.0.1",
                f"--secure-port={secure}",
                f"--cert-dir={self.folder / 'certificates'}",
            ],
        }
        environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
        for name, command in commands.items():
            with (self.folder / f"{name}.log").open("wb") as log:
                self._running.append(
                    subprocess.Popen(
                        command,
                        cwd=self.folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=die_with_parent,
                    )
                )
        _wait(f"http://127.0.0.1:{extender}/healthz", self._running[0], self.folder / "hami.log")
        self._plugin.start()

    def _play_plugin(self, api: ApiClient) -> None:
        while not self._closed.wait(0.1):
            if not self.plugin_answers:
                continue
            for pod in api.list("/api/v1/pods"):
                meta = pod["metadata"]
                phase = meta.get("annotations", {}).get(_PHASE)
                if phase == "allocating" and pod["spec"].get("nodeName"):
                    with suppress(ApiError):  # the pod or its node is gone again
                        finish_start(api, pod)


def finish_start(api: ApiClient, pod: Json) -> None:
    """What HAMi's device plugin does when a container begins: it says so on the pod, and lets
    the next pod come to the node."""
    path = pod_path(pod["metadata"]["namespace"], pod["metadata"]["name"])
    api.patch(path, {"metadata": {"annotations": {_PHASE: "success"}}})
    unlocked = {"metadata": {"annotations": {"hami.io/mutex.lock": None}}}
    api.patch(f"/api/v1/nodes/{pod['spec']['nodeName']}", unlocked)


def _scheduling(cluster: ControlPlane, extender_port: int) -> dict[str, Any]:
    managed = [{"name": f"nvidia.com/{name}", "ignoredByScheduler": True} for name in RESOURCES]
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig)},
        "leaderElection": {"leaderElect": False},
        "podMaxBackoffSeconds": 2,
        "profiles": [{"schedulerName": NAME}],
        "extenders": [
            {
                "urlPrefix": f"http://127.0.0.1:{extender_port}",
                "filterVerb": "filter",
                "bindVerb": "bind",
                "nodeCacheCapable": True,
                "weight": 1,
                "httpTimeout": "30s",
                "managedResources": managed,
            }
        ],
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"HAMi's scheduler did not get ready:\n{log.read_text()[-3000:]}")
