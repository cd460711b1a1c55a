"""Reconciliation by the service, and how long the service itself lives, on a real Hub."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest

from aliquot.allocator import Allocator, Reserved
from aliquot.discovery import GpuStateUnreadable
from aliquot.discovery.simulated import SimulatedSource
from aliquot.domain.currency import ONE_GPU, cost_of_blocks
from aliquot.domain.inventory import KUBERNETES, HeldPiece, Inventory
from aliquot.domain.judging import judge
from aliquot.domain.lease_json import lease_to_json
from aliquot.domain.leases import Lease, Person, Placement, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.reconciliation import LiveServer
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks
from aliquot.domain.uncertain import Doubt
from aliquot.service.answers import findings_model
from aliquot.service.hub_servers import HubUnreadable, servers_of
from aliquot.service.reconciling import Reconciler
from aliquot.settings import Settings
from aliquot.storage import Reservation, Store

ADA = Person(7, "ada", frozenset({"vision"}))


@pytest.fixture
def allocator(tmp_path) -> Allocator:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/books.sqlite", gpu_source="simulated")
    allocator = Allocator.from_settings(settings)
    allocator.store.save_groups(
        [ResourceGroup("vision", Quota(ONE_GPU * 2))], {}, actor="tests", why="the case"
    )
    return allocator


def hold(allocator: Allocator, lease_id: str = "a" * 32):
    reserved = allocator.reserve(Ask(Blocks(30)), ADA, Server(3), lease_id, {"share": "30 blocks"})
    assert isinstance(reserved, Reserved)
    return reserved.lease


def listing(*servers: LiveServer) -> Callable:
    async def list_servers() -> tuple[LiveServer, ...]:
        return servers

    return list_servers


async def unreadable() -> tuple[LiveServer, ...]:
    raise HubUnreadable("the Hub does not answer")


def until(true: Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


# -- one pass ---------------------------------------------------------------------------


async def test_a_lease_without_a_server_is_released_at_the_second_pass(allocator):
    lease = hold(allocator)
    reconciler = Reconciler(allocator, listing())

    await reconciler.one_pass()
    held_after_one = allocator.store.open_leases()
    await reconciler.one_pass()

    assert [found.id for found in held_after_one] == [lease.id]
    assert allocator.store.open_leases() == []
    assert reconciler.standing.released == 1


async def test_nothing_is_released_while_the_hub_cannot_be_read(allocator):
    lease = hold(allocator)
    reconciler = Reconciler(allocator, unreadable)

    for _ in range(3):
        await reconciler.one_pass()

    assert [found.id for found in allocator.store.open_leases()] == [lease.id]
    assert reconciler.standing.trouble == "the Hub does not answer"
    assert reconciler.standing.checked_at is None


async def test_a_short_fault_of_the_hub_does_not_count_as_missing(allocator):
    lease = hold(allocator)
    reconciler = Reconciler(allocator, unreadable)
    await reconciler.one_pass()
    reconciler._list_servers = listing()

    await reconciler.one_pass()

    assert [found.id for found in allocator.store.open_leases()] == [lease.id]


async def test_a_lease_that_the_books_lost_comes_back_from_the_server_that_carries_it(allocator):
    lease = hold(allocator)
    allocator.release(lease.id, "the books were restored from a backup")
    server = LiveServer("ada", "", lease, is_ready=True)
    reconciler = Reconciler(allocator, listing(server))

    await reconciler.one_pass()

    assert [found.id for found in allocator.store.open_leases()] == [lease.id]
    assert reconciler.standing.readopted == 1


async def test_a_ready_server_makes_its_reserved_lease_active(allocator):
    lease = hold(allocator)
    server = LiveServer("ada", "", lease, is_ready=True)
    reconciler = Reconciler(allocator, listing(server))

    await reconciler.one_pass()

    assert allocator.store.open_leases()[0].state == "active"
    assert reconciler.standing.activated == 1


async def test_after_a_rename_the_lease_belongs_to_the_new_name(allocator):
    lease = hold(allocator)
    renamed = LiveServer("ada-lovelace", "", lease, is_ready=True)
    reconciler = Reconciler(allocator, listing(renamed))

    await reconciler.one_pass()

    assert reconciler.standing.owner_of(lease) == "ada-lovelace"


async def test_books_that_cannot_be_read_are_trouble_and_no_end_of_the_loop(allocator, tmp_path):
    hold(allocator)
    reconciler = Reconciler(allocator, listing())
    (tmp_path / "books.sqlite").rename(tmp_path / "moved.sqlite")

    await reconciler.one_pass()
    trouble = reconciler.standing.trouble
    (tmp_path / "moved.sqlite").rename(tmp_path / "books.sqlite")
    await reconciler.one_pass()

    assert trouble is not None
    assert "gone" in trouble
    assert reconciler.standing.trouble is None


# -- with a cluster ---------------------------------------------------------------------


class Cluster:
    """What discovery would see of a cluster: GPUs of the simulated machine, and pods."""

    def __init__(self) -> None:
        self.seen = SimulatedSource(None).read()
        self.held: tuple[HeldPiece, ...] = ()
        self.fault: str | None = None

    def read(self) -> Inventory:
        if self.fault:
            raise GpuStateUnreadable(self.fault)
        return replace(self.seen, source=KUBERNETES, held=self.held, read_at=datetime.now(UTC))


class Pods:
    """The pods that were asked to end."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def end(self, lease_id: str, spawner_id: int | None = None) -> int:
        self.ended.append(lease_id)
        return 1


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def on_cluster(tmp_path, cluster, pods) -> Allocator:
    url = f"sqlite:///{tmp_path}/books.sqlite"
    settings = Settings(database_url=url, gpu_source="kubernetes", inventory_max_age_seconds=0.0)
    made = Allocator(lambda: Store.open(url), cluster, settings, pods)
    made.store.save_groups(
        [ResourceGroup("vision", Quota(ONE_GPU * 2))], {}, actor="tests", why="the case"
    )
    return made


def book(allocator: Allocator, lease_id: str = "a" * 32) -> Lease:
    """A lease, written as a start writes it; no binding is asked, since no pod is made."""
    reservation = Reservation(lease_id, ADA, Server(3), {}, datetime.now(UTC))
    inventory = allocator.inventory(max_age_seconds=0)
    allocator.store.reserve(
        reservation,
        lambda ledger: judge(Ask(Blocks(30)), ADA, allocator.situation(ledger, inventory)),
    )
    lease = allocator.store.lease(lease_id)
    assert lease is not None
    return lease


def pod_of(lease: Lease) -> HeldPiece:
    piece = lease.placement.pieces[0]
    return HeldPiece(piece.gpu_uuid, "Pod hub/jupyter-ada", piece.blocks, lease_id=lease.id)


async def test_nothing_is_released_while_the_cluster_cannot_be_read(on_cluster, cluster):
    lease = book(on_cluster)
    reconciler = Reconciler(on_cluster, listing())
    await reconciler.one_pass()
    cluster.fault = "The API server does not answer."

    for _ in range(3):
        await reconciler.one_pass()
    trouble = reconciler.standing.trouble
    held = on_cluster.store.open_leases()
    cluster.fault = None
    await reconciler.one_pass()

    assert trouble == "The API server does not answer."
    assert [found.id for found in held] == [lease.id]
    assert on_cluster.store.open_leases() == []
    assert reconciler.standing.trouble is None


async def test_a_start_that_a_killed_hub_left_gives_back_its_lease_and_its_pod(
    on_cluster, cluster, pods
):
    lease = book(on_cluster)
    cluster.held = (pod_of(lease),)
    reconciler = Reconciler(on_cluster, listing())

    for _ in range(2):
        await reconciler.one_pass()
    ended_with_the_lease = list(pods.ended)
    for _ in range(2):
        await reconciler.one_pass()

    assert on_cluster.store.open_leases() == []
    assert ended_with_the_lease == [lease.id]
    # It is still there, so it is asked again, and the admin is told.
    assert pods.ended == [lease.id] * 2
    assert [(one.kind, one.about) for one in reconciler.standing.uncertain] == [
        (Doubt.POD_LEFT_OVER, lease.id)
    ]


async def test_a_pod_that_nobody_knows_is_told_once_counts_as_held_and_is_never_ended(
    on_cluster, cluster, pods, caplog
):
    lease = replace(book(on_cluster), id="f" * 32)
    on_cluster.release("a" * 32, "stopped")
    cluster.held = (pod_of(lease),)
    reconciler = Reconciler(on_cluster, listing())

    for _ in range(4):
        await reconciler.one_pass()

    assert [one.kind for one in reconciler.standing.uncertain] == [Doubt.POD_UNKNOWN]
    assert pods.ended == []
    assert caplog.text.count("Pod hub/jupyter-ada carries lease") == 1
    assert reconciler.standing.doubts == {Doubt.POD_UNKNOWN: 1}
    cluster.held = ()
    await reconciler.one_pass()
    assert reconciler.standing.uncertain == ()


async def test_what_was_uncertain_stays_so_while_the_cluster_cannot_be_read(on_cluster, cluster):
    lease = book(on_cluster)
    server = LiveServer("ada", "", lease, is_ready=True)
    reconciler = Reconciler(on_cluster, listing(server))
    for _ in range(2):
        await reconciler.one_pass()
    cluster.fault = "The API server does not answer."

    await reconciler.one_pass()

    assert [one.kind for one in reconciler.standing.uncertain] == [Doubt.SERVER_WITHOUT_POD]
    assert reconciler.standing.doubts == {Doubt.SERVER_WITHOUT_POD: 1}


async def test_books_from_an_old_backup_get_the_lease_back_and_its_pod_stays(
    on_cluster, cluster, pods
):
    lease = book(on_cluster)
    on_cluster.release(lease.id, "the books were restored from a backup")
    cluster.held = (pod_of(lease),)
    reconciler = Reconciler(on_cluster, listing(LiveServer("ada", "", lease, is_ready=True)))

    for _ in range(3):
        await reconciler.one_pass()

    assert [found.id for found in on_cluster.store.open_leases()] == [lease.id]
    assert pods.ended == []
    assert reconciler.standing.uncertain == ()


async def test_a_grant_of_another_amount_is_told_until_the_server_stops(on_cluster, cluster):
    lease = book(on_cluster)
    cluster.held = (pod_of(lease),)
    piece = replace(lease.placement.pieces[0], blocks=40, cost=cost_of_blocks(40))
    carried = on_cluster.granted(lease.id, Placement((piece,)))
    reconciler = Reconciler(on_cluster, listing(LiveServer("ada", "", carried, is_ready=True)))

    await reconciler.one_pass()
    told = reconciler.standing.uncertain
    shown = findings_model(told, reconciler.standing.checked_at, "ko").items
    on_cluster.release(lease.id, "stopped")
    cluster.held = ()
    reconciler._list_servers = listing()
    await reconciler.one_pass()

    assert carried.charge == cost_of_blocks(40)
    assert [one.kind for one in told] == [Doubt.GRANT_DIFFERS]
    assert [one.lease_id for one in shown] == [lease.id]
    assert "40블록" in shown[0].message
    assert shown[0].numbers["placed_blocks"] == 30
    assert reconciler.standing.uncertain == ()
    assert on_cluster.granted(lease.id, lease.placement) is None


# -- the Hub's model --------------------------------------------------------------------


def model_of(state: object) -> dict:
    return {"name": "ada", "servers": {"": {"name": "", "ready": True, "state": state}}}


@pytest.mark.parametrize("state", [None, {}, {"pid": 1}, {"aliquot": {}}, {"aliquot": None}])
def test_a_server_without_a_lease_is_a_server_without_a_gpu(state):
    assert list(servers_of(model_of(state))) == [LiveServer("ada", "", None, is_ready=True)]


def test_a_server_tells_the_lease_that_it_carries(allocator):
    lease = hold(allocator)

    found = list(servers_of(model_of({"aliquot": {"lease": lease_to_json(lease)}})))

    assert found == [LiveServer("ada", "", lease, is_ready=True)]


@pytest.mark.parametrize(
    "model",
    [
        {"name": "ada"},
        {"name": "ada", "servers": {"": {"name": "", "ready": True}}},
        model_of({"aliquot": {"lease": {"version": 99}}}),
        model_of({"aliquot": {"lease": {"id": "x"}}}),
    ],
    ids=["no servers", "no state", "newer lease", "broken lease"],
)
def test_a_model_that_is_not_whole_is_unreadable_and_not_empty(model):
    with pytest.raises(HubUnreadable):
        list(servers_of(model))


# -- with a Hub -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lease_left_by_a_crash_is_released_soon_after_the_hub_starts(start_sharing_hub):
    sharing = start_sharing_hub()
    sharing.hub.wait_for_service()
    sharing.hub.kill()
    settings = Settings(database_url=sharing.database_url, gpu_source="simulated")
    lost = Allocator.from_settings(settings).reserve(
        Ask(Blocks(30)), ADA, Server(4321), "b" * 32, {"share": "30 blocks"}
    )
    assert sharing.held_blocks() == 30, lost

    sharing.hub.start()

    # The first pass at start, the second after five seconds.
    assert until(lambda: sharing.held_blocks() == 0, seconds=30), sharing.hub.log[-3000:]


@pytest.mark.slow
def test_a_running_notebooks_lease_survives_passes_and_a_crash_of_the_hub(start_sharing_hub):
    sharing = start_sharing_hub()
    hub = sharing.hub
    hub.start_server("ada", options={"share": "30 blocks"})
    hub.kill()

    hub.start()
    health = hub.wait_for_service()
    checked_at = health["reconciliation"]["checked_at"]
    later = lambda: hub.service("GET", "health").json()["reconciliation"]["checked_at"]  # noqa: E731
    assert until(lambda: later() > checked_at, seconds=20)

    assert sharing.held_blocks() == 30
    assert hub.server("ada")["ready"]


@pytest.mark.slow
def test_the_service_ends_when_its_hub_is_killed_and_the_next_hub_has_one_again(
    start_sharing_hub,
):
    sharing = start_sharing_hub()
    hub = sharing.hub
    hub.wait_for_service()
    service = [p for p in psutil.Process(hub.pid).children() if "aliquot.service" in p.cmdline()]
    assert len(service) == 1

    hub.kill()

    assert until(lambda: not service[0].is_running(), seconds=10)
    hub.start()
    assert hub.wait_for_service()["status"] == "ok"


@pytest.mark.slow
def test_a_service_that_ended_is_started_again_by_the_hub_and_waits_for_its_port(
    start_sharing_hub,
):
    hub = start_sharing_hub().hub
    hub.wait_for_service()
    first = next(p for p in psutil.Process(hub.pid).children() if "aliquot.service" in p.cmdline())

    os.kill(first.pid, signal.SIGKILL)
    began = datetime.now(UTC)

    assert until(lambda: not psutil.pid_exists(first.pid) or first.status() == "zombie")
    # The Hub looks every 30 s whether its services live.
    assert hub.wait_for_service(seconds=60)["at"] > began.isoformat()


@pytest.mark.slow
def test_a_service_whose_role_lacks_a_scope_releases_nothing_and_says_which(start_sharing_hub):
    sharing = start_sharing_hub(
        'c.JupyterHub.load_roles = [{"name": "aliquot-service", "services": ["aliquot"], '
        '"scopes": ["list:users", "read:servers"]}]'
    )
    hub = sharing.hub

    assert until(lambda: "admin:server_state" in hub.log, seconds=30), hub.log[-2000:]
    health = hub.service("GET", "health").json()
    assert health["status"] == "degraded"
    assert health["reconciliation"]["ok"] is False
    assert "admin:server_state" not in health["reconciliation"]["message"]
