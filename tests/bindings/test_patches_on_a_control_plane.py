"""Patched pods are taken by a real API server, and a real scheduler gives them their pieces.

The nodes are objects with what each engine writes on them. HAMi and KAI have no scheduler
here: of their pods it is shown that the API server takes them as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aliquot.bindings.granted import Told, granted
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.pod_manifest import apply, claim_template, foreign_gpu
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.shares import Blocks, Share, Slice
from tests.bindings.spawned_pods import POLICY, lease_on, marks_on, on_cluster, placed
from tests.cluster.gpu_models import gpu_uuid, mig_uuid
from tests.cluster.node_shapes import SHAPES
from tests.cluster.pods import pod_path, waiting_message

pytestmark = pytest.mark.cluster

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaims"
TEMPLATES = "/apis/resource.k8s.io/v1/namespaces/{}/resourceclaimtemplates"

NVIDIA_DRA, HAMI_DRA = "gpu.nvidia.com", "hami-core-gpu.project-hami.io"
MODELS = {"a100-40": "A100-40GB", "a100-80": "A100-80GB", "h100": "H100-80GB", "a30": "A30-24GB"}


def inventory_of(shape_name: str, node: str) -> Inventory:
    """What discovery should read of a node of this shape, written by hand."""
    shape = SHAPES[shape_name]
    engine, offered_as, by = {
        "plugin": (Engine.NVIDIA_PLUGIN, "nvidia.com/gpu", None),
        "plugin-mig-mixed": (Engine.NVIDIA_PLUGIN, "nvidia.com/gpu", None),
        "plugin-mig-single": (Engine.NVIDIA_PLUGIN, "nvidia.com/gpu", None),
        "plugin-time-sliced": (
            Engine.NVIDIA_PLUGIN,
            "nvidia.com/gpu.shared",
            BlocksBy.TIME_SLICING,
        ),
        "hami": (Engine.HAMI, "nvidia.com/gpu", BlocksBy.HAMI),
        "kai": (Engine.KAI, "nvidia.com/gpu", BlocksBy.KAI),
        "dra-nvidia": (Engine.DRA_NVIDIA, NVIDIA_DRA, None),
        "dra-nvidia-shares": (Engine.DRA_NVIDIA, NVIDIA_DRA, BlocksBy.SHARES),
        "dra-hami": (Engine.DRA_HAMI, HAMI_DRA, BlocksBy.HAMI),
    }[shape.kind.value]
    named = shape.kind.value.startswith(("dra", "hami"))
    model = next(short for part, short in MODELS.items() if part in shape_name)
    gpus = []
    for index in range(shape.gpus):
        layout = shape.layouts[index] if index < len(shape.layouts) else ()
        devices = []
        for profile, start in layout:
            cut = shape.model.profiles[profile]
            resource = {
                "plugin-mig-mixed": f"nvidia.com/mig-{profile.replace('+', '.')}",
                "plugin-mig-single": "nvidia.com/gpu",
            }.get(shape.kind.value, "mig.nvidia.com")
            uuid = mig_uuid(node, index, start) if named else f"{node}/{profile}/{index}-{start}"
            devices.append(
                MigDevice(
                    uuid, profile, cut.compute_slices, cut.slots, cut.memory_mib, start, resource
                )
            )
        gpu = Gpu(
            gpu_uuid(node, index) if named else f"{node}/gpu/{index}",
            index,
            shape.model.product,
            model,
            shape.model.memory_mib,
            node=node,
            mig_enabled=bool(layout),
            mig_devices=tuple(devices),
            blocks_by=by,
            engine=engine,
            offered_as=offered_as,
        )
        turns = by is BlocksBy.TIME_SLICING
        gpus.append(replace(gpu, replica_blocks=100 // shape.replicas) if turns else gpu)
    return on_cluster(*gpus)


def bare_pod(name: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "notebook", "image": "none", "resources": {"limits": {"cpu": "1"}}},
                {"name": "sidecar", "image": "none"},
            ],
        },
    }


def started(api, namespace: str, inventory: Inventory, share: Share, name: str = "ada"):
    """The pod of a share as it was made, its lease and patch; its template made as well."""
    lease = lease_on(placed(share, inventory))
    patch = bind_pod(lease, inventory, POLICY)
    marks = marks_on(lease)
    pod = apply(bare_pod(name), patch, marks)
    assert foreign_gpu(pod, patch) is None
    template = claim_template(patch, marks)
    if template is not None:
        api.post(TEMPLATES.format(namespace), template)
    return pod, lease, patch


GIVEN = {
    "a whole H100 by claim": ("dra-nvidia-h100", Blocks(100)),
    "two whole H100 by claim": ("dra-nvidia-h100", Blocks(200)),
    "a slice by claim": ("dra-nvidia-h100", Slice("1g.10gb")),
    "30 shares": ("dra-nvidia-shares-a100-80", Blocks(30)),
    "a whole card and 10 shares": ("dra-nvidia-shares-a100-80", Blocks(110)),
    "two whole cards of shares": ("dra-nvidia-shares-a100-80", Blocks(200)),
    "30 blocks by HAMi's driver": ("dra-hami-a100-40", Blocks(30)),
    "two whole cards by HAMi's driver": ("dra-hami-a100-40", Blocks(200)),
    "three whole A100": ("plugin-a100-80", Blocks(300)),
    "a slice of its own name": ("plugin-mig-a100-40", Slice("3g.20gb")),
    "a slice that is called a GPU": ("plugin-mig-single-a100-40", Slice("1g.5gb")),
    "a turn": ("plugin-time-sliced-a30", Blocks(20)),
}


@pytest.mark.parametrize(("shape", "share"), GIVEN.values(), ids=GIVEN.keys())
def test_the_scheduler_gives_a_patched_pod_exactly_its_piece(
    control_plane, namespace, object_nodes, shape, share
):
    object_nodes.add(shape, "elsewhere")
    node = object_nodes.add(shape)
    api = control_plane.api
    inventory = inventory_of(shape, node)
    pod, lease, patch = started(api, namespace, inventory, share)

    api.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    running = api.wait_until(
        pod_path(namespace, "ada"), lambda p: p.get("status", {}).get("phase") == "Running"
    )
    claims = api.list(CLAIMS.format(namespace))
    back = granted(running, claims, lease, inventory)

    assert running["spec"]["nodeName"] == node
    assert back.agrees, back
    if patch.claims:
        assert (back.told, back.placement) == (Told.DEVICES, lease.placement)
        labels = claims[0]["metadata"]["labels"]
        assert labels["aliquot.io/lease"] == lease.id
        devices = claims[0]["status"]["allocation"]["devices"]["results"]
        assert len(devices) == len(lease.placement.pieces)
    else:
        assert (back.told, back.placement) == (Told.NODE, None)


def test_a_card_that_the_ledger_chose_is_given_though_another_is_free(
    control_plane, namespace, object_nodes
):
    node = object_nodes.add("dra-hami-a100-40")
    api = control_plane.api
    second = on_cluster(inventory_of("dra-hami-a100-40", node).gpus[1])
    pod, lease, _ = started(api, namespace, second, Blocks(30))

    api.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    running = api.wait_until(
        pod_path(namespace, "ada"), lambda p: p.get("status", {}).get("phase") == "Running"
    )
    (claim,) = api.list(CLAIMS.format(namespace))

    assert granted(running, [claim], lease, second).agrees
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert (result["device"], result["consumedCapacity"]) == (
        "hami-gpu-1",
        {"cores": "30", "memory": "12Gi"},
    )


def test_a_pod_waits_for_the_ledger_s_node_rather_than_take_another(
    control_plane, namespace, object_nodes
):
    object_nodes.add("plugin-mig-a100-80", "free")
    node = object_nodes.add("plugin-mig-a100-80")
    object_nodes.cordon(node)
    api = control_plane.api
    inventory = inventory_of("plugin-mig-a100-80", node)
    pod, lease, _ = started(api, namespace, inventory, Slice("1g.10gb"))

    api.post(f"/api/v1/namespaces/{namespace}/pods", pod)
    waiting = api.wait_until(pod_path(namespace, "ada"), waiting_message)

    assert granted(waiting, [], lease, inventory).told is Told.NOTHING


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ("hami-a100-40", Blocks(30)),
        ("hami-a100-40", Blocks(200)),
        ("kai-a100-80", Blocks(30)),
        ("kai-a100-80", Blocks(200)),
    ],
)
def test_the_api_server_keeps_a_pod_of_hami_and_of_kai_as_it_is(
    control_plane, namespace, object_nodes, shape, share
):
    node = object_nodes.add(shape)
    api = control_plane.api
    pod, lease, patch = started(api, namespace, inventory_of(shape, node), share)

    kept = api.post(f"/api/v1/namespaces/{namespace}/pods", pod)

    assert foreign_gpu(kept, patch) is None
    assert kept["metadata"]["annotations"] == pod["metadata"]["annotations"]
    assert kept["spec"]["schedulerName"] == patch.scheduler_name
    assert granted(kept, [], lease, inventory_of(shape, node)).told is Told.NOTHING
