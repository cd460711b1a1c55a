"""Which MIG profiles a node offers on which HAMi cuts instances on demand."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from aliquot.discovery.kubernetes.state import Kind
from aliquot.domain.inventory import Inventory
from tests.cluster.gpu_models import A100_80
from tests.cluster.node_shapes import SHAPES
from tests.discovery.cluster_objects import inventory_of, shaped

REGISTER = "hami.io/node-nvidia-register"


def registered(name: str, memory_mib: int, slices: int, size: int, *starts: int) -> dict[str, Any]:
    """A profile in HAMi's registration."""
    places = [{"start": start, "size": size} for start in starts]
    return {"name": name, "memoryMB": memory_mib, "sliceCount": slices, "placements": places}


ONE = registered("1g.10gb", 9856, 1, 1, *range(7))
TWO = registered("2g.20gb", 19968, 2, 2, 0, 2, 4)
THREE = registered("3g.40gb", 40192, 3, 4, 0, 4)
FOUR = registered("4g.40gb", 40192, 4, 4, 0)


def inventory_with(*profiles: dict[str, Any]) -> Inventory:
    """A node with two A100 80GB whose HAMi allows these profiles."""
    node = shaped("hami-mig-a100-80")
    cards = json.loads(node["metadata"]["annotations"][REGISTER])
    assert [card["type"] for card in cards] == [A100_80.product] * SHAPES["hami-mig-a100-80"].gpus
    for card in cards:
        card["migProfiles"] = list(profiles)
    node["metadata"]["annotations"][REGISTER] = json.dumps(cards)
    return inventory_of((Kind.NODES, node))


def offered(inventory: Inventory) -> dict[str, int]:
    return dict(Counter(device.profile for device in inventory.gpus[0].mig_devices))


@pytest.mark.parametrize("order", [(ONE, THREE, FOUR), (FOUR, THREE, ONE)])
def test_of_two_profiles_with_the_same_memory_only_the_one_that_hami_takes_is_offered(order):
    inventory = inventory_with(*order)

    assert offered(inventory) == {"1g.10gb": 7, "3g.40gb": 2}
    assert inventory.notes == (
        "Profile 4g.40gb of HAMi on node n1 is left out: HAMi chooses by memory, and takes "
        "3g.40gb for 40192 MiB. Take one of the two out of HAMi's migProfileAllowlist.",
    )


def test_a_profile_that_stands_alone_with_its_memory_is_offered():
    inventory = inventory_with(ONE, TWO, FOUR)

    assert offered(inventory) == {"1g.10gb": 7, "2g.20gb": 3, "4g.40gb": 1}
    assert inventory.notes == ()


def test_the_name_in_hamis_chart_for_a_whole_card_is_understood():
    # The chart's list for A100 80GB says 7g.79gb; NVIDIA calls the profile 7g.80gb.
    inventory = inventory_with(ONE, registered("7g.79gb", 80384, 7, 8, 0))
    whole = inventory.gpus[0].mig_devices[-1]

    assert offered(inventory) == {"1g.10gb": 7, "7g.79gb": 1}
    assert (whole.compute_slices, whole.memory_slices, whole.memory_mib) == (7, 8, 80384)


@pytest.mark.parametrize(
    "listed",
    [
        # HAMi looks at "1g" alone and makes the profile of one slot, which has no 20 GB.
        registered("1g.20gb", 9856, 1, 1, *range(7)),
        registered("5g.50gb", 50000, 5, 5, 0),
        registered("2g.20gb", 0, 2, 2, 0, 2, 4),
    ],
)
def test_a_profile_that_the_card_does_not_have_is_left_out_and_named(listed):
    inventory = inventory_with(THREE, listed)

    assert offered(inventory) == {"3g.40gb": 2}
    assert inventory.notes == (
        f"Profile {listed['name']} of HAMi on node n1 is left out: NVIDIA A100-SXM4-80GB has no "
        "such MIG instance. Check HAMi's migProfileAllowlist.",
    )
