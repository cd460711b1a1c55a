"""A device plugin for tests: hands out the GPUs and MIG devices of an NVML scenario.

    python -m tests.cluster.device_plugin FOLDER SCENARIO [--single] [--replicas N]

Stands in for NVIDIA's device plugin and for its container runtime. It talks to a real kubelet
over the real API, and answers Allocate with `NVIDIA_VISIBLE_DEVICES` as NVIDIA's does, and
with what the runtime would do on reading that: the NVML and CUDA libraries (the stand-ins)
are mounted, and show the named devices alone. `CUDA_VISIBLE_DEVICES` is left to others.

A process of its own, so that gRPC's threads and a test's forks never meet. FOLDER is the
kubelet's `device-plugins` folder. Beside the scenario, in its folder,

- ``unhealthy`` may name UUIDs, one a line, that are reported Unhealthy from then on;
- ``allocations.jsonl`` gets a line ``{"resource": …, "devices": […]}`` for each container.

``--single`` and ``--replicas`` are told in offered_devices.py.

Source: NVIDIA/k8s-device-plugin 1b826ac, internal/plugin (one server a resource, registered
again when the kubelet makes its socket anew).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from tests.cluster import device_plugin_api as api
from tests.cluster.offered_devices import devices_of
from tests.nvml_standin import library

LIBRARIES_INSIDE = "/run/nvidia-standin/lib"
MACHINE_INSIDE = "/run/nvidia-standin/machine"
LOOK_SECONDS = 0.1
_UNHEALTHY = "unhealthy"
_ALLOCATIONS = "allocations.jsonl"


class ResourceServer:
    """Serves one resource at one socket until ``stop``."""

    def __init__(self, folder: Path, scenario: Path, resource: str, ids: list[str]) -> None:
        self.folder = folder
        self.scenario = scenario
        self.resource = resource
        self.ids = ids
        self.endpoint = f"test-{resource.replace('/', '_')}.sock"
        self._ended = threading.Event()
        self._libraries = library.environment(scenario)["LD_LIBRARY_PATH"].split(":")[0]
        self._server = self._serve()

    def _serve(self) -> grpc.Server:
        handlers = {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: api.DevicePluginOptions(),
                api.Empty.FromString, api.DevicePluginOptions.SerializeToString,
            ),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self._list_and_watch,
                api.Empty.FromString, api.ListAndWatchResponse.SerializeToString,
            ),
            "Allocate": grpc.unary_unary_rpc_method_handler(
                self._allocate,
                api.AllocateRequest.FromString, api.AllocateResponse.SerializeToString,
            ),
        }  # fmt: skip
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(api.PLUGIN_SERVICE, handlers),)
        )
        socket = self.folder / self.endpoint
        socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        return server

    def register(self, channel: grpc.Channel) -> None:
        """Tell the kubelet of this resource. Raises grpc.RpcError when it refuses."""
        call = channel.unary_unary(
            api.REGISTER, api.RegisterRequest.SerializeToString, api.Empty.FromString
        )
        request = api.RegisterRequest(
            version=api.VERSION, endpoint=self.endpoint, resource_name=self.resource
        )
        call(request, timeout=10)

    def stop(self) -> None:
        self._ended.set()
        self._server.stop(grace=None)

    def _unhealthy(self) -> set[str]:
        place = self.scenario.with_name(_UNHEALTHY)
        return set(place.read_text().split()) if place.exists() else set()

    def _list_and_watch(self, _request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        told: set[str] | None = None
        while context.is_active() and not self._ended.is_set():
            unhealthy = self._unhealthy()
            if unhealthy != told:
                told = unhealthy
                yield api.ListAndWatchResponse(
                    devices=[
                        api.Device(
                            ID=name,
                            health=api.UNHEALTHY if _uuid(name) in unhealthy else api.HEALTHY,
                        )
                        for name in self.ids
                    ]
                )
            self._ended.wait(LOOK_SECONDS)

    def _allocate(self, request: Any, _context: grpc.ServicerContext) -> Any:
        answers = []
        for container in request.container_requests:
            uuids = sorted({_uuid(name) for name in container.devices_ids})
            visible = ",".join(uuids)
            with self.scenario.with_name(_ALLOCATIONS).open("a") as log:
                log.write(json.dumps({"resource": self.resource, "devices": uuids}) + "\n")
            answers.append(api.ContainerAllocateResponse(
                envs={
                    "NVIDIA_VISIBLE_DEVICES": visible,
                    "ALIQUOT_NVML_VISIBLE": visible,
                    "ALIQUOT_NVML_SCENARIO": f"{MACHINE_INSIDE}/{self.scenario.name}",
                    "LD_LIBRARY_PATH": LIBRARIES_INSIDE,
                },
                mounts=[
                    _read_only(LIBRARIES_INSIDE, Path(self._libraries)),
                    # The folder, not the file: a scenario that is replaced shows inside too.
                    _read_only(MACHINE_INSIDE, self.scenario.parent),
                ],
            ))  # fmt: skip
        return api.AllocateResponse(container_responses=answers)


def _uuid(name: str) -> str:
    return name.split("::")[0]


def _read_only(inside: str, outside: Path) -> Any:
    return api.Mount(container_path=inside, host_path=str(outside), read_only=True)


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("scenario", type=Path)
    arguments.add_argument("--single", action="store_true")
    arguments.add_argument("--replicas", type=int, default=1)
    given = arguments.parse_args()
    offered = devices_of(
        given.scenario.read_text("utf-8"), single=given.single, replicas=given.replicas
    )
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())

    kubelet = given.folder / "kubelet.sock"
    servers: list[ResourceServer] = []
    registered_with = 0
    while not ended.wait(LOOK_SECONDS):
        # A kubelet that starts empties the folder and makes its socket anew.
        there = kubelet.stat().st_ino if kubelet.exists() else 0
        if there in (0, registered_with):
            continue
        for server in servers:
            server.stop()
        try:
            with grpc.insecure_channel(f"unix:{kubelet}") as channel:
                servers = [
                    ResourceServer(given.folder, given.scenario, resource, ids)
                    for resource, ids in offered.items()
                ]
                for server in servers:
                    server.register(channel)
                    print(f"{time.time():.2f} registered {server.resource}", flush=True)
        except grpc.RpcError as error:
            print(f"the kubelet did not take the plugin, trying again: {error}", flush=True)
            continue
        registered_with = there
    for server in servers:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
