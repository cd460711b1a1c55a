"""Nodes that are only objects take pods from the real scheduler, as real ones would."""

from __future__ import annotations

import pytest

from tests.cluster.node_shapes import SHAPES
from tests.cluster.pods import claim_template, make_pod, pod_path, waiting_message

pytestmark = pytest.mark.cluster


def is_running(pod):
    return pod.get("status", {}).get("phase") == "Running"


def test_seven_slices_take_seven_pods_and_the_eighth_waits(
    control_plane, namespace, object_nodes
):
    object_nodes.add("plugin-mig-a100-80")
    api = control_plane.api
    for number in range(8):
        make_pod(api, namespace, f"pod-{number}", limits={"nvidia.com/mig-1g.10gb": "1"})
        if number < 7:
            pod = api.wait_until(pod_path(namespace, f"pod-{number}"), is_running)
            assert pod["status"]["podIP"].startswith("127.64.")

    last = api.wait_until(pod_path(namespace, "pod-7"), waiting_message)
    assert waiting_message(last).startswith(
        "0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.10gb."
    )


def test_a_stopped_pod_leaves_its_slice_to_the_one_that_waits(
    control_plane, namespace, object_nodes
):
    object_nodes.add("plugin-mig-single-a100-40")
    api = control_plane.api
    make_pod(api, namespace, "first", limits={"nvidia.com/gpu": "14"})
    api.wait_until(pod_path(namespace, "first"), is_running)
    make_pod(api, namespace, "second", limits={"nvidia.com/gpu": "1"})
    api.wait_until(pod_path(namespace, "second"), waiting_message)

    api.delete(pod_path(namespace, "first"))

    api.wait_until(pod_path(namespace, "first"), lambda pod: not pod)
    api.wait_until(pod_path(namespace, "second"), is_running)


def test_two_claims_of_40_cores_are_allocated_and_the_third_waits(
    control_plane, namespace, object_nodes
):
    node = object_nodes.add("dra-hami-a100-40")
    api = control_plane.api
    only_the_first = "device.attributes['hami-core-gpu.project-hami.io'].minor == 0"
    claim_template(
        api, namespace, "forty", "hami-core-gpu.project-hami.io",
        capacity={"cores": "40", "memory": "16Gi"}, selector=only_the_first,
    )
    for number in range(3):
        make_pod(api, namespace, f"pod-{number}", template="forty")
    pods = [
        api.wait_until(
            pod_path(namespace, f"pod-{number}"),
            lambda pod: is_running(pod) or "claims" in waiting_message(pod),
        )
        for number in range(3)
    ]

    (waiting,) = [pod for pod in pods if not is_running(pod)]
    assert "cannot allocate all claims" in waiting_message(waiting)
    claims = api.list(f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims")
    granted = [c["status"]["allocation"]["devices"]["results"][0] for c in claims
               if "allocation" in c.get("status", {})]
    assert [(g["pool"], g["device"], g["consumedCapacity"]) for g in granted] == [
        (node, "hami-gpu-0", {"cores": "40", "memory": "16Gi"})
    ] * 2


def test_a_claim_of_a_mig_profile_gets_an_instance_of_it(control_plane, namespace, object_nodes):
    object_nodes.add("dra-nvidia-h100")
    api = control_plane.api
    claim_template(
        api, namespace, "small", "mig.nvidia.com",
        selector="device.attributes['gpu.nvidia.com'].profile == '1g.10gb'",
    )
    make_pod(api, namespace, "ada", template="small")
    api.wait_until(pod_path(namespace, "ada"), is_running)

    claim = api.list(f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims")[0]
    device = claim["status"]["allocation"]["devices"]["results"][0]["device"]
    assert device.startswith("gpu-0-mig-1g10gb-19-")


def test_shares_of_one_gpu_add_up_to_a_hundred(control_plane, namespace, object_nodes):
    object_nodes.add("dra-nvidia-shares-a100-80")
    api = control_plane.api
    first_gpu = "device.attributes['resource.kubernetes.io'].pciBusID == '0000:10:00.0'"
    for blocks in (60, 40, 1):
        claim_template(
            api, namespace, f"blocks-{blocks}", "gpu.nvidia.com",
            capacity={"shares": str(blocks)}, selector=first_gpu,
        )
        make_pod(api, namespace, f"pod-{blocks}", template=f"blocks-{blocks}")
        if blocks > 1:
            api.wait_until(pod_path(namespace, f"pod-{blocks}"), is_running)

    api.wait_until(
        pod_path(namespace, "pod-1"),
        lambda pod: "cannot allocate all claims" in waiting_message(pod),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_api_server_accepts_every_shape(control_plane, object_nodes, shape):
    name = object_nodes.add(shape)

    node = control_plane.api.get(f"/api/v1/nodes/{name}")
    for resource, count in SHAPES[shape].resources().items():
        assert node["status"]["allocatable"][resource] == str(count)
    slices = control_plane.api.list(
        "/apis/resource.k8s.io/v1/resourceslices", fieldSelector=f"spec.nodeName={name}"
    )
    assert len(slices) == len(SHAPES[shape].slices(name))


@pytest.mark.parametrize("again", [1, 2])
def test_a_cluster_with_kai_has_its_queues_and_loses_them_after_the_test(
    control_plane, object_nodes, again
):
    queues = "/apis/scheduling.run.ai/v2/queues"
    assert control_plane.api.find(queues) is None

    object_nodes.add("kai-a100-80")

    found = control_plane.api.list(queues)
    assert [(q["metadata"]["name"], q["spec"].get("parentQueue")) for q in found] == [
        ("default-parent-queue", None),
        ("default-queue", "default-parent-queue"),
    ]


def test_a_pod_on_a_lost_node_is_evicted_and_stays_until_the_node_is_back(
    control_plane, namespace, object_nodes
):
    api = control_plane.api
    node = object_nodes.add("plugin-a30")
    object_nodes.add("cpu")  # with no Ready node left nobody would be evicted
    briefly = {
        "key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 1,
    }
    make_pod(
        api, namespace, "ada", limits={"nvidia.com/gpu": "1"}, tolerations=[briefly]
    )
    api.wait_until(pod_path(namespace, "ada"), is_running)

    object_nodes.lose(node)
    pod = api.wait_until(
        pod_path(namespace, "ada"), lambda pod: pod["metadata"].get("deletionTimestamp")
    )
    reasons = {c["type"]: c.get("reason") for c in pod["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "DeletionByTaintManager"

    object_nodes.recover(node)
    api.wait_until(pod_path(namespace, "ada"), lambda pod: not pod)


def test_the_fake_kubelet_leaves_a_pod_waiting_when_told_so(
    control_plane, namespace, object_nodes
):
    object_nodes.add("cpu")
    object_nodes.kubelet.starts = lambda pod: False
    make_pod(control_plane.api, namespace, "ada")
    path = pod_path(namespace, "ada")
    pod = control_plane.api.wait_until(path, lambda pod: pod["spec"].get("nodeName"))
    assert pod["status"]["phase"] == "Pending"

    object_nodes.kubelet.starts = lambda pod: True
    object_nodes.kubelet.look_again()

    control_plane.api.wait_until(path, is_running)
