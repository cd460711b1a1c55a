"""Placement: a place is found exactly when there is one, and always the same."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aliquot.domain.books import Books
from aliquot.domain.currency import NOTHING, ONE_GPU, cost_of_blocks
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Gpu, HeldPiece, Inventory
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.placement import NoRoom, place
from aliquot.domain.quota import ALL_KINDS, GroupTree
from aliquot.domain.shares import Blocks, CpuOnly, Kind, Memory, Share, Slice
from tests.domain.machines import (
    MIXED_SLICES,
    SEVEN_SMALL,
    blocks_gpu,
    inventories,
    lease_of,
    machine,
    mig_gpu,
    shares,
    situations,
    someone,
)

ADA = someone("ada")
NOBODY = Books((), GroupTree())


def books_with(*pieces: Piece) -> Books:
    return Books(
        (lease_of(Placement((piece,)), ADA, "g", n) for n, piece in enumerate(pieces)), GroupTree()
    )


def some_blocks(gpu: Gpu, blocks: int) -> Piece:
    return Piece(gpu.uuid, gpu.model, blocks, gpu.memory_of_blocks(blocks), cost_of_blocks(blocks))


def pieces_of(found: Placement | NoRoom) -> list[tuple[str, int]]:
    assert isinstance(found, Placement), found
    return [(piece.gpu_uuid[-1], piece.blocks) for piece in found.pieces]


def test_the_gpu_left_with_the_fewest_free_blocks_wins():
    gpus = [blocks_gpu(n) for n in range(3)]
    books = books_with(some_blocks(gpus[1], 40), some_blocks(gpus[2], 65))

    assert pieces_of(place(Blocks(30), machine(*gpus), books)) == [("2", 30)]
    assert pieces_of(place(Blocks(35), machine(*gpus), books)) == [("2", 35)]
    assert pieces_of(place(Blocks(36), machine(*gpus), books)) == [("1", 36)]
    assert pieces_of(place(Blocks(61), machine(*gpus), books)) == [("0", 61)]


def test_310_blocks_are_three_whole_gpus_and_10_blocks_of_the_fullest_other():
    gpus = [blocks_gpu(n) for n in range(5)]
    books = books_with(some_blocks(gpus[1], 80))

    found = place(Blocks(310), machine(*gpus), books)

    assert pieces_of(found) == [("0", 100), ("2", 100), ("3", 100), ("1", 10)]
    assert isinstance(found, Placement)
    assert found.cost == cost_of_blocks(310)
    assert found.kinds == {Kind.WHOLE, Kind.BLOCKS}


@pytest.mark.parametrize("split", ["node", "model"])
def test_a_combination_stays_on_one_node_and_one_model(split):
    here = [blocks_gpu(n) for n in range(2)]
    there = [
        blocks_gpu(n, node="gpu-2") if split == "node" else blocks_gpu(n, model="L40S")
        for n in (2, 3)
    ]

    found = place(Blocks(210), machine(*here, *there), NOBODY)

    assert found == NoRoom(free_blocks=400, largest_blocks=200)
    assert pieces_of(place(Blocks(200), machine(*here, *there), NOBODY)) == [("0", 100), ("1", 100)]


def test_a_free_gpu_hosts_the_rest_only_when_enough_others_stay_whole():
    gpus = [blocks_gpu(0), blocks_gpu(1)]

    assert place(Blocks(201), machine(*gpus), NOBODY) == NoRoom(200, 200)
    assert pieces_of(place(Blocks(150), machine(*gpus), NOBODY)) == [("1", 100), ("0", 50)]


def test_a_gpu_without_blocks_is_given_out_whole_only():
    gpu = blocks_gpu(0, blocks_by=None)

    assert place(Blocks(1), machine(gpu), NOBODY) == NoRoom(100, 100)
    assert pieces_of(place(Blocks(100), machine(gpu), NOBODY)) == [("0", 100)]


def test_a_gpu_serves_no_more_notebooks_than_its_enforcer_can():
    gpu = blocks_gpu(0, max_sharers=2)
    one, two = books_with(some_blocks(gpu, 10)), books_with(*[some_blocks(gpu, 10)] * 2)

    assert pieces_of(place(Blocks(10), machine(gpu), one)) == [("0", 10)]
    assert place(Blocks(10), machine(gpu), two) == NoRoom(0, 0)


def test_a_slice_and_a_whole_gpu_never_meet_in_one_notebook():
    both = machine(mig_gpu(0, *SEVEN_SMALL), blocks_gpu(1))

    assert place(Blocks(101), both, NOBODY) == NoRoom(100, 100)
    found = place(Memory(90_000), both, NOBODY)
    assert isinstance(found, NoRoom)


def test_memory_takes_the_cheapest_piece_and_the_isolated_one_on_a_tie():
    # 9,856 MiB: a 1g.10gb costs 15 blocks; of 81,559 MiB 13 blocks are enough.
    both = machine(blocks_gpu(0), mig_gpu(1, *SEVEN_SMALL))
    found = place(Memory(10_000), both, NOBODY)
    assert pieces_of(found) == [("0", 12)]
    assert isinstance(found, Placement)
    assert found.memory_mib * (1 << 20) >= 10_000 * 10**6

    # 12,200 MB ask 15 blocks of the one; a slice that large costs 15 of the other.
    tie = replace(
        both.gpus[1], mig_devices=(replace(both.gpus[1].mig_devices[0], memory_mib=11_700),)
    )
    assert pieces_of(place(Memory(12_200), machine(both.gpus[0], tie), NOBODY)) == [("1", 15)]
    isolated = place(Memory(10_000), both, NOBODY, isolated=True)
    assert isinstance(isolated, Placement)
    assert isolated.pieces[0].profile == "1g.10gb"


def test_isolated_blocks_take_the_smallest_slice_that_is_at_least_as_large():
    mixed = machine(mig_gpu(0, *MIXED_SLICES))
    expected = {1: "1g.10gb", 12: "1g.10gb", 13: "2g.20gb", 25: "2g.20gb", 26: "3g.40gb"}
    for blocks, profile in expected.items():
        found = place(Blocks(blocks), mixed, NOBODY, isolated=True)
        assert isinstance(found, Placement)
        assert found.pieces[0].profile == profile
    # 3g is 42.86 % of the compute: 43 blocks are more.
    assert isinstance(place(Blocks(43), mixed, NOBODY, isolated=True), NoRoom)


def test_isolated_gpus_are_rounded_up_to_whole_ones():
    gpus = machine(*(blocks_gpu(n) for n in range(3)))

    assert pieces_of(place(Blocks(110), gpus, NOBODY, isolated=True)) == [("0", 100), ("1", 100)]


def test_a_gpu_that_changed_its_mode_under_a_lease_gives_nothing_until_it_ends():
    blocks, slices = blocks_gpu(0), mig_gpu(0, *SEVEN_SMALL)
    slice_lease = Piece(
        slices.uuid,
        slices.model,
        15,
        1,
        slices.cost_of(slices.mig_devices[0]),
        "MIG-0000-0",
        "1g.10gb",
    )

    assert place(Blocks(1), machine(blocks), books_with(slice_lease)) == NoRoom(0, 0)
    assert place(Slice("1g.10gb"), machine(slices), books_with(some_blocks(blocks, 5))) == NoRoom(
        free_slices=0, all_slices=7
    )


def test_no_gpu_has_an_empty_placement():
    assert place(CpuOnly(), machine(), NOBODY) == Placement(())


# --- exhaustive and random ------------------------------------------------------------------


def brute_force_places_blocks(
    gpus: tuple[Gpu, ...], books: Books, count: int, kinds: frozenset[Kind]
) -> bool:
    """Is there any choice of whole GPUs and one part, on one node and model?"""
    wholes, rest = divmod(count, 100)
    if (wholes and Kind.WHOLE not in kinds) or (rest and Kind.BLOCKS not in kinds):
        return False
    usable = [g for g in gpus if not g.mig_enabled]
    for chosen in combinations(usable, wholes + bool(rest)):
        if len({(g.node, g.model) for g in chosen}) > 1:
            continue
        for order in permutations(chosen):
            whole, part = order[:wholes], order[wholes:]
            if all(books.use_of(g.uuid).is_free for g in whole) and all(
                g.blocks_by is not None
                and books.use_of(g.uuid).blocks + rest <= 100
                and (g.max_sharers is None or books.use_of(g.uuid).sharers < g.max_sharers)
                for g in part
            ):
                return True
    return False


@settings(max_examples=150, deadline=None)
@given(
    situations,
    st.integers(1, 430),
    st.sampled_from(
        [ALL_KINDS, frozenset({Kind.BLOCKS}), frozenset({Kind.WHOLE}), frozenset({Kind.SLICE})]
    ),
)
def test_blocks_have_a_place_exactly_when_brute_force_finds_one(now, count, kinds):
    inventory = now.inventory
    found = place(Blocks(count), inventory, now.books, kinds=kinds)

    assert isinstance(found, Placement) == brute_force_places_blocks(
        inventory.gpus, now.books, count, kinds
    )
    if isinstance(found, Placement):
        assert found.cost == cost_of_blocks(count)
    else:
        counts = [
            n
            for n in range(1, 401)
            if brute_force_places_blocks(inventory.gpus, now.books, n, kinds)
        ]
        # Whole GPUs can be promised from 100 on; below that the largest part counts.
        assert found.largest_blocks == max(counts, default=0)
        assert found.largest_blocks <= found.free_blocks


@settings(max_examples=150, deadline=None)
@given(situations, shares, st.booleans())
def test_a_piece_is_never_smaller_than_asked_nor_given_twice(now, share, isolated):
    found = place(share, now.inventory, now.books, isolated=isolated)
    if isinstance(found, NoRoom):
        return
    assert len({p.gpu_uuid for p in found.pieces}) == len(found.pieces)
    assert len({(p.gpu_model) for p in found.pieces}) == 1
    assert Kind.SLICE not in found.kinds or len(found.pieces) == 1
    assert not isolated or Kind.BLOCKS not in found.kinds
    match share:
        case Blocks(count):
            assert cost_of_blocks(count).fits_in(found.cost)
        case Memory():
            assert found.memory_mib >= share.mib - len(found.pieces)
        case Slice(profile):
            assert found.words == profile
    for piece in found.pieces:
        use = now.books.use_of(piece.gpu_uuid)
        assert piece.mig_uuid not in use.mig_uuids
        assert piece.mig_uuid is not None or use.blocks + piece.blocks <= 100


@settings(max_examples=100, deadline=None)
@given(inventories, st.data())
def test_the_same_machine_gives_the_same_placement_whatever_its_books_order(inventory, data):
    placed: list[Lease] = []
    books = NOBODY
    for number, share in enumerate(data.draw(st.lists(shares, max_size=5))):
        found = place(share, inventory, books)
        if isinstance(found, Placement):
            placed.append(lease_of(found, ADA, "g", number))
            books = books.with_lease(placed[-1])
    share = data.draw(shares)
    shuffled = Books(data.draw(st.permutations(placed)), GroupTree())

    assert place(share, inventory, shuffled) == place(share, inventory, books)


@settings(max_examples=100, deadline=None)
@given(inventories, shares, st.randoms())
def test_a_machine_listed_in_another_order_gives_a_piece_as_good(inventory, share, random):
    gpus = list(inventory.gpus)
    random.shuffle(gpus)
    ours = place(share, inventory, NOBODY)
    theirs = place(share, replace(inventory, gpus=tuple(gpus)), NOBODY)

    assert type(ours) is type(theirs)
    if isinstance(ours, Placement) and isinstance(theirs, Placement):
        assert ours.cost == theirs.cost
        assert [p.blocks for p in ours.pieces] == [p.blocks for p in theirs.pieces]


class Days(RuleBasedStateMachine):
    """Any order of starts and stops on any small machine."""

    @initialize(inventory=inventories)
    def begin(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.books = NOBODY
        self.running: list[Lease] = []
        self.number = 0

    @rule(share=shares, isolated=st.booleans())
    def start_one(self, share: Share, isolated: bool) -> None:
        found = place(share, self.inventory, self.books, isolated=isolated)
        if isinstance(found, Placement):
            self.number += 1
            lease = lease_of(found, ADA, "g", self.number)
            self.running.append(lease)
            self.books = self.books.with_lease(lease)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1000))
    def stop_one(self, which: int) -> None:
        lease = self.running.pop(which % len(self.running))
        self.books = self.books.without([lease.id])

    @invariant()
    def nothing_is_oversold(self) -> None:
        for gpu in self.inventory.gpus:
            pieces = [
                piece
                for lease in self.running
                for piece in lease.placement.pieces
                if piece.gpu_uuid == gpu.uuid
            ]
            assert sum((p.cost for p in pieces), NOTHING).fits_in(ONE_GPU)
            mig = [p.mig_uuid for p in pieces if p.mig_uuid is not None]
            assert len(mig) == len(set(mig))
            assert not mig or len(mig) == len(pieces)
            assert sum(p.memory_mib for p in pieces if p.mig_uuid is None) <= gpu.memory_mib
            if any(p.blocks == 100 and p.mig_uuid is None for p in pieces):
                assert len(pieces) == 1
            if gpu.max_sharers is not None and gpu.blocks_by is BlocksBy.MPS:
                assert len(pieces) <= max(1, gpu.max_sharers)

    @invariant()
    def the_books_say_what_runs(self) -> None:
        fresh = Books(self.running, GroupTree())
        for gpu in self.inventory.gpus:
            assert self.books.use_of(gpu.uuid) == fresh.use_of(gpu.uuid)


Days.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestDays = Days.TestCase


def test_what_others_hold_in_the_world_is_not_given_and_an_own_pod_counts_once():
    gpu = blocks_gpu(0)
    held = (
        HeldPiece(gpu.uuid, "other/notebook", blocks=30),
        HeldPiece(gpu.uuid, "hub/jupyter-ada", blocks=20, lease_id=f"{7:032x}"),
    )
    inventory = replace(machine(gpu), held=held)
    unknown = NOBODY
    mine = place(Blocks(20), machine(gpu), unknown)
    assert isinstance(mine, Placement)
    known = unknown.with_lease(lease_of(mine, someone("ada"), "vision", 7))

    assert place(Blocks(51), inventory, unknown) == NoRoom(free_blocks=50, largest_blocks=50)
    assert place(Blocks(51), inventory, known) == NoRoom(free_blocks=50, largest_blocks=50)
    assert isinstance(place(Blocks(50), inventory, known), Placement)
    assert isinstance(place(Blocks(100), inventory.emptied, unknown), Placement)


def test_a_slice_that_a_foreign_pod_holds_is_not_given():
    gpu = mig_gpu(0, *SEVEN_SMALL)
    taken = tuple(HeldPiece(gpu.uuid, "other/job", mig_uuid=d.uuid) for d in gpu.mig_devices[:6])
    inventory = replace(machine(gpu), held=taken)
    placed = place(Slice("1g.10gb"), inventory, NOBODY)

    assert isinstance(placed, Placement)
    assert placed.pieces[0].mig_uuid == gpu.mig_devices[6].uuid


@pytest.mark.parametrize(("asked", "given"), [(1, 25), (25, 25), (26, None), (100, None)])
def test_a_gpu_in_equal_replicas_gives_one_and_charges_for_all_of_it(asked, given):
    gpu = replace(blocks_gpu(0, blocks_by=BlocksBy.TIME_SLICING, max_sharers=4), replica_blocks=25)
    placed = place(Blocks(asked), machine(gpu), NOBODY)

    if given is None:
        assert placed == NoRoom(free_blocks=25, largest_blocks=25)
    else:
        assert isinstance(placed, Placement)
        assert [piece.blocks for piece in placed.pieces] == [given]
        assert placed.cost == cost_of_blocks(given)


@pytest.mark.parametrize("engine", Engine)
def test_a_part_joins_whole_gpus_only_where_the_engine_can_say_so(engine):
    inventory = machine(*(replace(blocks_gpu(n), engine=engine) for n in range(4)))
    books = NOBODY

    assert isinstance(place(Blocks(310), inventory, books), Placement) == engine.combines
    assert isinstance(place(Blocks(400), inventory, books), Placement)


def test_instances_that_an_engine_can_make_exclude_those_they_overlap():
    possible = [("3g.40gb", 0), ("3g.40gb", 4), *((("1g.10gb", start)) for start in range(7))]
    gpu = replace(mig_gpu(0, *possible), makes_instances=True)
    devices = tuple(
        replace(device, uuid=f"{device.profile}@{device.start}") for device in gpu.mig_devices
    )
    gpu = replace(gpu, mig_devices=devices)
    big = (HeldPiece(gpu.uuid, "other/job", mig_uuid="3g.40gb@0"),)
    inventory = replace(machine(gpu), held=big)
    books = NOBODY

    small = place(Slice("1g.10gb"), inventory, books)
    assert isinstance(small, Placement)
    assert small.pieces[0].mig_uuid == "1g.10gb@4"
    full = replace(inventory, held=(*big, HeldPiece(gpu.uuid, "other/job", mig_uuid="1g.10gb@5")))
    assert place(Slice("3g.40gb"), full, books) == NoRoom(free_slices=0, all_slices=2)
