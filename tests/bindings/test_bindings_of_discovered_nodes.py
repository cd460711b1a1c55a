"""What discovery reads of each kind of node can be bound, given and read back."""

from __future__ import annotations

import json

import pytest

from aliquot.bindings.granted import granted
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.pod_manifest import apply, claim_template, foreign_gpu
from aliquot.discovery.kubernetes.state import Kind
from aliquot.domain.leases import Placement
from aliquot.domain.mig_geometry import geometries
from aliquot.domain.placement import place
from aliquot.domain.shares import Blocks, Share, Slice
from tests.bindings.engine_answers import answer
from tests.bindings.spawned_pods import POLICY, lease_on, marks_on, spawned_pod
from tests.cluster.node_shapes import SHAPES
from tests.discovery.cluster_objects import cluster_of, inventory_of, shaped
from tests.domain.machines import situation

WITH_GPUS = [name for name, shape in SHAPES.items() if shape.gpus]


def shares_on(inventory) -> list[Share]:
    blocks = (Blocks(count) for count in (1, 25, 30, 99, 100, 110, 200, 310))
    return [*(Slice(profile) for profile in inventory.profiles), *blocks]


@pytest.mark.parametrize("shape", WITH_GPUS)
def test_each_piece_of_a_discovered_node_is_bound_and_read_back(shape):
    inventory = inventory_of(cluster_of(shape), kai=shape.startswith("kai"))
    bound = 0
    for share in shares_on(inventory):
        placement = place(share, inventory, situation(inventory).books)
        if not isinstance(placement, Placement):
            continue
        lease = lease_on(placement)
        patch = bind_pod(lease, inventory, POLICY)
        pod = spawned_pod()
        pod["spec"]["initContainers"] = []
        pod = apply(pod, patch, marks_on(lease))
        assert foreign_gpu(pod, patch) is None

        given = answer(pod, claim_template(patch, marks_on(lease)), inventory)

        assert granted(given.pod, given.claims, lease, inventory).agrees, share
        bound += 1
    assert bound >= len(inventory.profiles) + (inventory.gpus[0].blocks_by is not None)


@pytest.mark.parametrize("model", geometries())
def test_each_profile_that_is_offered_where_hami_allows_all_can_be_bound(model):
    """The start is not to end at a profile that only the binding knows to be out of reach."""
    geometry = geometries()[model]
    memory = {p.name: p.memory_mib or 1024 * p.memory_slices for p in geometry.profiles.values()}
    node = shaped("hami-mig-a100-80")
    annotations = node["metadata"]["annotations"]
    cards = json.loads(annotations["hami.io/node-nvidia-register"])
    for card in cards:
        card["type"] = f"NVIDIA {geometry.names[0]}"
        card["migProfiles"] = [
            {
                "name": p.name,
                "memoryMB": memory[p.name],
                "sliceCount": p.compute_slices,
                "placements": [{"start": start, "size": p.memory_slices} for start in p.starts],
            }
            for p in geometry.profiles.values()
        ]
    annotations["hami.io/node-nvidia-register"] = json.dumps(cards)
    inventory = inventory_of((Kind.NODES, node))

    assert len(inventory.profiles) == len(set(memory.values())) < len(memory)
    for profile in inventory.profiles:
        placement = place(Slice(profile), inventory, situation(inventory).books)
        assert isinstance(placement, Placement)
        limits = bind_pod(lease_on(placement), inventory, POLICY).limits
        assert limits["nvidia.com/gpumem"] == str(memory[profile])
