"""Reconciliation by the service, and how long the service itself lives, on a real Hub."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psutil
import pytest

from aliquot.allocator import Allocator, Reserved
from aliquot.domain.currency import ONE_GPU
from aliquot.domain.lease_json import lease_to_json
from aliquot.domain.leases import Person, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.reconciliation import LiveServer
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks
from aliquot.service.hub_servers import HubUnreadable, servers_of
from aliquot.service.reconciling import Reconciler
from aliquot.settings import Settings

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
