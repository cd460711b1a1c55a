"""What each binding of a cluster says in particular; what all owe is in tests/contract."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aliquot.bindings.kai import queue_of
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pod_manifest import apply, claim_template
from aliquot.bindings.pods import PodPolicy, bind_no_gpu
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Inventory
from aliquot.domain.leases import Placement
from aliquot.domain.shares import Blocks, Share, Slice
from tests.bindings.spawned_pods import (
    IN_BLOCKS,
    IN_TURNS,
    NODE,
    POLICY,
    WHOLE_ONLY,
    lease_on,
    marks_on,
    on_cluster,
    placed,
    sliced,
    spawned_pod,
)


def bound(share: Share, inventory: Inventory, policy: PodPolicy = POLICY):
    return bind_pod(lease_on(placed(share, inventory)), inventory, policy)


def test_30_blocks_by_hami_are_30_cores_and_30_percent_of_the_memory_of_one_named_card():
    patch = bound(Blocks(30), IN_BLOCKS["hami"])

    assert patch.limits == {
        "nvidia.com/gpu": "1",
        "nvidia.com/gpucores": "30",
        "nvidia.com/gpumem-percentage": "30",
    }
    assert patch.annotations == {
        "nvidia.com/use-gpuuuid": "GPU-0000",
        "nvidia.com/vgpu-mode": "hami-core",
    }
    assert patch.scheduler_name == "hami-scheduler"
    assert patch.env == {}
    assert patch.notes == ("note.hami_soft", "note.hami_contended")


def test_three_whole_cards_by_hami_are_exclusive_on_each():
    patch = bound(Blocks(300), IN_BLOCKS["hami"])

    assert patch.limits == {
        "nvidia.com/gpu": "3",
        "nvidia.com/gpucores": "100",
        "nvidia.com/gpumem-percentage": "100",
    }
    assert patch.annotations["nvidia.com/use-gpuuuid"] == "GPU-0000,GPU-0001,GPU-0002"


@pytest.mark.parametrize("engine", ["hami", "dra-hami"])
def test_strict_compute_makes_hami_core_throttle_always(engine):
    patch = bound(Blocks(30), IN_BLOCKS[engine], PodPolicy(strict_compute=True))

    assert patch.env["GPU_CORE_UTILIZATION_POLICY"] == "force"
    assert patch.notes == ("note.hami_soft",)


@pytest.mark.parametrize(
    ("profile", "gpumem"), [("1g.10gb", "9856"), ("3g.40gb", "40192"), ("7g.80gb", "80384")]
)
def test_dynamic_mig_by_hami_is_asked_for_by_exactly_the_profile_s_memory(profile, gpumem):
    """As HAMi's own chart allows them on an A100-80GB: one profile for each memory size."""
    (gpu,) = sliced("hami-mig", "A100-80GB", profile).gpus
    allowed = ("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb")
    gpu = replace(gpu, mig_devices=tuple(d for d in gpu.mig_devices if d.profile in allowed))

    patch = bound(Slice(profile), on_cluster(gpu))

    assert patch.limits == {"nvidia.com/gpu": "1", "nvidia.com/gpumem": gpumem}
    assert patch.annotations == {
        "nvidia.com/use-gpuuuid": "GPU-0000",
        "nvidia.com/vgpu-mode": "mig",
    }


@pytest.mark.parametrize(("blocks", "fraction"), [(1, "0.01"), (30, "0.30"), (99, "0.99")])
def test_a_fraction_of_kai_has_two_decimals(blocks, fraction):
    patch = bound(Blocks(blocks), IN_BLOCKS["kai"])

    assert patch.annotations == {"gpu-fraction": fraction}
    assert patch.limits == {}
    assert patch.labels == {"kai.scheduler/queue": "team-vision"}
    assert (patch.scheduler_name, patch.priority_class) == ("kai-scheduler", "build")


def test_whole_gpus_by_kai_have_no_fraction():
    patch = bound(Blocks(200), IN_BLOCKS["kai"])

    assert (patch.limits, patch.annotations) == ({"nvidia.com/gpu": "2"}, {})


def test_a_priority_class_that_the_policy_leaves_empty_is_not_set():
    patch = bound(Blocks(30), IN_BLOCKS["kai"], PodPolicy(kai_priority_class=""))
    pod = apply(spawned_pod(), patch, marks_on(lease_on(placed(Blocks(30), IN_BLOCKS["kai"]))))

    assert pod["spec"]["priorityClassName"] == "jhub-default-priority"


@pytest.mark.parametrize(
    ("pattern", "group", "queue"),
    [
        ("{group}", "vision", "vision"),
        ("team-{group}", "Vision Lab", "team-vision-lab"),
        ("all", "vision", "all"),
        ("{group}", "연구실", "group-55675491"),
        ("{group}", "연구-a", "a-e43d8390"),
        ("{group}", "!", "group-bb7208bc"),
        ("{group}", "x" * 80, "x" * 54 + "-d929cdee"),
    ],
)
def test_a_group_s_queue_has_a_name_that_kubernetes_takes(pattern, group, queue):
    assert queue_of(PodPolicy(kai_queue=pattern), group) == queue


@given(st.text(max_size=120))
@example("ml..team.-x")
@example("x" * 54 + "." + "y" * 60)
def test_any_group_has_a_queue_that_kubernetes_can_name(group):
    label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    queue = queue_of(PodPolicy(), group)

    assert re.fullmatch(rf"{label}(\.{label})*", queue), queue
    assert len(queue) <= 63


def test_two_groups_of_another_script_do_not_share_a_queue():
    names = {queue_of(PodPolicy(), group) for group in ("연구-a", "교육-a", "연구", "교육", "a")}

    assert len(names) == 5


def test_310_blocks_of_shares_are_one_claim_of_three_whole_cards_and_10_shares_of_a_fourth():
    lease = lease_on(placed(Blocks(310), IN_BLOCKS["shares"]))
    patch = bind_pod(lease, IN_BLOCKS["shares"], POLICY)
    template = claim_template(patch, marks_on(lease))
    uuid = "device.attributes['gpu.nvidia.com'].uuid"

    assert template["metadata"]["name"] == f"aliquot-{lease.id}"
    assert template["spec"]["spec"]["devices"]["requests"] == [
        {
            "name": "whole",
            "exactly": {
                "deviceClassName": "gpu.nvidia.com",
                "allocationMode": "ExactCount",
                "count": 3,
                "selectors": [
                    {
                        "cel": {
                            "expression": f"has({uuid}) && {uuid} in "
                            "['GPU-0001', 'GPU-0002', 'GPU-0003']"
                        }
                    }
                ],
                "capacity": {"requests": {"shares": "100"}},
            },
        },
        {
            "name": "part",
            "exactly": {
                "deviceClassName": "gpu.nvidia.com",
                "allocationMode": "ExactCount",
                "count": 1,
                "selectors": [{"cel": {"expression": f"has({uuid}) && {uuid} == 'GPU-0000'"}}],
                "capacity": {"requests": {"shares": "10"}},
            },
        },
    ]
    # Its claims are known to be ours by their marks.
    assert template["spec"]["metadata"]["labels"]["aliquot.io/lease"] == lease.id


def test_a_pod_refers_to_its_claim_and_keeps_its_cpu_and_memory():
    lease = lease_on(placed(Blocks(30), IN_BLOCKS["dra-hami"]))
    patch = bind_pod(lease, IN_BLOCKS["dra-hami"], POLICY)
    pod = apply(spawned_pod(), patch, marks_on(lease))

    assert pod["spec"]["resourceClaims"] == [
        {"name": "gpu", "resourceClaimTemplateName": f"aliquot-{lease.id}"}
    ]
    assert pod["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": 2.0, "memory": 4294967296},
        "requests": {"cpu": 0.5},
        "claims": [{"name": "gpu"}],
    }
    assert patch.claims[0].capacity == {"cores": "30", "memory": "24467Mi"}
    assert "resources" not in pod["spec"]["containers"][1]


def test_a_claim_without_marks_has_no_name_and_is_a_fault():
    patch = bound(Blocks(30), IN_BLOCKS["dra-hami"])

    with pytest.raises(ValueError, match="needs the marks"):
        apply(spawned_pod(), patch, None)


def test_a_pod_is_pinned_to_its_node_beside_what_else_it_asks_of_nodes():
    lease = lease_on(placed(Blocks(100), WHOLE_ONLY["plugin"]))
    pod = apply(spawned_pod(), bind_pod(lease, WHOLE_ONLY["plugin"], POLICY), marks_on(lease))
    only = [{"key": "metadata.name", "operator": "In", "values": [NODE]}]

    assert pod["spec"]["affinity"]["nodeAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [{"key": "pool", "operator": "Exists"}],
                    "matchFields": only,
                },
                {
                    "matchExpressions": [{"key": "user", "operator": "Exists"}],
                    "matchFields": only,
                },
            ]
        }
    }
    bare = apply(
        {"spec": {"containers": [{}]}}, bind_pod(lease, WHOLE_ONLY["plugin"], POLICY), None
    )
    required = bare["spec"]["affinity"]["nodeAffinity"]
    assert required["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [{"matchFields": only}]
    }


def test_marks_are_those_of_the_lease_and_nobody_else_s():
    lease = lease_on(placed(Blocks(30), IN_BLOCKS["hami"]))
    forged = spawned_pod()
    forged["metadata"]["labels"]["aliquot.io/lease"] = "of-somebody-else"
    forged["metadata"]["annotations"]["aliquot.io/pieces"] = "[]"

    with_lease = apply(forged, bind_pod(lease, IN_BLOCKS["hami"], POLICY), marks_on(lease))
    without = apply(forged, bind_no_gpu(), None)

    assert with_lease["metadata"]["labels"]["aliquot.io/lease"] == lease.id
    assert with_lease["metadata"]["labels"]["hub.jupyter.org/username"] == "ada"
    assert without["metadata"] == spawned_pod()["metadata"]


def test_a_lease_of_no_gpu_is_bound_to_none():
    lease = lease_on(Placement(()))

    assert bind_pod(lease, on_cluster(), POLICY) == bind_no_gpu()


def _changed(inventory: Inventory, **changes) -> Inventory:
    return on_cluster(*(replace(gpu, **changes) for gpu in inventory.gpus))


@pytest.mark.parametrize(
    ("share", "inventory", "now", "sentence"),
    [
        (Blocks(30), IN_BLOCKS["hami"], on_cluster(), "was there and is gone"),
        (
            Blocks(30),
            IN_BLOCKS["hami"],
            _changed(IN_BLOCKS["hami"], mig_enabled=True),
            "is in MIG mode now",
        ),
        (
            Slice("1g.10gb"),
            sliced("mixed", "A100-80GB", "1g.10gb"),
            sliced("mixed", "A100-80GB", "2g.20gb"),
            "MIG instance gpu-1/1g.10gb/0 was there and is gone",
        ),
        *(
            (Blocks(30), inventory, _changed(inventory, blocks_by=None), "no longer")
            for inventory in IN_BLOCKS.values()
        ),
        (
            Blocks(20),
            IN_TURNS["turns-4"],
            _changed(IN_TURNS["turns-4"], blocks_by=BlocksBy.HAMI),
            "no longer serves parts",
        ),
        (
            Blocks(310),
            IN_BLOCKS["shares"],
            _changed(IN_BLOCKS["shares"], engine=Engine.DRA_HAMI),
            "cannot share a pod",
        ),
        (
            Blocks(310),
            IN_BLOCKS["shares"],
            _changed(IN_BLOCKS["shares"], engine=Engine.HAMI),
            "cannot share a pod",
        ),
        (
            Blocks(310),
            IN_BLOCKS["shares"],
            _changed(IN_BLOCKS["shares"], engine=Engine.KAI),
            "cannot share a pod",
        ),
        (
            Blocks(100),
            WHOLE_ONLY["plugin"],
            _changed(WHOLE_ONLY["plugin"], engine=Engine.HAMI_MIG),
            "gives MIG instances alone",
        ),
        (
            Slice("1g.10gb"),
            sliced("mixed", "A100-80GB", "1g.10gb"),
            _changed(sliced("mixed", "A100-80GB", "1g.10gb"), engine=Engine.HAMI),
            "runs in MIG mode",
        ),
        (
            Slice("1g.10gb"),
            sliced("mixed", "A100-80GB", "1g.10gb"),
            _changed(sliced("mixed", "A100-80GB", "1g.10gb"), engine=Engine.DRA_HAMI),
            "gives no MIG instances",
        ),
        (
            Blocks(30),
            IN_BLOCKS["hami"],
            _changed(IN_BLOCKS["hami"], engine=Engine.LOCAL),
            "by no engine that can be bound",
        ),
        (
            Blocks(30),
            IN_BLOCKS["hami"],
            _changed(IN_BLOCKS["hami"], offered_as=""),
            "Nothing says by which resource",
        ),
        (
            Blocks(30),
            IN_BLOCKS["hami"],
            _changed(IN_BLOCKS["hami"], node=""),
            "a pod runs on one",
        ),
    ],
)
def test_a_piece_that_changed_since_it_was_chosen_is_not_bound(share, inventory, now, sentence):
    lease = lease_on(placed(share, inventory))
    assert bind_pod(lease, inventory, POLICY)

    with pytest.raises(NotBindable, match=sentence) as raised:
        bind_pod(lease, now, POLICY)

    assert str(raised.value).endswith(".")


def test_pieces_on_two_nodes_are_not_bound_to_one_pod():
    inventory = IN_BLOCKS["shares"]
    lease = lease_on(placed(Blocks(310), inventory))
    moved = on_cluster(replace(inventory.gpus[0], node="gpu-2"), *inventory.gpus[1:])

    with pytest.raises(NotBindable, match=r"2 nodes \(gpu-1, gpu-2\)"):
        bind_pod(lease, moved, POLICY)


def test_a_name_of_a_driver_cannot_break_out_of_its_selector():
    (gpu,) = sliced("dra", "A100-80GB", "1g.10gb").gpus
    gpu = replace(gpu, uuid="GPU-1' || true || '")

    with pytest.raises(NotBindable, match="cannot be asked for"):
        bound(Slice("1g.10gb"), on_cluster(gpu))


def test_a_replicated_slice_is_called_what_it_is():
    (gpu,) = sliced("mixed", "A100-80GB", "1g.10gb").gpus
    shared = replace(gpu.mig_devices[0], offered_as="nvidia.com/mig-1g.10gb.shared")

    patch = bound(Slice("1g.10gb"), on_cluster(replace(gpu, mig_devices=(shared,))))

    assert patch.enforcement.by == "time_slicing"
    assert patch.limits == {"nvidia.com/mig-1g.10gb.shared": "1"}
