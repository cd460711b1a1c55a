"""Claims on a real node: the real kubelet has them prepared, and a pod sees its part."""

from __future__ import annotations

import json

import pytest

from tests.cluster import images
from tests.cluster.api_client import ApiClient, Json
from tests.cluster.dra_devices import HAMI
from tests.cluster.gpu_models import gpu_uuid
from tests.cluster.node_shapes import SHAPES
from tests.cluster.pods import claim_template, pod_path
from tests.cluster.real_node import RealNode

pytestmark = pytest.mark.cluster

SEE_CARDS = """
import json, os, pynvml
pynvml.nvmlInit()
cards = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
print(json.dumps({
    "seen": [
        [pynvml.nvmlDeviceGetUUID(card), pynvml.nvmlDeviceGetMemoryInfo(card).total >> 20]
        for card in cards
    ],
    "limits": {name: value for name, value in os.environ.items() if "CUDA_DEVICE" in name},
}))
"""


@pytest.fixture(scope="module")
def node(real_node: RealNode) -> RealNode:
    real_node.offer_claims(SHAPES["dra-hami-a100-40"])
    return real_node


def make(api: ApiClient, namespace: str, name: str, node: RealNode, code: str, **spec) -> str:
    container = images.notebook_container("notebook", ["python", "-c", code])
    if "resourceClaims" in spec:
        container["resources"] = {"claims": [{"name": "gpu"}]}
    manifest = {
        "metadata": {"name": name},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "nodeSelector": {"kubernetes.io/hostname": node.name},
            **spec,
        },
    }
    api.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    return pod_path(namespace, name)


def by_claim(template: str) -> Json:
    return {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": template}]}


def ended(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def test_a_pod_with_a_claim_sees_its_part_and_one_without_sees_no_card(
    node: RealNode, control_plane, namespace: str
):
    api = control_plane.api
    part = {"cores": "30", "memory": "12Gi"}
    claim_template(api, namespace, "thirty", HAMI, capacity=part)
    ada = make(api, namespace, "ada", node, SEE_CARDS, **by_claim("thirty"))
    lin = make(api, namespace, "lin", node, SEE_CARDS)

    phases = {path: api.wait_until(path, ended, seconds=60)["status"]["phase"]
              for path in (ada, lin)}  # fmt: skip

    said = node.pod_log(namespace, "ada")
    assert phases[ada] == "Succeeded", said
    inside = json.loads(said)
    ((uuid, memory_mib),) = inside["seen"]
    assert uuid in {gpu_uuid(node.name, 0), gpu_uuid(node.name, 1)}
    assert memory_mib == 12288
    assert inside["limits"] == {
        "CUDA_DEVICE_MEMORY_LIMIT_0": "12288m", "CUDA_DEVICE_SM_LIMIT_0": "30",
    }  # fmt: skip
    assert phases[lin] == "Failed"
    assert "NVML Shared Library Not Found" in node.pod_log(namespace, "lin")

    api.delete(ada, grace_seconds=1)
    api.wait_until(ada, lambda pod: not pod)
    assert list((node.folder / "claims" / "pods").iterdir()) == []
