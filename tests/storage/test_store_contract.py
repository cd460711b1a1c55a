"""What every store owes to leases, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from aliquot.domain.judging import Grant, Wait
from aliquot.domain.leases import LeaseState
from aliquot.domain.quota import ResourceGroup
from aliquot.domain.refusals import Reason, Refusal
from aliquot.storage import Store
from tests.storage.ledger_cases import (
    ADA,
    LIN,
    NOON,
    attempt,
    decide_on,
    held_blocks,
    hold,
    later,
    machine,
    vision,
)


@pytest.fixture(autouse=True)
def _groups(store):
    store.save_groups([vision(200)], {}, "admin", "the first groups")


def test_a_lease_is_the_same_after_a_restart(store, database_url):
    request = attempt(7, until=later(90), options={"share": "130 blocks"})
    granted = store.reserve(request, decide_on("130 blocks"))
    store.close()

    with closing(Store.open(database_url)) as restarted:
        lease = restarted.lease(request.lease_id)

    assert lease is not None
    assert lease.placement == granted.placement
    assert [piece.blocks for piece in lease.placement.pieces] == [100, 30]
    assert (lease.charge, lease.group) == (granted.charge, "vision")
    assert (lease.user_id, lease.user_name, lease.server.spawner_id) == (1, "ada", 7)
    assert (lease.reserved_at, lease.until, lease.active_at) == (NOON, later(90), None)
    assert (lease.state, lease.options) == (LeaseState.RESERVED, {"share": "130 blocks"})


def test_a_reserved_lease_counts_before_its_server_runs(store):
    hold(store, 1, "150 blocks")

    refused = store.reserve(attempt(2, LIN), decide_on("60 blocks", LIN))

    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.OVER_GROUP_QUOTA
    assert refused.numbers["held_blocks"] == 150
    assert held_blocks(store) == 150


def test_a_refusal_writes_nothing(store):
    before = store.ledger().version, store.events()

    assert isinstance(store.reserve(attempt(1), decide_on("300 blocks")), Refusal)

    assert (store.ledger().version, store.events()) == before


def test_a_wait_writes_nothing(store):
    one_gpu = machine(1)
    store.reserve(attempt(1), decide_on("80 blocks", inventory=one_gpu))

    outcome = store.reserve(attempt(2, LIN), decide_on("30 blocks", LIN, one_gpu))

    assert isinstance(outcome, Wait)
    assert held_blocks(store) == 80


def test_a_start_without_a_gpu_writes_nothing(store):
    before = store.ledger().version, store.events()

    assert isinstance(store.reserve(attempt(1), decide_on("cpu")), Grant)

    assert (store.ledger().version, store.events()) == before
    assert store.open_leases() == []


def test_a_new_attempt_replaces_the_lease_of_the_one_before(store):
    first = hold(store, 1, "150 blocks")

    second = hold(store, 1, "120 blocks")

    assert [lease.id for lease in store.open_leases()] == [second]
    assert store.lease(first).state is LeaseState.RELEASED
    assert [(e.kind, e.object, e.why) for e in store.events()][-2:] == [
        ("lease.released", first, "superseded"),
        ("lease.reserved", second, "started"),
    ]


@pytest.mark.parametrize("share", ["300 blocks", "cpu"])
def test_an_attempt_that_gets_no_gpu_also_ends_the_lease_of_the_one_before(store, share):
    first = hold(store, 1)

    store.reserve(attempt(1), decide_on(share))

    assert store.open_leases() == []
    assert store.lease(first).state is LeaseState.RELEASED


def test_the_same_attempt_asked_twice_gets_the_lease_that_it_has(store):
    request = attempt(1)
    first = store.reserve(request, decide_on("150 blocks"))

    again = store.reserve(request, decide_on("150 blocks"))

    assert again == first
    assert held_blocks(store) == 150
    assert [event.kind for event in store.events()].count("lease.reserved") == 1


def test_an_attempt_that_is_over_cannot_be_used_again(store):
    request = attempt(1)
    store.reserve(request, decide_on("30 blocks"))
    store.release(request.lease_id, "stopped", later(1))

    with pytest.raises(ValueError, match=request.lease_id):
        store.reserve(request, decide_on("30 blocks"))

    assert store.open_leases() == []
    hold(store, 1)


def test_an_error_in_the_decision_writes_nothing_and_frees_the_lock(store):
    stale = hold(store, 1)

    def fail(_ledger):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError):
        store.reserve(attempt(1), fail)

    assert [lease.id for lease in store.open_leases()] == [stale]
    hold(store, 2)


def test_releasing_twice_releases_once(store):
    lease_id = hold(store, 1)

    assert store.release(lease_id, "stopped", later(1))
    assert not store.release(lease_id, "stopped", later(2))
    assert not store.release("0" * 32, "stopped", later(2))

    assert held_blocks(store) == 0
    assert [event.kind for event in store.events()].count("lease.released") == 1


def test_releasing_a_server_gives_back_what_it_holds_and_nothing_else(store):
    mine, other = hold(store, 1), hold(store, 2)

    assert store.release_server(1, "stopped", later(1)) == [mine]
    assert store.release_server(1, "stopped", later(1)) == []

    assert [lease.id for lease in store.open_leases()] == [other]


def test_a_lease_becomes_active_when_its_server_answers(store):
    lease_id = hold(store, 1)

    assert store.activate(lease_id, later(1))
    assert store.activate(lease_id, later(2))

    lease = store.lease(lease_id)
    assert (lease.state, lease.active_at) == (LeaseState.ACTIVE, later(1))
    assert store.open_leases() == [lease]
    assert [event.kind for event in store.events()].count("lease.activated") == 1


def test_a_released_lease_does_not_become_active(store):
    lease_id = hold(store, 1)
    store.release(lease_id, "stopped", later(1))

    assert not store.activate(lease_id, later(2))
    assert store.lease(lease_id).state is LeaseState.RELEASED


def test_a_lease_that_the_books_lost_comes_back_whatever_the_quota_says(store):
    lease_id = hold(store, 1, "150 blocks")
    carried = store.lease(lease_id)
    lost = replace(carried, id="f" * 32, server=replace(carried.server, spawner_id=9))

    assert store.readopt(lost, "server lives")
    assert not store.readopt(lost, "server lives")

    assert held_blocks(store) == 300
    assert store.lease("f" * 32).state is LeaseState.ACTIVE
    assert store.events()[-1].kind == "lease.readopted"


def test_a_lease_released_by_mistake_comes_back(store):
    lease_id = hold(store, 1)
    store.release(lease_id, "server_gone", later(1))

    assert store.readopt(store.lease(lease_id), "server lives")

    assert [lease.id for lease in store.open_leases()] == [lease_id]


def test_a_lease_is_not_put_back_in_the_place_of_a_later_one(store):
    old = hold(store, 1)
    proof = store.lease(old)
    new = attempt(1, at=later(5))
    store.reserve(new, decide_on("30 blocks"))

    assert not store.readopt(proof, "server lives")
    assert [lease.id for lease in store.open_leases()] == [new.lease_id]


def test_a_lease_that_lives_takes_the_place_of_an_earlier_one(store):
    old = hold(store, 1)
    living = replace(store.lease(old), id="e" * 32, reserved_at=later(5))

    assert store.readopt(living, "server lives")
    assert [lease.id for lease in store.open_leases()] == ["e" * 32]


def test_a_lease_outlives_its_group_and_still_counts(store):
    lease_id = hold(store, 1, "150 blocks")
    store.save_groups([ResourceGroup("speech", vision().quota)], {}, "admin", "vision is over")

    assert store.lease(lease_id).group == "vision"
    assert held_blocks(store) == 150
    assert store.release(lease_id, "stopped", later(1))
    assert held_blocks(store) == 0


def test_a_users_leases_are_told_latest_first(store):
    for minute in range(3):
        store.reserve(attempt(1, lease_id=f"{minute:032x}", at=later(minute)), decide_on("10"))
    hold(store, 2, person=LIN)

    assert [lease.id[-1] for lease in store.leases_of(ADA.user_id)] == ["2", "1", "0"]


def test_moments_come_back_in_utc_whatever_zone_they_went_in(store):
    in_seoul = datetime(2026, 11, 23, 21, 0, 0, 1, tzinfo=timezone(timedelta(hours=9)))
    request = attempt(1, at=in_seoul)
    store.reserve(request, decide_on("30 blocks"))
    store.close()

    lease = store.lease(request.lease_id)

    assert lease.reserved_at == in_seoul
    assert lease.reserved_at.isoformat() == "2026-11-23T12:00:00.000001+00:00"
    assert store.events()[-1].at.utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused(store):
    with pytest.raises(ValueError, match="carries a zone"):
        store.reserve(attempt(1, at=datetime(2026, 11, 23)), decide_on("30 blocks"))

    assert store.open_leases() == []


def test_an_unchanged_ledger_is_not_read_again(store):
    hold(store, 1)
    assert store.ledger() is store.ledger()


def test_each_store_sees_what_the_other_wrote(store, database_url):
    with closing(Store.open(database_url)) as other:
        hold(store, 1, "150 blocks")
        assert held_blocks(other) == 150
        assert isinstance(other.reserve(attempt(2, LIN), decide_on("60 blocks", LIN)), Refusal)
        other.release_server(1, "stopped", later(1))
        assert held_blocks(store) == 0


def test_a_store_that_only_writes_decides_on_what_the_other_wrote(store, database_url):
    with closing(Store.open(database_url)) as other:
        hold(other, 1, "50 blocks")
        hold(store, 2, "50 blocks")
        hold(other, 3, "50 blocks")

        # Neither has looked meanwhile: 150 of 200 are held, two thirds by the other.
        assert isinstance(store.reserve(attempt(4, LIN), decide_on("60 blocks", LIN)), Refusal)
        assert isinstance(other.reserve(attempt(4, LIN), decide_on("50 blocks", LIN)), Grant)


def test_threads_at_once_are_not_promised_the_same_blocks(store):
    outcomes = []
    barrier = threading.Barrier(16)

    def ask(spawner_id):
        barrier.wait()
        outcomes.append(store.reserve(attempt(spawner_id), decide_on("30 blocks")))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # 200 blocks on two GPUs: three of 30 on each.
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 6
    assert held_blocks(store) == 180
