"""Writers that wait at the same moment share a transaction, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aliquot.domain.judging import Grant
from aliquot.domain.leases import LeaseState
from aliquot.storage import Fault, LedgerUnavailable, Store
from tests.storage.ledger_cases import ADA, attempt, decide_on, held_blocks, hold, later, vision


@pytest.fixture(autouse=True)
def _groups(store):
    store.save_groups([vision(200)], {}, "admin", "the first groups")


def together(store: Store, acts: Sequence[Callable[[], Any]]) -> list[Any]:
    """Let these come, in this order, while another start is being decided: they then wait
    for it and are done in one transaction. An exception stands in the place of a result."""
    results: list[Any] = [None] * len(acts)
    threads = []

    def call(number: int) -> None:
        try:
            results[number] = acts[number]()
        except Exception as error:
            results[number] = error

    def decide_slowly(ledger):
        for number in range(len(acts)):
            thread = threading.Thread(target=call, args=(number,))
            thread.start()
            threads.append(thread)
            time.sleep(0.02)
        return decide_on("cpu")(ledger)

    store.reserve(attempt(999), decide_slowly)
    for thread in threads:
        thread.join()
    return results


def test_those_who_wait_are_all_served_by_one_commit(store, monkeypatch):
    sizes = []
    run_all = store._turns._run_all
    monkeypatch.setattr(
        store._turns, "_run_all", lambda all_: (sizes.append(len(all_)), run_all(all_))[1]
    )

    results = together(
        store,
        [lambda n=n: store.reserve(attempt(n), decide_on("20 blocks")) for n in range(1, 9)],
    )

    assert sizes == [1, 8]
    assert all(isinstance(result, Grant) for result in results)
    assert held_blocks(store) == 160


def test_the_later_are_decided_on_what_the_earlier_got(store):
    results = together(
        store,
        [lambda n=n: store.reserve(attempt(n), decide_on("60 blocks")) for n in range(1, 6)],
    )

    # Two GPUs: one of 60 on each.
    assert [isinstance(result, Grant) for result in results] == [True, True, False, False, False]
    assert held_blocks(store) == 120


def test_a_server_that_starts_stops_and_starts_in_one_commit_holds_its_last_lease(store):
    first = hold(store, 1)
    second, third = attempt(1), attempt(1)

    results = together(
        store,
        [
            lambda: store.reserve(second, decide_on("40 blocks")),
            lambda: store.release(first, "stopped", later(1)),
            lambda: store.activate(first, later(1)),
            lambda: store.activate(second.lease_id, later(1)),
            lambda: store.release_server(1, "stopped", later(2)),
            lambda: store.release(second.lease_id, "stopped", later(2)),
            lambda: store.reserve(third, decide_on("50 blocks")),
        ],
    )

    assert isinstance(results[0], Grant)
    assert results[1:6] == [False, False, True, [second.lease_id], False]
    assert [lease.id for lease in store.open_leases()] == [third.lease_id]
    assert held_blocks(store) == 50
    assert store.lease(second.lease_id).state is LeaseState.RELEASED


def test_a_fault_of_one_is_not_anothers(store):
    used = hold(store, 1)
    store.release(used, "stopped", later(1))

    def fail(_ledger):
        raise RuntimeError("a fault of ours")

    results = together(
        store,
        [
            lambda: store.reserve(attempt(2), decide_on("20 blocks")),
            lambda: store.reserve(attempt(3), fail),
            lambda: store.reserve(attempt(1, ADA, lease_id=used), decide_on("20 blocks")),
            lambda: store.reserve(attempt(4), decide_on("20 blocks")),
        ],
    )

    assert [type(result) for result in results] == [Grant, RuntimeError, ValueError, Grant]
    assert held_blocks(store) == 40
    kinds = [event.kind for event in store.events()]
    assert kinds.count("lease.reserved") == 3


def test_who_waits_too_long_is_told_and_gets_nothing_later(database_url, store):
    impatient = Store.open(database_url, busy_wait_seconds=0.1)
    results: list[Any] = []

    def decide_too_slowly(ledger):
        def ask():
            try:
                results.append(impatient.reserve(attempt(2), decide_on("20 blocks")))
            except LedgerUnavailable as fault:
                results.append(fault.kind)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return decide_on("30 blocks")(ledger)

    impatient.reserve(attempt(1), decide_too_slowly)

    assert results == [Fault.LOCKED] * 3
    assert held_blocks(impatient) == 30
    hold(impatient, 2, "20 blocks")
    impatient.close()
