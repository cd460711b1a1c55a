"""Where ledger, cluster and Hub disagree: certain things are done, the others are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aliquot.domain.currency import cost_of_blocks, cost_of_slice
from aliquot.domain.inventory import KUBERNETES, HeldPiece, Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement
from aliquot.domain.reconciliation import Corrections, LiveServer, World, reconcile
from aliquot.domain.uncertain import Doubt, GrantDoubt
from aliquot.domain.wording import LANGUAGES
from tests.domain.machines import NOON, blocks_gpu, lease_of, mig_gpu, someone

ADA = someone("ada")
GPUS = (blocks_gpu(0, node="gpu-1"), mig_gpu(1, ("1g.10gb", 0), node="gpu-2"))


def blocks_lease(number: int = 1, *, gpu: str = "GPU-0000", state=LeaseState.ACTIVE) -> Lease:
    piece = Piece(gpu, "H100-80GB", 30, 24467, cost_of_blocks(30))
    return replace(lease_of(Placement((piece,)), ADA, "vision", number), state=state)


def slice_lease(mig_uuid: str) -> Lease:
    cost = cost_of_slice(1, 7, 1, 8)
    piece = Piece("GPU-0001", "A100-80GB", 15, 9856, cost, mig_uuid=mig_uuid, profile="1g.10gb")
    return lease_of(Placement((piece,)), ADA, "vision", 2)


def pod(lease: Lease | str) -> HeldPiece:
    lease_id = lease if isinstance(lease, str) else lease.id
    return HeldPiece("GPU-0000", "pod hub/jupyter-ada", blocks=30, lease_id=lease_id)


def cluster(*held: HeldPiece, gpus=GPUS) -> Inventory:
    return Inventory(gpus, KUBERNETES, NOON, held=held)


def serving(lease: Lease, *, is_ready: bool = True) -> LiveServer:
    return LiveServer("ada", "", lease, is_ready)


def twice(leases, servers, world: World) -> tuple[Corrections, Corrections]:
    """Two passes over one state."""
    first = reconcile(leases, servers, (), world)
    return first, reconcile(leases, servers, first.missing, world, first.suspected)


def kinds(found: Corrections) -> list[tuple[Doubt, str]]:
    return [(one.kind, one.about) for one in found.uncertain]


def test_a_server_with_its_pod_and_its_lease_leaves_nothing_to_say():
    lease = blocks_lease()
    world = World(cluster(pod(lease)), must_be_read=True)

    for found in twice([lease], [serving(lease)], world):
        assert found.is_empty
        assert found.suspected == frozenset()


def test_pods_of_others_are_nobodys_business():
    foreign = HeldPiece("GPU-0000", "pod other/job", blocks=100)

    _, found = twice([], [], World(cluster(foreign), must_be_read=True))

    assert found.is_empty
    assert found.uncertain == ()


def test_a_pod_deleted_by_hand_under_a_running_server_is_told_and_its_lease_stays():
    lease = blocks_lease()

    first, second = twice([lease], [serving(lease)], World(cluster(), must_be_read=True))

    # The first look may fall between the deletion and the Hub's own next poll.
    assert kinds(first) == []
    assert kinds(second) == [(Doubt.SERVER_WITHOUT_POD, lease.id)]
    assert second.is_empty


def test_a_server_that_is_still_starting_need_not_have_a_pod_yet():
    lease = blocks_lease(state=LeaseState.RESERVED)

    for found in twice([lease], [serving(lease, is_ready=False)], World(cluster())):
        assert found.suspected == frozenset()
        assert found.is_empty


def test_on_one_machine_no_server_has_a_pod():
    lease = blocks_lease()
    local = Inventory(GPUS, "nvml", NOON)

    assert twice([lease], [serving(lease)], World(local))[1].uncertain == ()


def test_after_a_restart_in_a_start_the_lease_goes_and_then_its_pod():
    """The Hub does not know the server any more; its pod started all the same."""
    lease = blocks_lease(state=LeaseState.RESERVED)
    world = World(cluster(pod(lease)), must_be_read=True)
    _, released = twice([lease], [], world)
    over = replace(world, over=frozenset({lease.id}))

    first, second = twice([], [], over)

    assert released.release == (lease,)
    assert released.uncertain == ()
    assert first.end == ()
    assert second.end == (lease.id,)
    assert kinds(second) == [(Doubt.POD_LEFT_OVER, lease.id)]


def test_a_pod_that_books_and_hub_have_both_lost_is_told_and_never_ended():
    world = World(cluster(pod("f" * 32)), must_be_read=True)

    first, second = twice([], [], world)

    assert kinds(first) == []
    assert kinds(second) == [(Doubt.POD_UNKNOWN, "f" * 32)]
    assert second.is_empty
    assert "pod hub/jupyter-ada" in second.uncertain[0].sentence()


def test_a_pod_whose_server_carries_the_lease_gives_the_lease_back_to_the_books():
    lease = blocks_lease()
    world = World(cluster(pod(lease)), must_be_read=True, over=frozenset({lease.id}))

    found = reconcile([], [serving(lease)], (), world, {(Doubt.POD_LEFT_OVER, lease.id)})

    assert found.readopt == (lease,)
    assert found.end == ()
    assert found.uncertain == ()


def test_a_pod_of_a_server_that_is_stopping_is_left_to_it():
    lease = blocks_lease()
    world = World(cluster(pod(lease)), over=frozenset({lease.id}))

    assert twice([], [serving(lease, is_ready=False)], world)[1].end == ()


@pytest.mark.parametrize("inventory", [Unreadable("the API server does not answer"), None])
def test_nothing_is_released_while_the_cluster_cannot_be_read(inventory):
    missing, starting, lost = (blocks_lease(n, state=LeaseState.RESERVED) for n in (1, 2, 3))
    servers = [serving(starting), serving(replace(lost, state=LeaseState.ACTIVE))]
    world = World(inventory, must_be_read=True)

    found = reconcile([missing, starting], servers, {missing.id}, world)

    assert found.release == ()
    assert found.missing == {missing.id}
    assert found.trouble
    # What needs no look at the cluster goes on.
    assert found.activate == (starting,)
    assert [lease.id for lease in found.readopt] == [lost.id]
    seen = World(cluster(), must_be_read=True)
    assert reconcile([missing], [], found.missing, seen).release == (missing,)


def test_a_lease_that_went_missing_while_the_cluster_was_unread_is_missing_once_after_it():
    lease = blocks_lease()
    unread = World(Unreadable("the API server does not answer"), must_be_read=True)
    after = reconcile([lease], [], (), unread).missing

    found = reconcile([lease], [], after, World(cluster(), must_be_read=True))

    assert found.release == ()
    assert found.missing == {lease.id}


def test_a_machine_whose_driver_is_away_still_releases_as_before():
    lease = blocks_lease()

    found = reconcile([lease], [], {lease.id}, World(Unreadable("no driver")))

    assert found.release == (lease,)
    assert found.trouble is None


@pytest.mark.parametrize(
    "lease, told",
    [(blocks_lease(gpu="GPU-9"), "GPU-9"), (slice_lease("MIG-9"), "MIG-9")],
    ids=["node lost", "slice gone"],
)
def test_a_lease_on_what_is_not_seen_any_more_is_told_and_stays(lease, told):
    world = World(cluster(pod(lease)), must_be_read=True)

    _, found = twice([lease], [serving(lease)], world)

    assert kinds(found) == [(Doubt.GPU_GONE, lease.id)]
    assert told in found.uncertain[0].sentence()
    assert found.is_empty


def test_a_slice_that_is_there_is_not_gone():
    lease = slice_lease("MIG-0001-0")

    assert twice([lease], [serving(lease)], World(cluster(pod(lease))))[1].uncertain == ()


def test_a_grant_of_another_amount_is_told_at_once_with_both_sides():
    lease = blocks_lease()
    given = Placement((replace(lease.placement.pieces[0], blocks=40, cost=cost_of_blocks(40)),))
    world = World(cluster(pod(lease)), grants={lease.id: (lease.placement, given)})

    found = reconcile([lease], [serving(lease)], (), world)

    assert kinds(found) == [(Doubt.GRANT_DIFFERS, lease.id)]
    sentence = found.uncertain[0].sentence()
    assert "30 blocks" in sentence
    assert "40 blocks" in sentence


def test_a_grant_that_could_not_be_booked_is_told_at_once_and_the_lease_stays():
    lease = blocks_lease()
    doubt = GrantDoubt(Doubt.GRANT_CONTRADICTED, "node: gpu-1 → gpu-2")
    world = World(cluster(pod(lease)), doubts={lease.id: doubt, "e" * 32: doubt})

    found = reconcile([lease], [serving(lease)], (), world)

    assert kinds(found) == [(Doubt.GRANT_CONTRADICTED, lease.id)]
    assert "node: gpu-1 → gpu-2" in found.uncertain[0].sentence()
    assert found.is_empty


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", Doubt)
def test_every_doubt_has_its_sentence(kind, language):
    lease, lost = blocks_lease(), blocks_lease(2, gpu="GPU-9")
    asked = [Doubt.GRANT_CONTRADICTED, Doubt.GRANT_UNREADABLE, Doubt.GRANT_UNTOLD]
    unbooked = {blocks_lease(n): GrantDoubt(one, "words") for n, one in enumerate(asked, 3)}
    given = Placement((replace(lease.placement.pieces[0], cost=cost_of_blocks(40)),))
    world = World(
        cluster(pod("f" * 32), pod("e" * 32)),
        over=frozenset({"e" * 32}),
        grants={lease.id: (lease.placement, given)},
        doubts={one.id: doubt for one, doubt in unbooked.items()},
    )

    _, found = twice([lease, lost, *unbooked], [serving(lease), serving(lost)], world)

    (one, *_) = [one for one in found.uncertain if one.kind is kind]
    assert one.about[:32] in one.sentence(language)
