"""What every store keeps besides leases, and what its tables refuse, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from aliquot.domain.currency import Cost, cost_of_blocks
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.shares import Blocks, Kind, Slice
from tests.storage.ledger_cases import (
    attempt,
    decide_on,
    held_blocks,
    hold,
    later,
    vision,
)


@pytest.fixture(autouse=True)
def _groups(store):
    store.save_groups([vision(200)], {}, "admin", "the first groups")


def test_groups_come_back_as_they_were_saved(store):
    groups = [
        ResourceGroup("institute", Quota(Cost(14_000, 12_000), ceiling=Cost(28_000, 28_000))),
        ResourceGroup(
            "vision",
            Quota(
                Cost(1400, 0),
                per_person=Cost(700, 350),
                per_notebook=cost_of_blocks(50),
                approval_above=cost_of_blocks(25),
                kinds=frozenset({Kind.SLICE}),
            ),
            parent="institute",
        ),
        ResourceGroup("비전", Quota(Cost(0, 0), kinds=frozenset())),
    ]
    store.save_groups(groups, {"H100-80GB": 2, "A30": 1}, "admin", "a new term")

    ledger = store.ledger()
    assert dict(ledger.tree.groups) == {group.name: group for group in groups}
    assert ledger.weights == {"H100-80GB": 2, "A30": 1}


def test_a_change_of_groups_is_audited_with_what_was_before(store):
    store.save_groups([vision(50)], {"A30": 3}, "mgr", "smaller term")

    event = store.events()[-1]
    assert (event.actor, event.kind, event.why) == ("mgr", "groups.saved", "smaller term")
    assert event.before["groups"][0]["nominal_compute"] == 200 * 14
    assert event.after["groups"][0]["nominal_compute"] == 50 * 14
    assert (event.before["weights"], event.after["weights"]) == ({}, {"A30": 3})


@pytest.mark.parametrize(
    ("groups", "weights", "says"),
    [
        ([ResourceGroup("a", Quota(Cost(1, 1)), parent="b")], {}, "does not exist"),
        ([vision(), vision()], {}, "comes twice"),
        ([vision()], {"A30": 0}, "at least 1"),
    ],
)
def test_groups_that_cannot_be_are_refused_and_change_nothing(store, groups, weights, says):
    before = store.ledger()

    with pytest.raises(ValueError, match=says):
        store.save_groups(groups, weights, "admin", "a mistake")

    assert store.ledger().version == before.version


def test_a_new_ledger_offers_the_four_first_presets(store):
    assert store.ledger().presets == (Blocks(10), Blocks(25), Blocks(50), Blocks(100))


def test_presets_are_kept_in_their_order_and_none_twice(store):
    store.save_presets(["50", "1g.10gb", "50 blocks"], "admin", "slices first")

    assert store.ledger().presets == (Blocks(50), Slice("1g.10gb"))
    assert store.events()[-1].after == ["50 blocks", "1g.10gb"]


@pytest.mark.parametrize("text", ["", "cpu", "a lot", "0 gpus"])
def test_a_preset_that_is_no_share_is_refused(store, text):
    with pytest.raises(ValueError, match="no share of a GPU"):
        store.save_presets(["10", text], "admin", "a mistake")

    assert len(store.ledger().presets) == 4


def test_a_receipt_is_kept_with_its_lease_and_replaced_by_a_later_one(store):
    lease_id = hold(store, 1)

    assert store.put_receipt(lease_id, {"verdict": "mismatch"}, later(1))
    assert store.put_receipt(lease_id, {"verdict": "verified", "note": "확인"}, later(2))
    assert not store.put_receipt("0" * 32, {"verdict": "verified"}, later(2))

    assert store.receipt(lease_id) == {"verdict": "verified", "note": "확인"}
    assert store.receipt("0" * 32) is None
    with pytest.raises(ValueError, match="at most 65536"):
        store.put_receipt(lease_id, {"verdict": "x" * 70_000}, later(3))


def test_events_are_read_on_from_where_one_stopped(store):
    for spawner_id in range(1, 6):
        hold(store, spawner_id, "10 blocks")

    first = store.events(limit=2)
    rest = store.events(after=first[-1].id)

    ids = [event.id for event in [*first, *rest]]
    assert ids == sorted(set(ids))
    assert len(ids) == 6


REWRITING = {
    "sqlite": [
        "UPDATE events SET why = 'nothing happened'",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events",
    ],
    "postgresql": [
        "UPDATE events SET why = 'nothing happened'",
        "DELETE FROM events",
        "TRUNCATE events",
    ],
}


def test_events_cannot_be_changed_even_by_hand(store, database_url):
    before = store.events()

    for statement in REWRITING[make_url(database_url).get_backend_name()]:
        with pytest.raises(DBAPIError, match="only added, never changed"):
            by_hand(database_url, statement)

    assert store.events() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leases SET charge_compute = -1",
        "UPDATE leases SET state = 'gone'",
        "UPDATE leases SET state = 'released'",
        "UPDATE leases SET spawner_id = 1",
        "UPDATE resource_groups SET per_person_compute = 5",
        "UPDATE resource_groups SET nominal_memory = -5",
        "INSERT INTO ledger_state (id, deployment_id, version) VALUES (2, 'x', 0)",
        "INSERT INTO model_weights (gpu_model, weight) VALUES ('A30', 0)",
    ],
)
def test_the_tables_refuse_what_cannot_be(store, database_url, statement):
    hold(store, 1)
    hold(store, 2)

    with pytest.raises(DBAPIError, match=r"(?i)constraint"):
        by_hand(database_url, statement)


@pytest.mark.parametrize(
    ("statement", "held"),
    [
        ("UPDATE leases SET charge_compute = 140, charge_memory = 140", 20),
        ("DELETE FROM leases", 0),
        ("DELETE FROM leases WHERE spawner_id = 1", 30),
    ],
)
def test_a_change_by_hand_is_seen_by_the_next_decision(store, database_url, statement, held):
    hold(store, 1)
    hold(store, 2)
    assert held_blocks(store) == 60

    by_hand(database_url, statement)

    seen = []

    def look(ledger):
        seen.append(ledger.books.held_by_group("vision").blocks)
        return decide_on("300 blocks")(ledger)

    store.reserve(attempt(3), look)
    assert seen == [held]
    assert held_blocks(store) == held


def by_hand(url: str, statement: str) -> None:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
