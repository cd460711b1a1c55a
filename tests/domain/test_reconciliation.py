"""Reconciliation: what runs is the truth, and one empty look proves nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement
from aliquot.domain.reconciliation import LiveServer, reconcile
from tests.domain.machines import lease_of, someone

ADA = someone("ada")


def a_lease(number: int, state: LeaseState = LeaseState.ACTIVE) -> Lease:
    piece = Piece("GPU-0000", "H100-80GB", 10, 8000, cost_of_blocks(10))
    return replace(lease_of(Placement((piece,)), ADA, "vision", number), state=state)


def serving(lease: Lease | None, *, is_ready: bool = True) -> LiveServer:
    return LiveServer("ada", "", lease, is_ready)


def test_books_and_servers_that_agree_need_nothing():
    found = reconcile([a_lease(1)], [serving(a_lease(1)), serving(None)], ())

    assert found.is_empty
    assert found.missing == frozenset()


def test_a_lease_without_a_server_is_released_in_the_second_pass_and_not_in_the_first():
    first = reconcile([a_lease(1)], [], ())
    second = reconcile([a_lease(1)], [], first.missing)

    assert (first.release, first.missing) == ((), {a_lease(1).id})
    assert (second.release, second.missing) == ((a_lease(1),), frozenset())


def test_a_server_that_the_hub_finds_again_keeps_its_lease():
    first = reconcile([a_lease(1)], [], ())
    second = reconcile([a_lease(1)], [serving(a_lease(1))], first.missing)

    assert second.is_empty
    assert second.missing == frozenset()


def test_a_lease_of_a_server_that_is_still_starting_stays_reserved():
    reserved = a_lease(1, LeaseState.RESERVED)

    assert reconcile([reserved], [serving(reserved, is_ready=False)], [reserved.id]).is_empty


def test_a_server_that_answers_has_its_reserved_lease_activated():
    reserved = a_lease(1, LeaseState.RESERVED)

    assert reconcile([reserved], [serving(reserved)], ()).activate == (reserved,)


def test_a_lease_that_the_books_lost_comes_back_from_a_server_that_answers():
    assert reconcile([], [serving(a_lease(1))], ()).readopt == (a_lease(1),)
    # One that is starting or stopping may be about to release it.
    assert reconcile([], [serving(a_lease(1), is_ready=False)], ()).is_empty


@given(
    st.sets(st.integers(1, 6)),
    st.dictionaries(st.integers(1, 6), st.booleans()),
    st.sets(st.integers(1, 6)),
)
def test_every_lease_is_corrected_at_most_one_way_and_only_for_cause(booked, living, missing):
    books = [a_lease(n) for n in sorted(booked)]
    servers = [serving(a_lease(n), is_ready=ready) for n, ready in sorted(living.items())]
    found = reconcile(books, servers, {a_lease(n).id for n in missing})

    gone = booked - living.keys()
    assert {lease.id for lease in found.release} == {a_lease(n).id for n in gone & missing}
    assert found.missing == {a_lease(n).id for n in gone - missing}
    assert {lease.id for lease in found.readopt} == {
        a_lease(n).id for n, ready in living.items() if ready and n not in booked
    }
