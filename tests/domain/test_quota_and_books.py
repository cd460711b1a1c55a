"""Quota and books: a lease counts in its group and in all above, and sums are always right."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.domain.books import Books
from aliquot.domain.currency import NOTHING, Cost, cost_of_blocks
from aliquot.domain.leases import LeaseState, Piece, Placement
from aliquot.domain.quota import GroupTree, Quota
from tests.domain.machines import PEOPLE, group, lease_of, situations, someone

TREE = GroupTree.of(
    [group("lab"), group("vision", parent="lab"), group("video", parent="vision"), group("nlp")]
)
ADA, LIN = someone("ada", user_id=1), someone("lin", user_id=2)


def part(blocks: int, gpu: str = "GPU-0000") -> Placement:
    return Placement((Piece(gpu, "H100-80GB", blocks, blocks * 800, cost_of_blocks(blocks)),))


def test_a_path_leads_from_a_group_to_its_root():
    assert TREE.path("video") == ("video", "vision", "lab")
    assert TREE.path("nlp") == ("nlp",)
    assert TREE.path("nobody") == ()


def test_a_person_s_resource_groups_are_those_hub_groups_that_have_a_quota():
    assert TREE.of_person({"vision", "nlp", "tea-round"}) == ("nlp", "vision")
    assert TREE.of_person(set()) == ()


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_a_circle_of_groups_is_refused_in_one_sentence(length):
    ring = [group(f"g{n}", parent=f"g{(n + 1) % length}") for n in range(length)]

    with pytest.raises(ValueError, match=r"^group 'g0' is above itself: g0 under .*g0$"):
        GroupTree.of(ring)


def test_a_circle_further_up_is_found_too():
    with pytest.raises(ValueError, match="above itself: c under a under b under a"):
        GroupTree.of([group("c", parent="a"), group("a", parent="b"), group("b", parent="a")])


def test_a_group_under_one_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"^group 'vision' is under 'lab', which does not exist$"):
        GroupTree.of([group("vision", parent="lab")])


def test_a_ceiling_below_the_nominal_quota_is_refused():
    with pytest.raises(ValueError, match="a ceiling is at least the nominal quota"):
        Quota(Cost(100, 100), ceiling=Cost(200, 99))


def test_a_lease_counts_in_its_group_and_in_every_group_above():
    books = Books([lease_of(part(30), ADA, "video", 1), lease_of(part(10), LIN, "vision", 2)], TREE)

    held = {name: books.held_by_group(name).blocks for name in TREE.groups}
    assert held == {"video": 30, "vision": 40, "lab": 40, "nlp": 0}
    assert books.held_by_person("lab", ADA.user_id).blocks == 30
    assert books.held_by_person("vision", LIN.user_id).blocks == 10
    assert books.held_by_person("video", LIN.user_id) == NOTHING


def test_a_lease_of_a_group_that_lost_its_quota_still_holds_its_gpu():
    books = Books([lease_of(part(30), ADA, "dissolved", 1)], TREE)

    assert books.held_by_group("dissolved").blocks == 30
    assert books.use_of("GPU-0000").blocks == 30


def test_a_released_lease_holds_nothing_and_a_reserved_one_everything():
    lease = lease_of(part(30), ADA, "nlp", 1)

    assert Books([replace(lease, state=LeaseState.RELEASED)], TREE).held_by_group("nlp") == NOTHING
    assert Books([replace(lease, state=LeaseState.RESERVED)], TREE).held_by_group("nlp") == (
        cost_of_blocks(30)
    )


def test_one_lease_is_counted_once_however_often_it_is_entered():
    lease = lease_of(part(30), ADA, "nlp", 1)

    assert Books([lease, lease], TREE).held_by_group("nlp").blocks == 30
    assert Books([lease], TREE).with_lease(lease).held_by_group("nlp").blocks == 30


def test_the_charge_counts_for_quotas_and_the_piece_for_the_gpu():
    """A model that weighs 2: 30 of its blocks are charged as 60."""
    books = Books([lease_of(part(30), ADA, "nlp", 1, charge=cost_of_blocks(60))], TREE)

    assert books.held_by_group("nlp").blocks == 60
    assert books.use_of("GPU-0000").blocks == 30


def everything(books: Books) -> list[object]:
    groups = ("lab", "vision", "nlp", "away")
    return [
        sorted(lease.id for lease in books.leases),
        [books.held_by_group(name) for name in groups],
        [books.held_by_person(name, p.user_id) for name in groups for p in PEOPLE],
        [books.use_of(f"GPU-{n:04d}") for n in range(5)],
    ]


@settings(max_examples=100, deadline=None)
@given(situations, st.data())
def test_books_without_some_leases_equal_books_that_never_had_them(now, data):
    leases = now.books.leases
    gone = data.draw(st.sets(st.sampled_from([lease.id for lease in leases] or ["x"])))
    kept = [lease for lease in leases if lease.id not in gone]

    less = now.books.without(gone)
    again = less
    for lease in leases:
        if lease.id in gone:
            again = again.with_lease(lease)

    assert everything(less) == everything(Books(kept, now.tree))
    assert everything(again) == everything(now.books)
    assert everything(now.books) == everything(Books(leases, now.tree))
