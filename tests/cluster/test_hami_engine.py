"""HAMi's own scheduler gives a patched pod what its lease says, and tells it as we read it.

Runs where ALIQUOT_HAMI_SCHEDULER names a build of HAMi's cmd/scheduler; see CONTRIBUTING.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliquot.bindings.granted import Granted, Told, granted
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.pod_manifest import apply
from aliquot.discovery.kubernetes.state import Kind
from aliquot.domain.hami_annotations import ALLOCATED, devices_of
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease, LeaseState, Placement
from aliquot.domain.pending import PendingReason, tell, waiting_for
from aliquot.domain.pending import Told as Said
from aliquot.domain.pieces import blocks_piece, slice_piece
from aliquot.domain.shares import Slice
from tests.bindings.spawned_pods import POLICY, lease_on, marks_on, placed
from tests.bindings.test_patches_on_a_control_plane import bare_pod
from tests.cluster.api_client import Json
from tests.cluster.control_plane import ControlPlane
from tests.cluster.hami_scheduler import NAME, VARIABLE, HamiScheduler
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.pods import make_pod, pod_path, waiting_message
from tests.discovery.cluster_objects import inventory_of
from tests.fixtures.spawning import StartSpawningHub

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.timeout(180)]

# HAMi looks for nodes every 15 s, and a pod that came before is tried again.
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def hami(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HamiScheduler]:
    program = os.environ.get(VARIABLE)
    if program is None:
        pytest.skip(f"{VARIABLE} names no build of HAMi's scheduler")
    scheduler = HamiScheduler(control_plane, Path(program), tmp_path_factory.mktemp("hami"))
    yield scheduler
    scheduler.close()


class Cards:
    """One node of two cards, and pods of leases that the books have placed on them."""

    def __init__(self, nodes: ObjectNodes, namespace: str, shape: str) -> None:
        self.api, self.namespace = nodes.api, namespace
        # A name that HAMi has not seen in another test.
        self.node = nodes.add(shape, f"node-of-{namespace}")
        self.inventory = self.discovered()
        self._number = 0

    def discovered(self) -> Inventory:
        """What discovery makes of the node and of the pods as they are now."""
        nodes = [(Kind.NODES, self.api.get(f"/api/v1/nodes/{self.node}"))]
        return inventory_of(nodes, [(Kind.PODS, pod) for pod in self.api.list("/api/v1/pods")])

    def start(self, blocks: int, *on: int) -> tuple[Lease, str]:
        """The lease of so many blocks on each of the cards, and its pod's name."""
        cards = [self.inventory.gpus[index] for index in on]
        return self.hold(Placement(tuple(blocks_piece(card, blocks) for card in cards)))

    def hold(self, placement: Placement) -> tuple[Lease, str]:
        self._number += 1
        lease = lease_on(placement)
        name = f"pod-{self._number}"
        pod = apply(bare_pod(name), bind_pod(lease, self.inventory, POLICY), marks_on(lease))
        self.api.post(f"/api/v1/namespaces/{self.namespace}/pods", pod)
        return lease, name

    def running(self, name: str) -> Json:
        """The pod, when it runs and HAMi lets the next one come."""

        def finished(pod: Json) -> bool:
            phase = pod["metadata"].get("annotations", {}).get("hami.io/bind-phase")
            return (phase, pod["status"]["phase"]) == ("success", "Running")

        return self.api.wait_until(
            pod_path(self.namespace, name), finished, seconds=PATIENCE_SECONDS
        )

    def given(self, lease: Lease, name: str) -> Granted:
        return granted(self.running(name), [], lease, self.inventory)

    def waiting(self, name: str, event: str) -> list[Said]:
        """What is told of a pod, once there is an event of this reason."""
        path = f"/api/v1/namespaces/{self.namespace}/events"

        def of_pod(listed: Json) -> list[Json]:
            return [e for e in listed["items"] if e["involvedObject"]["name"] == name]

        seen = self.api.wait_until(
            path,
            lambda listed: any(e["reason"] == event for e in of_pod(listed)),
            seconds=PATIENCE_SECONDS,
        )
        return tell(self.api.get(pod_path(self.namespace, name)), of_pod(seen))


@pytest.fixture
def cards(hami: HamiScheduler, object_nodes: ObjectNodes, namespace: str) -> Cards:
    return Cards(object_nodes, namespace, "hami-a100-40")


def reasons(told: list[Said]) -> set[str]:
    return {said.what.value for said in told}


@pytest.mark.parametrize("blocks", [1, 7, 33, 40, 99, 100])
def test_hami_gives_the_card_and_the_amount_that_are_charged(cards: Cards, blocks: int):
    lease, name = cards.start(blocks, 1)

    found = cards.given(lease, name)

    assert found.told is Told.DEVICES
    assert found.agrees, found.differences
    assert found.placement == lease.placement
    assert sum(piece.blocks for piece in found.placement.pieces) == lease.charge.blocks == blocks


def test_two_whole_cards_are_two_whole_cards(cards: Cards):
    lease, name = cards.start(100, 0, 1)

    assert cards.given(lease, name).placement == lease.placement


def test_a_third_of_40_blocks_waits_for_its_card_though_another_is_free(cards: Cards):
    for _ in range(2):
        lease, name = cards.start(40, 0)
        assert cards.given(lease, name).agrees

    _, third = cards.start(40, 0)

    told = cards.waiting(third, "FailedScheduling")
    assert reasons(told) == {"no_free_gpu"}
    waits_for = waiting_for(told)
    assert waits_for is not None
    assert waits_for.what is PendingReason.NO_FREE_GPU


def test_a_whole_card_is_nobody_else_s(cards: Cards):
    lease, name = cards.start(100, 0)
    assert cards.given(lease, name).agrees

    _, late = cards.start(1, 0)

    assert reasons(cards.waiting(late, "FailedScheduling")) == {"no_free_gpu"}


def test_a_card_with_one_block_taken_is_given_to_nobody_as_a_whole(cards: Cards):
    lease, name = cards.start(1, 0)
    assert cards.given(lease, name).agrees

    _, late = cards.start(100, 0)

    assert reasons(cards.waiting(late, "FailedScheduling")) == {"no_free_gpu"}


def test_a_pod_that_comes_while_another_starts_on_the_node_waits_in_line(
    cards: Cards, hami: HamiScheduler
):
    hami.plugin_answers = False
    try:
        _, first = cards.start(40, 0)
        api = cards.api
        api.wait_until(pod_path(cards.namespace, first), lambda pod: "nodeName" in pod["spec"],
                       seconds=PATIENCE_SECONDS)  # fmt: skip
        lease, second = cards.start(40, 1)

        told = cards.waiting(second, "BindingFailed")
    finally:
        hami.plugin_answers = True

    assert reasons(told) == {"in_queue"}
    assert cards.given(lease, second).agrees


def test_what_hami_gave_to_pods_of_others_counts_as_held(cards: Cards):
    _, ours = cards.start(40, 0)
    cards.running(ours)
    make_pod(
        cards.api,
        cards.namespace,
        "theirs",
        # 30 cores and 10 GiB of 40: 25 blocks of memory, so the cores are the larger part.
        limits={"nvidia.com/gpu": "1", "nvidia.com/gpucores": "30", "nvidia.com/gpumem": "10240"},
        schedulerName=NAME,
    )
    theirs = cards.running("theirs")

    (given,) = devices_of(theirs["metadata"]["annotations"][ALLOCATED])
    held = {piece.holder: piece for piece in cards.discovered().held}

    name = f"{cards.namespace}/theirs"
    assert set(held) == {name, f"{cards.namespace}/{ours}"}
    assert (held[name].blocks, held[name].lease_id) == (30, None)
    assert held[name].gpu_uuid == given.gpu_uuid


def test_an_instance_that_hami_makes_is_of_the_profile_and_is_read_back(
    hami: HamiScheduler, object_nodes: ObjectNodes, namespace: str
):
    cards = Cards(object_nodes, namespace, "hami-mig-a100-80")
    lease, name = cards.hold(placed(Slice("2g.20gb"), cards.inventory))

    found = cards.given(lease, name)

    assert found.told is Told.DEVICES, found
    assert found.placement is not None
    assert [piece.profile for piece in found.placement.pieces] == ["2g.20gb"]


def test_an_instance_without_a_place_on_its_card_waits_for_one(
    hami: HamiScheduler, object_nodes: ObjectNodes, namespace: str
):
    cards = Cards(object_nodes, namespace, "hami-mig-a100-80")
    card = cards.inventory.gpus[0]
    at = {(device.profile, device.start): device for device in card.mig_devices}
    given = []
    for start in range(6):
        lease, name = cards.hold(Placement((slice_piece(card, at["1g.10gb", start]),)))
        found = cards.given(lease, name)
        assert found.agrees, found.differences
        assert found.placement is not None
        given += [piece.mig_uuid for piece in found.placement.pieces]
    # HAMi chooses the places itself, from the end.
    assert given == [at["1g.10gb", start].uuid for start in (6, 5, 4, 3, 2, 1)]

    # 23 GiB are left, but of the slots only 0 and 7, and 2g.20gb wants two in a row.
    _, late = cards.hold(Placement((slice_piece(card, at["2g.20gb", 0]),)))

    assert reasons(cards.waiting(late, "FailedScheduling")) == {"no_free_gpu"}
    waiting = cards.api.get(pod_path(namespace, late))
    assert "1/2 CardMigTopologyInfeasible" in waiting_message(waiting)


def test_blocks_that_are_picked_become_a_pod_that_hami_places_on_its_card(
    hami: HamiScheduler, object_nodes: ObjectNodes, spawning_hub: StartSpawningHub, namespace: str
):
    node = object_nodes.add("hami-a100-40", f"node-of-{namespace}")
    here = spawning_hub()

    here.hub.start_server("ada", options={"share": "40 blocks"})

    (pod,) = here.pods()
    (lease,) = here.store.open_leases()
    assert (pod["spec"]["schedulerName"], pod["spec"]["nodeName"]) == (NAME, node)
    (piece,) = lease.placement.pieces
    given = f"{piece.gpu_uuid},NVIDIA,{piece.memory_mib},40:;"
    assert pod["metadata"]["annotations"][ALLOCATED] == given
    here.wait_until(lambda: here.store.lease(lease.id).state is LeaseState.ACTIVE)
    assert here.held_blocks() == 40

    here.hub.stop_server("ada")

    here.wait_until(here.is_empty)
