"""What an engine gave is read back with both sides, and nobody's word breaks the reading."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.bindings.granted import Difference, Told, doubt_of, granted
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.pod_manifest import apply, claim_template
from aliquot.domain.currency import Cost
from aliquot.domain.leases import Placement
from aliquot.domain.shares import Blocks, Slice
from aliquot.domain.uncertain import Doubt, GrantDoubt
from tests.bindings.engine_answers import answer
from tests.bindings.spawned_pods import (
    IN_BLOCKS,
    POLICY,
    WHOLE_ONLY,
    lease_on,
    marks_on,
    on_cluster,
    placed,
    sliced,
    spawned_pod,
)

ALLOCATED = "hami.io/vgpu-devices-allocated"
INSTANCES = "hami.io/vgpu-mig-allocations"


def run(share, inventory):
    lease = lease_on(placed(share, inventory))
    patch = bind_pod(lease, inventory, POLICY)
    marks = marks_on(lease)
    given = answer(apply(spawned_pod(), patch, marks), claim_template(patch, marks), inventory)
    return given.pod, given.claims, lease


def hami(written: str, blocks: int = 30):
    inventory = IN_BLOCKS["hami"]
    pod, claims, lease = run(Blocks(blocks), inventory)
    pod["metadata"]["annotations"][ALLOCATED] = written
    return granted(pod, claims, lease, inventory)


def test_another_card_is_told_with_both_sides_and_followed():
    back = hami("GPU-0002,NVIDIA,24467,30:;")

    assert back.differences == (Difference("device", "GPU-0000", "GPU-0002"),)
    assert [piece.gpu_uuid for piece in back.placement.pieces] == ["GPU-0002"]
    assert not back.agrees
    assert back.said == {ALLOCATED: "GPU-0002,NVIDIA,24467,30:;"}
    # The books follow it, so that nothing is in doubt.
    assert doubt_of(back, run(Blocks(30), IN_BLOCKS["hami"])[2].placement) is None


def test_more_memory_than_was_charged_is_told_and_costs_what_it_is():
    back = hami("GPU-0000,NVIDIA,40779,30:;")

    assert back.differences == (
        Difference("blocks", "30", "50"),
        Difference("memory_mib", "24467", "40779"),
    )
    assert back.placement.cost == Cost(30 * 14, 700)


def test_cores_of_0_are_no_limit_and_so_all_of_the_compute():
    assert hami("GPU-0000,NVIDIA,24467,0:;").placement.cost.compute == 1400


def test_a_card_too_few_is_told_as_pieces():
    back = hami("GPU-0000,NVIDIA,81559,100:;", blocks=200)

    assert back.differences == (Difference("count", "2 pieces", "1 pieces"),)


def test_devices_of_another_container_count_as_well():
    back = hami("GPU-0000,NVIDIA,24467,30:;GPU-0001,NVIDIA,24467,30:;")

    assert back.differences == (Difference("count", "1 pieces", "2 pieces"),)


@pytest.mark.parametrize(
    "written",
    [
        "GPU-0000,NVIDIA,24467",
        "GPU-0000,NVIDIA,x,30",
        "GPU-0000,NVIDIA,-1,30",
        "GPU-0000,NVIDIA,24467,101",
        "GPU-0000,NVIDIA,999999,30",
        "GPU-0000,NVIDIA," + "9" * 5000 + ",30",
        "GPU-9999,NVIDIA,24467,30",
        "GPU-0000,NVIDIA,24467,30:" * 65,
        "￾",
    ],
)
def test_an_annotation_of_another_form_is_said_to_be_unreadable(written):
    back = hami(written)

    assert (back.told, back.placement, back.agrees) == (Told.UNREADABLE, None, False)
    assert doubt_of(back, Placement(())).kind is Doubt.GRANT_UNREADABLE
    assert 0 < len(back.said["unreadable"]) <= 200


def test_a_larger_instance_than_asked_for_is_followed():
    inventory = sliced("hami-mig", "H100-80GB", "3g.40gb")
    pod, claims, lease = run(Slice("3g.40gb"), inventory)
    written = json.loads(pod["metadata"]["annotations"][INSTANCES])
    written[0] |= {"profile": "7g.80gb", "placement": {"start": 0, "size": 8}}
    pod["metadata"]["annotations"][INSTANCES] = json.dumps(written)

    back = granted(pod, claims, lease, inventory)

    assert [piece.profile for piece in back.placement.pieces] == ["7g.80gb"]
    assert [difference.what for difference in back.differences] == [
        "profile",
        "blocks",
        "memory_mib",
    ]


def test_an_instance_at_another_place_is_no_difference_but_is_followed():
    inventory = sliced("hami-mig", "H100-80GB", "3g.40gb")
    pod, claims, lease = run(Slice("3g.40gb"), inventory)
    written = json.loads(pod["metadata"]["annotations"][INSTANCES])
    other = {0: 4, 4: 0}[written[0]["placement"]["start"]]
    written[0]["placement"]["start"] = other
    pod["metadata"]["annotations"][INSTANCES] = json.dumps(written)

    back = granted(pod, claims, lease, inventory)

    assert back.agrees
    assert back.placement.pieces[0].mig_uuid == f"GPU-0000/3g.40gb/{other}"
    assert back.placement != lease.placement


def test_an_instance_that_a_driver_makes_is_found_by_the_place_in_its_name():
    inventory = sliced("dra-made", "H100-80GB", "1g.10gb")
    pod, claims, lease = run(Slice("1g.10gb"), inventory)
    result = claims[0]["status"]["allocation"]["devices"]["results"][0]
    result["device"] = "gpu-0-mig-1g10gb-19-5"

    back = granted(pod, claims, lease, inventory)

    assert back.placement.pieces[0].mig_uuid == "GPU-0000/1g.10gb/5"
    result["device"] = "gpu-0-mig-1g10gb-19-7"
    assert granted(pod, claims, lease, inventory).told is Told.UNREADABLE


@pytest.mark.parametrize(
    ("consumed", "differences"),
    [
        ({"cores": "30", "memory": "24467Mi"}, ()),
        ({"hami-core-gpu.project-hami.io/cores": "30", "memory": str(24467 << 20)}, ()),
        (
            {"cores": "30", "memory": "40Gi"},
            (Difference("blocks", "30", "51"), Difference("memory_mib", "24467", "40960")),
        ),
        (
            {"cores": "60", "memory": "24467Mi"},
            (Difference("blocks", "30", "60"),),
        ),
    ],
)
def test_what_a_claim_consumed_is_compared_in_the_ledger_s_units(consumed, differences):
    inventory = IN_BLOCKS["dra-hami"]
    pod, claims, lease = run(Blocks(30), inventory)
    result = claims[0]["status"]["allocation"]["devices"]["results"][0]
    result |= {"consumedCapacity": consumed, "shareID": "a-b"}

    back = granted(pod, claims, lease, inventory)

    assert back.differences == differences
    assert "/a-b" in next(iter(back.said))


def test_a_device_that_is_only_looked_at_is_not_held():
    inventory = IN_BLOCKS["dra-hami"]
    pod, claims, lease = run(Blocks(30), inventory)
    results = claims[0]["status"]["allocation"]["devices"]["results"]
    results.append({**results[0], "adminAccess": True})

    assert granted(pod, claims, lease, inventory).agrees


def test_another_node_is_told_for_every_engine():
    for inventory, share in (
        (WHOLE_ONLY["plugin"], Blocks(100)),
        (IN_BLOCKS["kai"], Blocks(30)),
        (IN_BLOCKS["hami"], Blocks(30)),
        (IN_BLOCKS["dra-hami"], Blocks(30)),
    ):
        pod, claims, lease = run(share, inventory)
        pod["spec"]["nodeName"] = "gpu-2"

        back = granted(pod, claims, lease, inventory)

        assert back.differences == (Difference("node", "gpu-1", "gpu-2"),)
        doubt = GrantDoubt(Doubt.GRANT_CONTRADICTED, "node: gpu-1 → gpu-2")
        assert doubt_of(back, lease.placement) == doubt


def test_a_pod_whose_resources_were_changed_on_the_way_is_told_by_the_counts():
    inventory = WHOLE_ONLY["plugin"]
    pod, claims, lease = run(Blocks(200), inventory)
    pod["spec"]["containers"][1]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}

    back = granted(pod, claims, lease, inventory)

    assert back.differences == (Difference("count", "2 nvidia.com/gpu", "3 nvidia.com/gpu"),)
    assert back.told is Told.NODE


def test_kai_tells_the_fraction_and_the_group_of_the_card():
    inventory = IN_BLOCKS["kai"]
    pod, claims, lease = run(Blocks(30), inventory)
    assert granted(pod, claims, lease, inventory).said == {
        "gpu-fraction": "0.30",
        "runai-gpu-group": "5f1c",
    }

    pod["metadata"]["annotations"]["gpu-fraction"] = "0.5"
    back = granted(pod, claims, lease, inventory)

    assert back.differences == (Difference("blocks", "30", "50"),)
    del pod["metadata"]["annotations"]["gpu-fraction"]
    assert granted(pod, claims, lease, inventory).told is Told.UNREADABLE


def test_an_engine_that_writes_nothing_leaves_the_grant_in_doubt():
    inventory = IN_BLOCKS["hami"]
    pod, claims, lease = run(Blocks(30), inventory)
    assert doubt_of(granted(pod, claims, lease, inventory), lease.placement) is None
    del pod["metadata"]["annotations"][ALLOCATED]

    back = granted(pod, claims, lease, inventory)

    assert doubt_of(back, lease.placement) == GrantDoubt(Doubt.GRANT_UNTOLD)


def test_gpus_that_are_gone_tell_nothing():
    pod, claims, lease = run(Blocks(30), IN_BLOCKS["hami"])

    assert granted(pod, claims, lease, on_cluster()).told is Told.NOTHING


_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["GPU-0000", "whole", "part", "slice", "-1", "9" * 40, "1e9", "gpu-0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["start", "profile", "gpuUUID", "placement", "request", "device"]),
            inner,
        )
    ),
    max_leaves=6,
)
SHARES = {
    "hami": (IN_BLOCKS["hami"], Blocks(30)),
    "kai": (IN_BLOCKS["kai"], Blocks(30)),
    "plugin": (WHOLE_ONLY["plugin"], Blocks(200)),
    "shares": (IN_BLOCKS["shares"], Blocks(310)),
    "dra-hami": (IN_BLOCKS["dra-hami"], Blocks(30)),
    "dra": (sliced("dra-made", "A100-80GB", "1g.10gb"), Slice("1g.10gb")),
    "hami-mig": (sliced("hami-mig", "A100-80GB", "3g.40gb"), Slice("3g.40gb")),
}
RUN = {name: run(share, inventory) for name, (inventory, share) in SHARES.items()}


@given(st.sampled_from(sorted(SHARES)), _JUNK, _JUNK, st.booleans())
def test_no_word_of_an_engine_is_a_fault(name, junk, other, as_text):
    inventory, _ = SHARES[name]
    pod, claims, lease = copy.deepcopy(RUN[name])
    written: Any = json.dumps(junk) if as_text else junk
    pod["metadata"]["annotations"] |= {
        ALLOCATED: written,
        INSTANCES: written,
        "gpu-fraction": written,
    }
    pod["spec"]["nodeName"] = other
    pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": junk}}
    if claims:
        results = claims[0]["status"]["allocation"]["devices"]["results"]
        results[0] |= {"device": junk, "consumedCapacity": {"shares": other, "cores": junk}}
        if isinstance(other, dict):
            results[0] |= other

    back = granted(pod, claims, lease, inventory)

    assert back.placement is None or back.placement.pieces
    assert all(len(value) <= 200 for value in back.said.values())
