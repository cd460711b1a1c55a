"""Who holds what on the nodes of a cluster, whatever the books say."""

from __future__ import annotations

import json

import pytest

from aliquot.discovery.kubernetes.state import Kind
from tests.cluster.dra_devices import HAMI, NVIDIA
from tests.cluster.gpu_models import gpu_uuid, mig_uuid
from tests.discovery.cluster_objects import (
    claim,
    cluster_of,
    inventory_of,
    marks,
    piece,
    pod,
    shaped,
    told,
)

WHOLE = cluster_of("plugin-a100-80")
MIG = cluster_of("plugin-mig-a100-80")
SLICED = cluster_of("plugin-time-sliced-a30")
KAI = cluster_of("kai-a100-80")
HAMI_NODE = cluster_of("hami-a100-40")
FIRST, SECOND = gpu_uuid("n1", 0), gpu_uuid("n1", 1)


def test_pods_of_others_are_put_on_what_is_left_from_the_end():
    inventory = inventory_of(
        WHOLE,
        pod("x/two", asks={"nvidia.com/gpu": 2}),
        pod("x/none", asks={"cpu": 1}),
        pod("x/elsewhere", "n2", asks={"nvidia.com/gpu": 1}),
    )

    assert told(inventory.held) == [
        ("n1/gpu/2", "x/two", 100, None),
        ("n1/gpu/3", "x/two", 100, None),
    ]


def test_pods_of_ours_keep_their_pieces_and_others_move_aside():
    own = marks("lease-1", piece("n1/gpu/3"))
    inventory = inventory_of(
        WHOLE,
        pod("hub/own", asks={"nvidia.com/gpu": 1}, **own),
        pod("x/a", asks={"nvidia.com/gpu": 1}),
    )

    assert told(inventory.held) == [
        ("n1/gpu/2", "x/a", 100, None),
        ("n1/gpu/3", "hub/own", 100, "lease-1"),
    ]


def test_a_pod_of_ours_that_is_not_bound_yet_keeps_its_piece_too():
    own = marks("lease-1", piece("n1/gpu/3"))
    inventory = inventory_of(
        WHOLE,
        pod("hub/own", "", asks={"nvidia.com/gpu": 1}, phase="Pending", **own),
        pod("x/unbound", "", asks={"nvidia.com/gpu": 1}, phase="Pending"),
    )

    assert told(inventory.held) == [("n1/gpu/3", "hub/own", 100, "lease-1")]


def test_a_pod_with_another_ledgers_mark_is_foreign():
    other = marks("lease-1", piece("n1/gpu/0"), ledger="f" * 16)
    inventory = inventory_of(WHOLE, pod("hub2/own", asks={"nvidia.com/gpu": 1}, **other))

    assert told(inventory.held) == [("n1/gpu/3", "hub2/own", 100, None)]


def test_marks_that_tell_less_than_the_pod_takes_do_not_hide_the_rest():
    own = marks("lease-1", piece("n1/gpu/0"))
    inventory = inventory_of(WHOLE, pod("hub/own", asks={"nvidia.com/gpu": 3}, **own))

    assert told(inventory.held) == [
        ("n1/gpu/0", "hub/own", 100, "lease-1"),
        ("n1/gpu/2", "hub/own", 100, None),
        ("n1/gpu/3", "hub/own", 100, None),
    ]
    assert "asks for more than its lease lease-1" in inventory.notes[0]


def test_two_pods_with_one_lease_are_not_counted_as_one():
    own = marks("lease-1", piece("n1/gpu/0"))
    inventory = inventory_of(
        WHOLE,
        pod("hub/a", asks={"nvidia.com/gpu": 1}, **own),
        pod("hub/b", asks={"nvidia.com/gpu": 1}, **own),
    )

    assert sorted(p.lease_id or "" for p in inventory.held) == ["", "lease-1"]
    assert "carries the lease of another pod" in inventory.notes[0]


def test_marks_that_cannot_be_read_hold_by_what_the_pod_asks_for():
    own = marks("lease-1")
    own["annotations"]["aliquot.io/pieces"] = "{"
    inventory = inventory_of(WHOLE, pod("hub/own", asks={"nvidia.com/gpu": 1}, **own))

    assert told(inventory.held) == [("n1/gpu/3", "hub/own", 100, "lease-1")]


def test_instances_are_held_by_profile():
    own = marks("lease-1", piece("n1/gpu/0", 15, "n1/1g.10gb/2"))
    ask = {"nvidia.com/mig-1g.10gb": 1}
    inventory = inventory_of(
        MIG, pod("x/a", asks=ask), pod("hub/own", asks=ask, **own), pod("x/b", asks=ask)
    )

    assert told(inventory.held) == [
        ("n1/1g.10gb/2", "hub/own", 0, "lease-1"),
        ("n1/1g.10gb/5", "x/b", 0, None),
        ("n1/1g.10gb/6", "x/a", 0, None),
    ]


def test_replicas_fill_a_time_sliced_gpu_from_the_last():
    own = marks("lease-1", piece("n1/gpu/0", 25))
    inventory = inventory_of(
        SLICED,
        pod("x/five", asks={"nvidia.com/gpu.shared": 5}),
        pod("hub/own", asks={"nvidia.com/gpu.shared": 1}, **own),
    )

    assert told(inventory.held) == [
        ("n1/gpu/0", "hub/own", 25, "lease-1"),
        ("n1/gpu/0", "x/five", 25, None),
        *[("n1/gpu/1", "x/five", 25, None)] * 4,
    ]


@pytest.mark.parametrize(
    "containers, inits, held",
    [
        ([1, 1], [], 2),
        ([1], [(3, False)], 3),
        ([1, 1], [(1, False), (1, False)], 2),
        ([1], [(1, True)], 2),
        ([1], [(1, True), (2, False)], 3),
        ([0], [(2, False)], 2),
    ],
)
def test_init_containers_and_sidecars_count_as_kubernetes_counts_them(containers, inits, held):
    def container(count: int, **more) -> dict:
        return {"resources": {"requests": {"nvidia.com/gpu": str(count)}}, **more}

    kind, obj = pod("x/a")
    obj["spec"]["containers"] = [container(count) for count in containers]
    obj["spec"]["initContainers"] = [
        container(count, **({"restartPolicy": "Always"} if sidecar else {}))
        for count, sidecar in inits
    ]

    assert len(inventory_of(WHOLE, (kind, obj)).held) == held


def test_pods_that_are_over_hold_nothing_and_those_that_end_do():
    kind, ending = pod("x/ending", asks={"nvidia.com/gpu": 1})
    ending["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    inventory = inventory_of(
        WHOLE,
        pod("x/done", asks={"nvidia.com/gpu": 1}, phase="Succeeded"),
        pod("x/failed", asks={"nvidia.com/gpu": 1}, phase="Failed"),
        (kind, ending),
    )

    assert told(inventory.held) == [("n1/gpu/3", "x/ending", 100, None)]


def test_devices_that_the_plugin_calls_unhealthy_are_held_by_number():
    node = shaped("plugin-a100-80")
    node["status"]["allocatable"]["nvidia.com/gpu"] = "3"

    assert told(inventory_of((Kind.NODES, node)).held) == [
        ("n1/gpu/3", "1 of nvidia.com/gpu on node n1 are not healthy.", 100, None)
    ]


@pytest.mark.parametrize(
    "spec, conditions, sentence",
    [
        ({"unschedulable": True}, None, "Node n1 is cordoned."),
        ({}, [{"type": "Ready", "status": "False"}], "Node n1 is not ready."),
        ({}, [{"type": "Ready", "status": "Unknown"}], "Node n1 is not ready."),
        ({}, [], "Node n1 is not ready."),
        (
            {"taints": [{"key": "team", "effect": "NoSchedule"}]},
            None,
            "Node n1 has the taint team, which notebooks do not tolerate.",
        ),
        (
            {"taints": [{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]},
            None,
            "Node n1 takes no pods: Kubernetes has tainted it with "
            "node.kubernetes.io/disk-pressure.",
        ),
    ],
)
def test_a_node_that_takes_nobody_is_held_whole_and_says_why(spec, conditions, sentence):
    node = shaped("plugin-a100-80", **spec)
    if conditions is not None:
        node["status"]["conditions"] = conditions
    inventory = inventory_of((Kind.NODES, node))

    assert len(inventory.gpus) == 4
    assert told(inventory.held) == [(f"n1/gpu/{i}", sentence, 100, None) for i in range(4)]


@pytest.mark.parametrize(
    "taint",
    [
        {"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"},
        {"key": "team", "effect": "PreferNoSchedule"},
    ],
)
def test_a_taint_that_keeps_only_others_away_does_not_matter(taint):
    assert inventory_of((Kind.NODES, shaped("plugin-a100-80", taints=[taint]))).held == ()


def kai_pod(name: str, fraction: str, group: str, **more):
    annotations = {"gpu-fraction": fraction, **more.pop("annotations", {})}
    labels = {**({"runai-gpu-group": group} if group else {}), **more.pop("labels", {})}
    return pod(name, labels=labels, annotations=annotations, **more)


def reservation(group: str):
    return pod(
        f"kai-resource-reservation/gpu-{group}",
        asks={"nvidia.com/gpu": 1},
        labels={"runai-gpu-group": group},
    )


def test_kais_fractions_share_the_card_of_their_group_and_its_reservation_counts_once():
    inventory = inventory_of(
        KAI,
        reservation("g1"),
        kai_pod("x/a", "0.25", "g1"),
        kai_pod("x/b", "0.5", "g1"),
        pod("x/whole", asks={"nvidia.com/gpu": 1}),
        kai=True,
    )

    assert told(inventory.held) == [
        ("n1/gpu/2", "x/whole", 100, None),
        ("n1/gpu/3", "x/a", 25, None),
        ("n1/gpu/3", "x/b", 50, None),
    ]


def test_a_reservation_with_nobody_in_it_holds_its_card():
    inventory = inventory_of(KAI, reservation("g1"), kai=True)

    assert told(inventory.held) == [("n1/gpu/3", "kai-resource-reservation/gpu-g1", 100, None)]


def test_a_fraction_of_ours_names_its_group_for_others_in_it():
    own = marks("lease-1", piece("n1/gpu/0", 30))
    inventory = inventory_of(
        KAI,
        reservation("g1"),
        kai_pod("hub/own", "0.3", "g1", **own),
        kai_pod("x/b", "0.5", "g1"),
        kai=True,
    )

    assert told(inventory.held) == [
        ("n1/gpu/0", "hub/own", 30, "lease-1"),
        ("n1/gpu/0", "x/b", 50, None),
    ]


def test_two_groups_are_two_cards_whatever_the_pieces_say():
    """KAI put two fractions on two cards that the ledger had put on one."""
    inventory = inventory_of(
        KAI,
        kai_pod("hub/a", "0.3", "g1", **marks("lease-1", piece("n1/gpu/0", 30))),
        kai_pod("hub/b", "0.2", "g2", **marks("lease-2", piece("n1/gpu/0", 20))),
        kai=True,
    )

    assert told(inventory.held) == [
        ("n1/gpu/0", "hub/a", 30, "lease-1"),
        ("n1/gpu/3", "hub/b", 20, "lease-2"),
    ]


def test_kais_other_ways_to_ask_for_a_part_count_too():
    several = kai_pod(
        "x/several", "0.5", "",
        labels={"runai-gpu-group/g1": "g1", "runai-gpu-group/g2": "g2"},
        annotations={"gpu-fraction-num-devices": "2"},
    )  # fmt: skip
    by_memory = pod(
        "x/memory", annotations={"gpu-memory": "8192"}, labels={"runai-gpu-group": "g3"}
    )
    unlabelled = kai_pod("x/new", "0.004", "")
    inventory = inventory_of(KAI, several, by_memory, unlabelled, kai=True)

    assert told(inventory.held) == [
        ("n1/gpu/0", "x/several", 50, None),
        ("n1/gpu/1", "x/several", 50, None),
        ("n1/gpu/2", "x/new", 1, None),
        ("n1/gpu/3", "x/memory", 10, None),
    ]


def allocated(*devices: tuple[str, int, int]) -> dict[str, str]:
    written = "".join(f"{uuid},NVIDIA,{mib},{cores}:" for uuid, mib, cores in devices)
    return {"hami.io/vgpu-devices-allocated": written + ";"}


def test_hamis_annotation_tells_card_and_part():
    own = marks("lease-1", piece(FIRST, 40))
    own["annotations"] |= allocated((SECOND, 16384, 40))
    inventory = inventory_of(
        HAMI_NODE,
        pod(
            "x/memory-heavy", asks={"nvidia.com/gpu": 1}, annotations=allocated((FIRST, 20480, 10))
        ),
        pod("x/no-limit", asks={"nvidia.com/gpu": 1}, annotations=allocated((FIRST, 410, 0))),
        pod("hub/own", asks={"nvidia.com/gpu": 1}, **own),
    )

    # 20480 of 40960 MiB are 50 blocks; our own pod is on the card that HAMi chose.
    assert told(inventory.held) == sorted([
        (FIRST, "x/memory-heavy", 50, None),
        (FIRST, "x/no-limit", 2, None),
        (SECOND, "hub/own", 40, "lease-1"),
    ])  # fmt: skip


@pytest.mark.parametrize("part", ["NVIDIA,x,40", "NVIDIA,16384,-1", "NVIDIA,16384", "NVIDIA"])
def test_a_card_of_which_hami_gave_nobody_can_read_how_much_counts_as_held(part):
    written = {"hami.io/vgpu-devices-allocated": f"{FIRST},{part}:;"}
    inventory = inventory_of(
        HAMI_NODE, pod("x/edited", asks={"nvidia.com/gpu": 1}, annotations=written)
    )

    assert told(inventory.held) == [(FIRST, "x/edited", 100, None)]


def test_a_pod_that_hami_did_not_place_may_be_anywhere_and_is_named():
    inventory = inventory_of(HAMI_NODE, pod("x/stray", asks={"nvidia.com/gpu": 1}))

    assert told(inventory.held) == [(SECOND, "x/stray", 100, None)]
    assert "Pod x/stray on node n1 asks for 1 nvidia.com/gpu" in inventory.notes[0]


def test_unhealthy_and_cordoned_cards_of_hami_are_held():
    node = shaped("hami-a100-40")
    annotations = node["metadata"]["annotations"]
    cards = json.loads(annotations["hami.io/node-nvidia-register"])
    # Go leaves out "health": false.
    del cards[0]["health"]
    annotations["hami.io/node-nvidia-register"] = json.dumps(cards)
    annotations["hami.io/device-cordon"] = SECOND
    inventory = inventory_of((Kind.NODES, node))

    assert [(p.gpu_uuid, p.blocks) for p in inventory.held] == [(FIRST, 100), (SECOND, 100)]
    assert "unhealthy" in inventory.held[0].holder
    assert "hami.io/device-cordon" in inventory.held[1].holder


def test_hamis_instances_are_held_where_they_lie():
    made = [
        {"gpuUUID": FIRST, "profile": "3g.40gb", "placement": {"start": 4, "size": 4}},
        {"gpuUUID": SECOND, "profile": "1g.10gb", "placement": {"start": 9, "size": 1}},
    ]
    annotations = allocated((FIRST, 40192, 0), (SECOND, 9856, 0))
    annotations["hami.io/vgpu-mig-allocations"] = json.dumps(made)
    inventory = inventory_of(
        cluster_of("hami-mig-a100-80"),
        pod("x/a", asks={"nvidia.com/gpu": 2}, annotations=annotations),
    )

    # Slot 9 does not exist: what lies beside it cannot be promised, so all of it is held.
    assert told(inventory.held) == sorted([
        (f"{FIRST}/3g.40gb/4", "x/a", 0, None),
        (SECOND, "x/a", 100, None),
    ])  # fmt: skip


def test_claims_hold_devices_by_name_for_their_pod():
    h100 = cluster_of("dra-nvidia-h100")
    inventory = inventory_of(
        h100,
        claim("a", NVIDIA, "gpu-0-mig-1g10gb-19-3", pod_name="alice"),
        claim("b", NVIDIA, "gpu-2"),
        claim("c", NVIDIA, "gpu-9"),
        claim("d", "net.example.com", "gpu-1"),
    )

    assert told(inventory.held) == sorted([
        (mig_uuid("n1", 0, 3), "others/alice", 0, None),
        (gpu_uuid("n1", 2), "others/b", 100, None),
    ])  # fmt: skip


@pytest.mark.parametrize(
    "shape, driver, device, consumed, blocks",
    [
        ("dra-hami-a100-40", HAMI, "hami-gpu-0", {"cores": "40", "memory": "4Gi"}, 40),
        ("dra-hami-a100-40", HAMI, "hami-gpu-0", {"cores": "10", "memory": "20Gi"}, 50),
        ("dra-hami-a100-40", HAMI, "hami-gpu-0", None, 100),
        ("dra-nvidia-shares-a100-80", NVIDIA, "gpu-0", {"shares": "25", "memory": "0"}, 25),
        ("dra-nvidia-shares-a100-80", NVIDIA, "gpu-0", {"shares": "1", "memory": "8Gi"}, 10),
    ],
)
def test_consumed_capacity_counts_by_its_larger_part(shape, driver, device, consumed, blocks):
    inventory = inventory_of(
        cluster_of(shape), claim("a", driver, device, consumed=consumed, pod_name="p")
    )

    assert told(inventory.held) == [(gpu_uuid("n1", 0), "others/p", blocks, None)]


def test_a_claim_of_ours_is_known_by_its_pod_or_by_its_own_marks():
    own = marks("lease-1", piece(FIRST))
    inventory = inventory_of(
        cluster_of("dra-nvidia-h100"),
        pod("others/own", **own),
        claim("by-pod", NVIDIA, "gpu-1", pod_name="own"),
        claim("by-itself", NVIDIA, "gpu-2", labels=marks("lease-2")["labels"]),
    )

    assert sorted(p.lease_id for p in inventory.held) == ["lease-1", "lease-2"]


def test_admin_access_looks_and_does_not_hold():
    kind, obj = claim("monitor", NVIDIA, "gpu-1")
    obj["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True

    assert inventory_of(cluster_of("dra-nvidia-h100"), (kind, obj)).held == ()


def test_a_device_with_a_taint_is_held():
    objects = cluster_of("dra-nvidia-h100")
    devices = objects[1][1]["spec"]["devices"]
    devices[-1]["taints"] = [{"key": "gpu.nvidia.com/xid", "effect": "NoSchedule"}]
    (held,) = inventory_of(objects).held

    assert (held.gpu_uuid, held.blocks) == (gpu_uuid("n1", 2), 100)
    assert "gpu.nvidia.com/xid" in held.holder


def test_no_clock_of_the_cluster_is_read():
    """An API server or a node that is five minutes off, or five years, changes nothing."""
    seen = set()
    for year in ("2021", "2026", "2031"):
        moment = f"{year}-11-23T12:05:00Z"
        node = shaped("hami-a100-40")
        node["metadata"]["creationTimestamp"] = moment
        node["metadata"]["annotations"]["hami.io/node-handshake"] = f"Requesting_{moment}"
        node["status"]["conditions"] = [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": moment}
        ]
        kind, obj = pod("x/a", asks={"nvidia.com/gpu": 1}, annotations=allocated((FIRST, 4096, 9)))
        obj["metadata"] |= {"creationTimestamp": moment, "deletionTimestamp": moment}
        inventory = inventory_of((Kind.NODES, node), (kind, obj))
        seen.add((inventory.gpus, inventory.held, inventory.notes, inventory.read_at))

    assert len(seen) == 1
