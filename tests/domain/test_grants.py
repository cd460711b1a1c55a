"""What the books say once an engine has told what it gave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aliquot.domain.books import Books
from aliquot.domain.currency import Cost, cost_of_blocks, cost_of_slice
from aliquot.domain.grants import settle
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.quota import GroupTree
from tests.domain.machines import lease_of, someone

ADA = someone("ada")


def blocks_on(gpu: str, blocks: int) -> Placement:
    piece = Piece(gpu, "H100-80GB", blocks, blocks * 815, cost_of_blocks(blocks))
    return Placement((piece,))


def slice_of(mig_uuid: str) -> Placement:
    cost = cost_of_slice(1, 7, 1, 8)
    piece = Piece("GPU-0", "A100-80GB", 15, 9856, cost, mig_uuid=mig_uuid, profile="1g.10gb")
    return Placement((piece,))


def lease(placement: Placement, number: int = 1) -> Lease:
    return lease_of(placement, ADA, "vision", number)


def test_what_stands_already_needs_nothing():
    held = lease(blocks_on("GPU-0", 30))

    assert settle(held, blocks_on("GPU-0", 30), {}) is None
    # An engine that has not told yet has granted nothing that could be booked.
    assert settle(held, Placement(()), {}) is None


def test_another_device_of_the_same_cost_is_followed():
    settled = settle(lease(blocks_on("GPU-0", 30)), blocks_on("GPU-1", 30), {"H100-80GB": 3})

    assert settled is not None
    assert not settled.costs_differ
    assert settled.lease == lease(blocks_on("GPU-1", 30))


@pytest.mark.parametrize("weight", [1, 3])
@pytest.mark.parametrize("given", range(1, 101))
def test_the_charge_of_another_amount_never_falls(given, weight):
    held = replace(lease(blocks_on("GPU-0", 30)), charge=cost_of_blocks(30) * weight)
    settled = settle(held, blocks_on("GPU-0", given), {"H100-80GB": weight})

    if given == 30:
        assert settled is None
        return
    assert settled.costs_differ
    assert settled.lease.placement == blocks_on("GPU-0", given)
    assert settled.lease.charge == cost_of_blocks(max(30, given)) * weight


def test_slices_that_an_engine_swapped_stay_held_while_one_side_is_known():
    """Both leases name the instance of the second then; it is free when neither does."""
    first, second = lease(slice_of("MIG-a"), 1), lease(slice_of("MIG-b"), 2)
    swapped = settle(first, slice_of("MIG-b"), {})
    books = Books([first, second], GroupTree.of([])).without([first.id]).with_lease(swapped.lease)

    one_gone = books.without([second.id])
    assert one_gone.use_of("GPU-0").mig_uuids == {"MIG-b"}
    assert one_gone.without([first.id]).use_of("GPU-0").is_free
    assert books.use_of("GPU-0").mig_uuids == {"MIG-b"}
    assert books.without([first.id, second.id]).held_by_group("vision") == Cost(0, 0)
