"""What an engine really gave is what the books say, on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from aliquot.domain.currency import Cost, cost_of_blocks
from aliquot.domain.leases import Lease, LeaseState, Placement
from aliquot.domain.uncertain import Doubt, GrantDoubt
from aliquot.storage import Store
from tests.storage.ledger_cases import decide_on, held_blocks, hold, later, vision

FIRST, SECOND = "GPU-00000000", "GPU-00000001"


@pytest.fixture(autouse=True)
def _groups(store):
    store.save_groups([vision(200)], {}, "admin", "the first groups")


def moved(lease: Lease, gpu_uuid: str, blocks: int | None = None) -> Placement:
    """The lease's one piece on another GPU, or of another size."""
    (piece,) = lease.placement.pieces
    blocks = blocks or piece.blocks
    cost = cost_of_blocks(blocks)
    return Placement((replace(piece, gpu_uuid=gpu_uuid, blocks=blocks, cost=cost),))


def test_the_pieces_follow_the_engine_to_another_device_and_the_charge_stays(store, database_url):
    lease_id = hold(store, 1)
    placed = store.lease(lease_id)

    assert store.put_granted(lease_id, moved(placed, SECOND), later(1))

    books = store.ledger().books
    assert (books.use_of(FIRST).blocks, books.use_of(SECOND).blocks) == (0, 30)
    assert store.lease(lease_id).charge == placed.charge
    event = store.events()[-1]
    assert (event.kind, event.object, event.why) == ("lease.granted", lease_id, "same_cost")
    assert [side["pieces"][0]["gpu_uuid"] for side in (event.before, event.after)] == [
        FIRST,
        SECOND,
    ]
    assert store.differing_grants() == {}
    with closing(Store.open(database_url)) as restarted:
        assert restarted.lease(lease_id) == store.lease(lease_id)
        assert restarted.ledger().books.use_of(SECOND).blocks == 30


@pytest.mark.parametrize("given, used, charged", [(40, 40, 40), (20, 20, 30)], ids=["more", "less"])
def test_another_amount_is_marked_and_the_higher_charge_counts(store, given, used, charged):
    lease_id = hold(store, 1)
    granted = moved(store.lease(lease_id), FIRST, given)

    assert store.put_granted(lease_id, granted, later(1))

    assert store.ledger().books.use_of(FIRST).blocks == used
    assert held_blocks(store) == charged
    marked = store.differing_grants()
    assert list(marked) == [lease_id]
    assert [side.words for side in marked[lease_id]] == ["30 blocks", f"{given} blocks"]


def test_a_mark_goes_with_its_lease(store):
    lease_id = hold(store, 1)
    store.put_granted(lease_id, moved(store.lease(lease_id), FIRST, 40), later(1))

    store.release(lease_id, "stopped", later(2))

    assert store.differing_grants() == {}
    assert held_blocks(store) == 0
    assert store.ledger().books.use_of(FIRST).is_free


def test_telling_it_again_writes_nothing(store):
    lease_id = hold(store, 1)
    granted = moved(store.lease(lease_id), SECOND)
    store.put_granted(lease_id, granted, later(1))
    before = store.ledger().version, store.events()

    assert store.put_granted(lease_id, granted, later(2))

    assert (store.ledger().version, store.events()) == before


def test_an_active_lease_stays_active(store):
    lease_id = hold(store, 1)
    store.activate(lease_id, later(1))

    store.put_granted(lease_id, moved(store.lease(lease_id), SECOND), later(2))

    lease = store.lease(lease_id)
    assert (lease.state, lease.active_at) == (LeaseState.ACTIVE, later(1))


def test_a_grant_that_cannot_be_booked_is_kept_once_until_a_look_finds_no_doubt(store):
    lease_id = hold(store, 1)
    placed = store.lease(lease_id)
    elsewhere = GrantDoubt(Doubt.GRANT_CONTRADICTED, "node: gpu-1 → gpu-2")

    for minute in (1, 2):
        assert store.put_granted(lease_id, None, later(minute), elsewhere)
    kept, lease = store.grant_doubts(), store.lease(lease_id)
    assert store.put_granted(lease_id, placed.placement, later(3))

    assert kept == {lease_id: elsewhere}
    assert lease == placed
    assert store.grant_doubts() == {}
    told = [
        (event.before, event.after, event.why)
        for event in store.events()
        if event.kind == "lease.grant_judged"
    ]
    said = {"said": "node: gpu-1 → gpu-2"}
    assert told == [(None, said, "grant_contradicted"), (said, None, "agrees")]


def test_a_doubt_goes_with_its_lease_and_a_later_one_takes_its_place(store):
    lease_id = hold(store, 1)
    store.put_granted(lease_id, None, later(1), GrantDoubt(Doubt.GRANT_UNTOLD))
    unreadable = GrantDoubt(Doubt.GRANT_UNREADABLE, "a limit is '1.5'")
    store.put_granted(lease_id, None, later(2), unreadable)
    assert store.grant_doubts() == {lease_id: unreadable}

    store.release(lease_id, "stopped", later(3))

    assert store.grant_doubts() == {}
    assert not store.put_granted(lease_id, None, later(4), unreadable)


def test_a_lease_that_is_over_or_unknown_is_not_changed(store):
    lease_id = hold(store, 1)
    placed = store.lease(lease_id)
    store.release(lease_id, "stopped", later(1))
    events = store.events()

    assert not store.put_granted(lease_id, moved(placed, SECOND), later(2))
    assert not store.put_granted("0" * 32, moved(placed, SECOND), later(2))

    assert store.lease(lease_id).placement == placed.placement
    assert store.events() == events


def test_a_weight_that_changed_since_the_start_is_no_difference(store):
    lease_id = hold(store, 1)
    store.save_groups([vision(200)], {"H100-80GB": 3}, "admin", "H100 counts thrice")

    store.put_granted(lease_id, moved(store.lease(lease_id), SECOND), later(1))

    assert store.lease(lease_id).charge == cost_of_blocks(30)
    assert store.differing_grants() == {}


def test_what_is_granted_counts_for_the_next_decision_in_the_same_store(store):
    lease_id = hold(store, 1, "60 blocks")
    store.put_granted(lease_id, moved(store.lease(lease_id), SECOND), later(1))

    second = hold(store, 2, "100 blocks")

    assert store.lease(second).placement.pieces[0].gpu_uuid == FIRST
    assert decide_on("30 blocks")(store.ledger()).placement.pieces[0].gpu_uuid == SECOND


def test_charges_are_compared_in_both_components(store):
    lease_id = hold(store, 1)
    (piece,) = store.lease(lease_id).placement.pieces
    lopsided = Placement((replace(piece, cost=Cost(200, 500)),))

    store.put_granted(lease_id, lopsided, later(1))

    assert store.lease(lease_id).charge == Cost(420, 500)
