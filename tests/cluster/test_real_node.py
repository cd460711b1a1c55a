"""A real node: the real kubelet starts containers, hands out devices, and leaves nothing."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from kubespawner import KubeSpawner

from tests.cluster import images
from tests.cluster.gpu_models import mig_uuid
from tests.cluster.node_shapes import SHAPES
from tests.cluster.offered_devices import devices_of
from tests.cluster.pods import pod_path, waiting_message
from tests.fixtures.real_node import begin, end
from tests.lab.lab_server import lease_text, slice_piece
from tests.nvml_standin import library

pytestmark = pytest.mark.cluster

SCENARIO = (library.SCENARIOS / "a100-mig-mixed.txt").read_text("utf-8")
SLICES = devices_of(SCENARIO)["nvidia.com/mig-1g.10gb"]
# The only one of its kind, so that a lease can name it before the kubelet has chosen.
(THE_2G_SLICE,) = devices_of(SCENARIO)["nvidia.com/mig-2g.20gb"]
ITS_GPU = "GPU-a1000000-0000-4000-8000-000000000000"
SEE_DEVICES = """
import json, os, pynvml
pynvml.nvmlInit()
seen = []
for number in range(pynvml.nvmlDeviceGetCount()):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            mig = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        except pynvml.NVMLError_NotFound:
            continue
        total = pynvml.nvmlDeviceGetMemoryInfo(mig).total >> 20
        seen.append([pynvml.nvmlDeviceGetUUID(mig), total])
named = os.environ["NVIDIA_VISIBLE_DEVICES"]
cuda = os.environ.get("CUDA_VISIBLE_DEVICES")
print(json.dumps({"seen": seen, "named": named, "cuda": cuda}), flush=True)
"""


@pytest.fixture(scope="module")
def gpu_node(real_node):
    real_node.offer_gpus(SCENARIO)
    return real_node


@pytest.fixture
def run_pod(gpu_node, control_plane, namespace):
    """``run_pod(name, command, profile)`` makes a pod on the real node and returns its path."""
    api = control_plane.api

    def make(name, command, profile=None, **container):
        limits = {f"nvidia.com/mig-{profile}": "1"} if profile else {}
        built = images.notebook_container(
            "notebook", command, resources={"limits": limits}, **container
        )
        spec = {
            "containers": [built],
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": gpu_node.name},
        }
        pods = f"/api/v1/namespaces/{namespace}/pods"
        api.post(pods, {"metadata": {"name": name}, "spec": spec})
        return pod_path(namespace, name)

    yield make
    # With a grace, however short: a pod deleted without one is gone for the scheduler before
    # the kubelet has its devices back, and the next pod would be refused them.
    paths = [
        pod_path(namespace, pod["metadata"]["name"])
        for pod in api.list(f"/api/v1/namespaces/{namespace}/pods")
    ]
    for path in paths:
        api.delete(path, grace_seconds=1)
    for path in paths:
        api.wait_until(path, lambda pod: not pod)


def poll(answer, seconds=30):
    """The first true answer."""
    give_up_at = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < give_up_at, f"still {found!r} after {seconds} s"
        time.sleep(0.1)
    return found


def has_phase(*phases):
    return lambda pod: pod.get("status", {}).get("phase") in phases


def ran(gpu_node, path):
    """The log of a pod that ends by itself, as JSON."""
    api = gpu_node.cluster.api
    pod = api.wait_until(path, has_phase("Succeeded", "Failed"), seconds=30)
    log = gpu_node.pod_log(pod["metadata"]["namespace"], pod["metadata"]["name"])
    assert pod["status"]["phase"] == "Succeeded", log
    return json.loads(log)


def test_the_node_offers_what_the_machine_has(gpu_node):
    assert gpu_node.gpus() == {
        "nvidia.com/gpu": 0,  # both cards are in MIG mode
        "nvidia.com/mig-1g.10gb": 2,
        "nvidia.com/mig-2g.20gb": 1,
        "nvidia.com/mig-3g.40gb": 2,
        "nvidia.com/mig-4g.40gb": 1,
    }
    print({part: f"{took:.1f} s" for part, took in gpu_node.seconds.items()})


def test_a_pod_of_one_slice_sees_that_slice_through_the_real_pynvml(gpu_node, run_pod):
    path = run_pod("ada", ["python", "-c", SEE_DEVICES], "1g.10gb")

    inside = ran(gpu_node, path)

    assert inside["named"] in SLICES
    assert inside["seen"] == [[inside["named"], 9856]]  # MiB, as the scenario says
    assert inside["cuda"] is None  # that is for the spawner to set, not for the plugin


def test_two_pods_at_once_get_different_slices_and_the_third_waits(
    gpu_node, run_pod, control_plane
):
    command = ["python", "-c", SEE_DEVICES + "import time; time.sleep(60)"]
    paths = [run_pod(name, command, "1g.10gb") for name in ("ada", "lin")]
    running = [
        control_plane.api.wait_until(path, has_phase("Running"), seconds=30) for path in paths
    ]

    third = run_pod("eve", command, "1g.10gb")
    waiting = control_plane.api.wait_until(third, waiting_message)

    assert "Insufficient nvidia.com/mig-1g.10gb" in waiting_message(waiting)
    seen = [json.loads(first_line(gpu_node, pod)) for pod in running]
    assert sorted(inside["named"] for inside in seen) == sorted(SLICES)
    assert all([uuid for uuid, _ in inside["seen"]] == [inside["named"]] for inside in seen)


def first_line(gpu_node, pod):
    meta = pod["metadata"]
    return poll(lambda: gpu_node.pod_log(meta["namespace"], meta["name"]).split("\n")[0])


def test_a_pod_without_a_gpu_finds_no_driver(gpu_node, run_pod):
    code = """
import json, pynvml
try:
    pynvml.nvmlInit()
    print(json.dumps("a driver"))
except pynvml.NVMLError as error:
    print(json.dumps(str(error)))
"""

    assert ran(gpu_node, run_pod("ada", ["python", "-c", code])) == "NVML Shared Library Not Found"


def test_a_pod_reaches_a_server_of_this_machine_at_the_nodes_address(gpu_node, run_pod):
    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(self.client_address[0]).encode())

    hub = HTTPServer((gpu_node.address, 0), Hub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    url = f"http://{gpu_node.address}:{hub.server_port}"
    code = f"import urllib.request as r; print(r.urlopen({url!r}, timeout=10).read().decode())"
    try:
        seen_from = ran(gpu_node, run_pod("ada", ["python", "-c", code]))
    finally:
        hub.shutdown()
        hub.server_close()

    assert seen_from.startswith(f"{gpu_node.plan.subnet}.")
    assert seen_from != gpu_node.address  # it came from the pod's own address


def test_a_slice_that_falls_ill_is_offered_no_longer(gpu_node):
    gpu_node.report_unhealthy(SLICES[0])
    poll(lambda: gpu_node.gpus()["nvidia.com/mig-1g.10gb"] == 1)

    gpu_node.report_unhealthy()
    poll(lambda: gpu_node.gpus()["nvidia.com/mig-1g.10gb"] == 2)


def test_a_restricted_pod_serves_jupyterlab_to_the_host(run_pod, control_plane, namespace):
    command = [
        "jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser",
        "--IdentityProvider.token=a-token-for-tests",
    ]  # fmt: skip
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.api.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": enforced}})
    lease = lease_text(
        slice_piece(ITS_GPU, THE_2G_SLICE, "2g.20gb", 19968, "NVIDIA A100-SXM4-80GB"),
        kind="slice", by="mig", memory="hardware", compute="hardware",
    )  # fmt: skip
    path = run_pod(
        "ada", command, "2g.20gb",
        securityContext=restricted, env=[{"name": "ALIQUOT_LEASE", "value": lease}],
    )  # fmt: skip
    pod = control_plane.api.wait_until(path, has_phase("Running"), seconds=30)
    url = f"http://{pod['status']['podIP']}:8888"
    browser = requests.Session()
    browser.trust_env = False
    browser.headers["Authorization"] = "token a-token-for-tests"

    def answer(path):
        try:
            return browser.get(url + path, timeout=10)
        except requests.ConnectionError:
            return None

    api = poll(lambda: answer("/api"), seconds=60)
    assert (api.status_code, list(api.json())) == (200, ["version"])

    def usage():
        return answer("/aliquot/api/usage").json()

    (device,) = poll(lambda: usage()["devices"])
    assert (device["piece"], device["memory_used_mib"], device["memory_limit_mib"]) == (
        "2g.20gb", 37, 19968,
    )  # fmt: skip
    receipt = poll(lambda: (r := answer("/aliquot/api/receipt").json())["checked_at"] and r)
    assert receipt["verdict"] == "verified", receipt


def test_a_node_in_the_shape_of_another_hands_out_that_ones_devices(control_plane, namespace):
    api = control_plane.api
    node = begin(control_plane)
    try:
        shape = node.become(SHAPES["plugin-mig-a100-80"])
        assert shape["metadata"]["labels"]["nvidia.com/mig-1g.10gb.count"] == "7"
        for number in range(8):
            waiting = images.notebook_container(
                "notebook",
                ["sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES; sleep 600"],
                resources={"limits": {"nvidia.com/mig-1g.10gb": "1"}},
            )
            spec = {
                "containers": [waiting],
                "nodeSelector": {"kubernetes.io/hostname": node.name},
            }
            manifest = {"metadata": {"name": f"user-{number}"}, "spec": spec}
            api.post(f"/api/v1/namespaces/{namespace}/pods", manifest)

        def settled():
            pods = api.list(f"/api/v1/namespaces/{namespace}/pods")
            running = [pod for pod in pods if has_phase("Running")(pod)]
            return len(running) == 7 and [running, *(pod for pod in pods if waiting_message(pod))]

        running, eighth = poll(settled, seconds=60)
        handed_out = {first_line(node, pod) for pod in running}
    finally:
        end(node)

    assert handed_out == {mig_uuid(node.name, 0, slot) for slot in range(7)}
    assert "Insufficient nvidia.com/mig-1g.10gb" in waiting_message(eighth)


def test_a_node_that_ends_in_the_middle_of_its_work_leaves_nothing(control_plane, namespace):
    node = begin(control_plane)
    try:
        api = control_plane.api
        sleeping = images.notebook_container("notebook", ["sleep", "600"])
        spec = {"containers": [sleeping], "nodeName": node.name}
        pods = f"/api/v1/namespaces/{namespace}/pods"
        api.post(pods, {"metadata": {"name": "ada"}, "spec": spec})
        api.wait_until(pod_path(namespace, "ada"), has_phase("Running"))
        kinds = ("/sys/fs/cgroup", "process", node.plan.bridge)
        seen = {kind for kind in kinds for left in node.leftovers() if kind in left}
    finally:
        end(node)  # asserts that none is there any more

    assert seen == set(kinds)


def test_the_notebook_image_is_told_in_traits_that_kubespawner_has():
    assert set(images.notebook_pod()) <= set(KubeSpawner.class_trait_names(config=True))
