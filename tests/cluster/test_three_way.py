"""Books, pods and the Hub's servers agree in the end, whichever of them was lost in between.

Every test ends with the same leases on all three sides and nothing that is uncertain.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aliquot.discovery.marked_processes import deployment_mark
from aliquot.domain.pod_marks import LEASE, LEDGER
from tests.cluster.api_client import Json
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fake_kubelet import always, never
from tests.cluster.gpu_models import gpu_uuid
from tests.cluster.object_nodes import ObjectNodes
from tests.cluster.pods import make_pod, pod_path
from tests.cluster.spawning import notebooks
from tests.cluster.three_way import ThreeWay
from tests.fixtures.hub import StartHub

pytestmark = pytest.mark.cluster

SLICE = "nvidia.com/mig-1g.10gb"
ALLOCATED = "hami.io/vgpu-devices-allocated"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with notebooks() as port:
        yield port


@pytest.fixture(scope="module")
def module_sides(
    start_module_hub: StartHub,
    control_plane: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
    port: int,
) -> Iterator[ThreeWay]:
    nodes = ObjectNodes(control_plane)
    slices, cards = nodes.add("plugin-mig-a100-80"), nodes.add("hami-a100-40")
    folder = tmp_path_factory.mktemp("three-way")
    sides = ThreeWay.start(start_module_hub, control_plane, nodes, folder, port)
    sides.slices, sides.cards = slices, cards
    yield sides
    control_plane.remove_namespace(sides.here.namespace)
    nodes.close()


@pytest.fixture
def sides(module_sides: ThreeWay) -> Iterator[ThreeWay]:
    yield module_sides
    module_sides.nodes.kubelet.starts = always
    module_sides.nodes.kubelet.look_again()
    module_sides.empty()


def delete(sides: ThreeWay, pod: Json) -> None:
    sides.here.cluster.api.delete(sides.path(pod))


def evict_by_api(sides: ThreeWay, pod: Json) -> None:
    """As ``kubectl drain`` does."""
    meta = {"name": pod["metadata"]["name"], "namespace": sides.here.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    sides.here.cluster.api.post(f"{sides.path(pod)}/eviction", eviction)


def evict_by_kubelet(sides: ThreeWay, pod: Json) -> None:
    """As a kubelet does whose node runs out of memory: the pod stays, and is over."""
    over = {"state": {"terminated": {"exitCode": 137, "reason": "Evicted"}}, "ready": False}
    statuses = [one | over for one in pod["status"]["containerStatuses"]]
    status = {"phase": "Failed", "reason": "Evicted", "containerStatuses": statuses}
    sides.here.cluster.api.patch(f"{sides.path(pod)}/status", {"status": status}, kind="strategic")


@pytest.mark.parametrize("end", [delete, evict_by_api, evict_by_kubelet])
def test_a_pod_that_is_ended_past_the_hub_ends_its_server_and_frees_its_slice(sides: ThreeWay, end):
    lease = sides.run("ada")
    (pod,) = sides.here.wait_until(sides.pods)

    end(sides, pod)

    sides.in_step(0)
    assert sides.servers() == {}
    last = [event for event in sides.here.store.events(limit=10_000) if event.object == lease.id]
    assert (last[-1].kind, last[-1].why) == ("lease.released", "stopped")
    again = sides.run("ada")
    assert [one.id for one in sides.in_step(1)] == [again.id]


def test_a_pod_that_is_gone_while_the_hub_has_not_looked_is_told_and_counts_as_held(
    sides: ThreeWay,
):
    lease = sides.run("grace")
    (pod,) = sides.pods()

    delete(sides, pod)

    told = sides.finding("server_without_pod")
    assert told["lease_id"] == lease.id
    assert told["message"].startswith("The Hub has the server of grace with lease")
    assert sides.here.hub.service("GET", "health").json()["uncertain"] == {"server_without_pod": 1}
    assert sides.lease_of("grace").id == lease.id
    sides.here.hub.stop_server("grace")
    sides.in_step(0)


def test_a_hub_that_is_restarted_while_a_pod_starts_leaves_nothing_on_one_side_only(
    sides: ThreeWay,
):
    sides.nodes.kubelet.starts = never
    sides.begin("ada")
    booked = sides.lease_of("ada")

    sides.here.hub.restart()
    sides.nodes.kubelet.starts = always
    sides.nodes.kubelet.look_again()

    sides.here.hub.wait_for_service()
    # Found again and ready, or given up with its pod: the Hub has its address from before.
    is_ready = sides.settled("ada")
    sides.passes(3)
    leases = sides.in_step(1 if is_ready else 0)
    assert {one.id for one in leases} <= {booked.id}
    sides.run("lin")
    sides.in_step(2 if is_ready else 1)


def test_a_hub_that_is_killed_finds_its_servers_and_their_leases_again(sides: ThreeWay):
    lease = sides.run("ada")
    sides.kill()

    sides.here.hub.start()

    sides.here.hub.wait_for_service()
    sides.passes(3)
    assert [one.id for one in sides.in_step(1)] == [lease.id]


def test_books_from_an_old_backup_take_the_lease_back_from_the_server(sides: ThreeWay):
    backup = sides.back_up()
    lease = sides.run("ada")
    sides.kill()

    sides.restore(backup)
    lost = sides.here.store.open_leases()
    sides.here.hub.start()

    sides.here.hub.wait_for_service()
    (again,) = sides.in_step(1)
    assert lost == []
    assert (again.id, again.placement, again.charge) == (lease.id, lease.placement, lease.charge)


def test_a_pod_of_ours_that_books_and_hub_do_not_know_is_told_and_counts_as_held(
    sides: ThreeWay,
):
    api, namespace = sides.here.cluster.api, sides.here.namespace
    mark = deployment_mark(f"sqlite:///{sides.folder}/books.sqlite")
    labels = {LEDGER: mark, LEASE: "f" * 32}
    api.post(
        f"/api/v1/namespaces/{namespace}/pods",
        {
            "metadata": {"name": "jupyter-nobody", "labels": labels},
            "spec": {
                "containers": [
                    {"name": "notebook", "image": "none", "resources": {"limits": {SLICE: "7"}}}
                ]
            },
        },
    )

    told = sides.finding("pod_unknown")
    refused = sides.is_refused("ada")
    sides.passes(3)
    still_there = api.find(pod_path(namespace, "jupyter-nobody"))
    api.delete(pod_path(namespace, "jupyter-nobody"), grace_seconds=0)

    assert told["lease_id"] == "f" * 32
    assert f"{namespace}/jupyter-nobody" in told["message"]
    assert refused
    assert still_there is not None
    sides.in_step(0)
    sides.run("ada")
    sides.in_step(1)


def test_a_second_hub_sees_the_pods_of_the_first_as_foreign_and_leaves_them_alone(
    sides: ThreeWay, start_hub: StartHub, object_nodes: ObjectNodes, tmp_path, port: int
):
    cluster = sides.here.cluster
    lease = sides.run("ada")
    # Six of the seven slices are anybody's; the seventh is ada's.
    elsewhere = cluster.namespace()
    make_pod(cluster.api, elsewhere, "six-slices", limits={SLICE: "6"})
    second = ThreeWay.start(start_hub, cluster, object_nodes, tmp_path, port)

    refused = second.is_refused("ada")
    cluster.api.delete(pod_path(elsewhere, "six-slices"), grace_seconds=0)
    second.here.wait_until(lambda: not second.is_refused("ada"))
    second.passes(3)

    assert refused
    (theirs,) = second.in_step(1)
    (ours,) = sides.in_step(1)
    assert ours.id == lease.id != theirs.id
    second.empty()
    assert [one.id for one in sides.in_step(1)] == [lease.id]
    for name in (elsewhere, second.here.namespace):
        cluster.remove_namespace(name)


# -- what was granted ----------------------------------------------------------------------


def card(sides: ThreeWay, index: int) -> str:
    """HAMi's word for 30 blocks of a card."""
    return f"{gpu_uuid(sides.cards, index)},NVIDIA,12288,30:;"


def test_a_grant_that_a_killed_hub_has_not_read_is_read_by_the_next(sides: ThreeWay):
    sides.nodes.kubelet.starts = never
    pod = sides.begin("ada", "30 blocks")
    booked = sides.lease_of("ada").placement.pieces[0].gpu_uuid
    other = next(n for n in (0, 1) if gpu_uuid(sides.cards, n) != booked)
    sides.annotate(pod, ALLOCATED, card(sides, other))
    sides.bind(pod, sides.cards)
    sides.kill()
    sides.nodes.kubelet.starts = always
    sides.nodes.kubelet.look_again()

    sides.here.hub.start()

    sides.here.hub.wait_for_server("ada")
    sides.here.wait_until(
        lambda: sides.lease_of("ada").placement.pieces[0].gpu_uuid == gpu_uuid(sides.cards, other)
    )
    sides.here.hub.wait_for_service()
    sides.in_step(1)


def test_a_grant_that_cannot_be_read_is_told_until_it_can_be(sides: ThreeWay):
    pod = sides.begin("ada", "30 blocks")
    sides.annotate(pod, ALLOCATED, "half a card")
    sides.bind(pod, sides.cards)

    told = sides.finding("grant_unreadable")
    sides.annotate(pod, ALLOCATED, card(sides, 0))

    assert told["lease_id"] == sides.lease_of("ada").id
    assert "half a card" in told["message"]
    sides.in_step(1)
