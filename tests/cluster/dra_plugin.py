"""A DRA driver's kubelet plugin for tests: prepares claims on the cards of an NVML scenario.

    python -m tests.cluster.dra_plugin NODE_FOLDER KUBECONFIG

Stands in for the node's part of HAMi's DRA driver, for HAMi-core, and for the container
runtime. It talks to a real kubelet over the real API, reads each claim's allocation with the
node's own rights, and writes what the claim's pod shall get: for ``claim_edits.py``, which puts
it into the containers as CDI would. That is the NVML and CUDA libraries (the stand-ins), the
card alone, and HAMi's limits as variables. HAMi-core shows a limit as the card's memory; here
the pod gets a scenario of its own that says so. Compute is limited by nobody.

The ResourceSlices are published by ``RealNode.offer_claims``, as admin. In NODE_FOLDER,
``claims/registered`` appears when the kubelet has taken the plugin; ``claims/UID`` is a
prepared claim, ``claims/pods/NAMESPACE_NAME.json`` what its pod gets.

A process of its own, so that gRPC's threads and a test's forks never meet.

Source: HAMi k8s-dra-driver ebeaad9, cmd/hami-kubelet-plugin (prepare, unprepare);
HAMi 4707fb0, nvinternal/plugin/server.go (the variables).
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import requests

from tests.cluster import dra_devices
from tests.cluster import dra_plugin_api as api
from tests.cluster.device_plugin import LIBRARIES_INSIDE, MACHINE_INSIDE
from tests.nvml_standin import library

_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_CARD = re.compile(r"(?=^gpu )", re.MULTILINE)


class Driver:
    """What is known of the node's claims. All of it is in ``folder``."""

    def __init__(self, node: Path, kubeconfig: Path) -> None:
        self.folder = node / "claims"
        self.scenario = node / "machine" / "scenario.txt"
        self.libraries = library.environment(self.scenario)["LD_LIBRARY_PATH"].split(":")[0]
        settings = json.loads(kubeconfig.read_text())
        user, cluster = settings["users"][0]["user"], settings["clusters"][0]["cluster"]
        self.url = cluster["server"]
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.cert = (user["client-certificate"], user["client-key"])
        self.session.verify = cluster["certificate-authority"]

    def prepare(self, asked: Any) -> Any:
        """Answer one claim, with an error in words when it cannot be had. May be repeated."""
        path = f"/apis/resource.k8s.io/v1/namespaces/{asked.namespace}/resourceclaims/{asked.name}"
        answer = self.session.get(self.url + path, timeout=10)
        if answer.status_code != 200:
            return api.Prepared(error=f"claim {asked.name}: {answer.text[:300]}")
        claim = answer.json()
        if claim["metadata"]["uid"] != asked.uid:
            return api.Prepared(error=f"claim {asked.name} was replaced by another")
        given = [
            one
            for one in claim["status"]["allocation"]["devices"]["results"]
            if one["driver"] == dra_devices.HAMI
        ]
        edits = self._edits(asked.uid, given)
        pods = [f"{asked.namespace}_{one['name']}" for one in claim["status"]["reservedFor"]]
        for pod in pods:
            _write(self.folder / "pods" / f"{pod}.json", json.dumps(edits))
        _write(self.folder / asked.uid / "pods.json", json.dumps(pods))
        return api.Prepared(
            devices=[
                # No CDI device: claim_edits.py does what the runtime would do on reading one.
                api.Device(
                    request_names=[one["request"]],
                    pool_name=one["pool"],
                    device_name=one["device"],
                )
                for one in given
            ]
        )

    def unprepare(self, asked: Any) -> Any:
        """Undo it; a claim that was never prepared is fine."""
        place = self.folder / asked.uid
        if place.exists():
            for pod in json.loads((place / "pods.json").read_text()):
                (self.folder / "pods" / f"{pod}.json").unlink(missing_ok=True)
            shutil.rmtree(place)
        return api.Unprepared()

    def _edits(self, uid: str, given: list[dict[str, Any]]) -> dict[str, Any]:
        head, *cards = _CARD.split(self.scenario.read_text("utf-8"))
        shown, limits = [], {}
        for place, one in enumerate(given):
            card = cards[int(one["device"].rpartition("-")[2])]
            consumed = one["consumedCapacity"]
            memory_mib = _number(consumed["memory"]) >> 20
            card = re.sub(r"(?m)^reserved_mib .*\n", "", card)
            shown.append(re.sub(r"(?m)^memory_mib .*$", f"memory_mib {memory_mib}", card))
            limits[f"CUDA_DEVICE_MEMORY_LIMIT_{place}"] = f"{memory_mib}m"
            limits[f"CUDA_DEVICE_SM_LIMIT_{place}"] = str(_number(consumed["cores"]))
        _write(self.folder / uid / "machine" / "scenario.txt", head + "".join(shown))
        return {
            "env": {
                **limits,
                "ALIQUOT_NVML_SCENARIO": f"{MACHINE_INSIDE}/scenario.txt",
                "LD_LIBRARY_PATH": LIBRARIES_INSIDE,
            },
            "mounts": {
                LIBRARIES_INSIDE: self.libraries,
                MACHINE_INSIDE: str(self.folder / uid / "machine"),
            },
        }


def _number(quantity: str) -> int:
    found = re.fullmatch(r"([\d.]+)([KMG]i)?", quantity)
    assert found, quantity
    return int(Decimal(found[1]) * _UNITS[found[2] or ""])


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_suffix(".fresh")
    fresh.write_text(text, "utf-8")
    fresh.replace(place)


def _serve(socket: Path, service: str, methods: dict[str, tuple[Any, Any, Callable]]) -> Any:
    """A server of one service; ``methods`` are request, response and what answers."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, _context, answer=answer: answer(request),
            request.FromString,
            response.SerializeToString,
        )
        for name, (request, response, answer) in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def main() -> int:
    node, kubeconfig = Path(sys.argv[1]), Path(sys.argv[2])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    driver = Driver(node, kubeconfig)
    endpoint = node / "kubelet" / "plugins" / "dra.sock"
    # The kubelet may ask from several threads; one claim is dealt with at a time.
    one_at_a_time = threading.Lock()

    def each(response: Any, act: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            with one_at_a_time:
                return response(claims={claim.uid: act(claim) for claim in request.claims})

        return answer

    def tell(_request: Any) -> Any:
        return api.PluginInfo(
            type=api.PLUGIN_TYPE,
            name=dra_devices.HAMI,
            endpoint=str(endpoint),
            supported_versions=api.SUPPORTED,
        )

    def hear(status: Any) -> Any:
        print(f"registered: {status.plugin_registered} {status.error}", flush=True)
        if status.plugin_registered:
            _write(driver.folder / "registered", "")
        else:
            ended.set()
        return api.RegistrationStatusResponse()

    servers = [
        _serve(endpoint, api.DRA, {
            "NodePrepareResources": (
                api.PrepareRequest, api.PrepareResponse, each(api.PrepareResponse, driver.prepare),
            ),
            "NodeUnprepareResources": (
                api.UnprepareRequest, api.UnprepareResponse,
                each(api.UnprepareResponse, driver.unprepare),
            ),
        }),
        # Last: the kubelet looks into this folder, and asks at once.
        _serve(node / "kubelet" / "plugins_registry" / "dra.sock", api.REGISTRATION, {
            "GetInfo": (api.InfoRequest, api.PluginInfo, tell),
            "NotifyRegistrationStatus": (
                api.RegistrationStatus, api.RegistrationStatusResponse, hear,
            ),
        }),
    ]  # fmt: skip
    ended.wait()
    for server in reversed(servers):
        server.stop(grace=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
