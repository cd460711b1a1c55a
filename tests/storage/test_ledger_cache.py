"""The ledger in memory is the ledger on disk, whoever wrote last.

Two stores on one database, as in two processes (they share nothing in memory), act in any
order; what they show and decide on must be what a third reads that knew nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from aliquot.storage import Ledger, Store
from tests.storage.ledger_cases import ADA, LIN, attempt, decide_on, later, machine, vision

WHICH = st.integers(0, 1)
SERVERS = st.integers(1, 5)
SHARES = st.sampled_from(["5 blocks", "40 blocks", "70 blocks", "130 blocks", "cpu"])


def told(ledger: Ledger) -> Mapping[str, Any]:
    """Everything that a decision can see of a ledger."""
    books = ledger.books
    return {
        "version": ledger.version,
        "groups": dict(ledger.tree.groups),
        "weights": dict(ledger.weights),
        "presets": ledger.presets,
        "leases": {lease.id: lease for lease in books.leases},
        "by_group": books.held_by_group("vision"),
        "by_person": [books.held_by_person("vision", who.user_id) for who in (ADA, LIN)],
        "by_gpu": [books.use_of(gpu.uuid) for gpu in machine().gpus],
    }


class TwoStores(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.stores = (Store.open(self.url), Store.open(self.url))
        self.third = Store.open(self.url)
        self.minute = 0
        for spawner_id in range(1, 6):
            self.stores[0].release_server(spawner_id, "another example", later(0))
        self.stores[0].save_groups([vision(170)], {}, "admin", "begin")

    def teardown(self) -> None:
        for store in (*self.stores, self.third):
            store.close()

    def on_disk(self) -> Ledger:
        """The ledger as one reads it who knows nothing of it yet."""
        self.third.close()
        return self.third.ledger()

    @rule(which=WHICH, server=SERVERS, share=SHARES, person=st.sampled_from([ADA, LIN]))
    def reserve(self, which, server, share, person):
        self.minute += 1
        request = attempt(server, person, at=later(self.minute))
        self.stores[which].reserve(request, decide_on(share, person))

    @rule(which=WHICH, server=SERVERS)
    def activate(self, which, server):
        for lease in self.stores[which].open_leases():
            if lease.server.spawner_id == server:
                assert self.stores[which].activate(lease.id, later(self.minute))

    @rule(which=WHICH, server=SERVERS)
    def release(self, which, server):
        self.stores[which].release_server(server, "stopped", later(self.minute))

    @rule(which=WHICH, server=SERVERS)
    def readopt_the_last(self, which, server):
        store = self.stores[which]
        mine = [
            lease
            for person in (ADA, LIN)
            for lease in store.leases_of(person.user_id)
            if lease.server.spawner_id == server
        ]
        if mine:
            store.readopt(max(mine, key=lambda lease: lease.reserved_at), "server lives")

    @rule(which=WHICH, blocks=st.integers(0, 300), weight=st.integers(1, 3))
    def save_groups(self, which, blocks, weight):
        weights = {"H100-80GB": weight} if weight > 1 else {}
        self.stores[which].save_groups([vision(blocks)], weights, "admin", "any")

    @rule(which=WHICH, shares=st.lists(SHARES.filter("cpu".__ne__), max_size=3))
    def save_presets(self, which, shares):
        self.stores[which].save_presets(shares, "admin", "any")

    @rule(which=WHICH)
    def look_while_deciding(self, which):
        """What a decision is given is what is on disk under the lock."""
        seen = []
        store = self.stores[which]
        store.reserve(
            attempt(99), lambda ledger: (seen.append(ledger), decide_on("cpu")(ledger))[1]
        )
        assert told(seen[0]) == told(self.on_disk())

    @rule(which=WHICH)
    def look(self, which):
        """Not after each step: a look would bring a store up to date before it writes."""
        assert told(self.stores[which].ledger()) == told(self.on_disk())


def test_two_stores_in_any_order_always_know_what_is_on_disk(database_url):
    class OnThisDatabase(TwoStores):
        url = database_url

    case = OnThisDatabase.TestCase
    case.settings = settings(
        max_examples=6,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


@pytest.mark.slow
def test_two_stores_are_exact_over_many_orders():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:

        class InMemory(TwoStores):
            url = f"sqlite:///{Path(folder) / 'ledger.sqlite'}"

        case = InMemory.TestCase
        case.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
        case().runTest()
