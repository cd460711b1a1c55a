"""What an engine gave is looked for until it is known, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aliquot.allocator import Allocator
from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.pod_manifest import apply
from aliquot.discovery import GpuStateUnreadable
from aliquot.domain.currency import ONE_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Person, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import Blocks
from aliquot.domain.uncertain import Doubt, GrantDoubt
from aliquot.settings import Settings
from aliquot.spawners.reading_back import read_back
from aliquot.storage import Store
from tests.bindings.engine_answers import answer
from tests.bindings.spawned_pods import IN_BLOCKS, POLICY, marks_on, spawned_pod

ALLOCATED = "hami.io/vgpu-devices-allocated"
ADA = Person(7, "ada", frozenset({"vision"}))


class Cluster:
    """What discovery would see: HAMi's cards on one node."""

    fault: str | None = None

    def read(self) -> Inventory:
        if self.fault:
            raise GpuStateUnreadable(self.fault)
        return replace(IN_BLOCKS["hami"], read_at=datetime.now(UTC))


class Case:
    """A running pod of ada's, its lease, and the looking that goes on beside it."""

    def __init__(self, url: str) -> None:
        self.cluster = Cluster()
        settings = Settings(
            database_url=url, gpu_source="kubernetes", inventory_max_age_seconds=0.0
        )
        self.allocator = Allocator(lambda: Store.open(url), self.cluster, settings)
        self.store = self.allocator.store
        self.store.save_groups(
            [ResourceGroup("vision", Quota(ONE_GPU * 4))], {}, actor="tests", why="the case"
        )
        self.allocator.reserve(Ask(Blocks(30)), ADA, Server(3), "a" * 32, {})
        (self.lease,) = self.store.open_leases()
        inventory = self.cluster.read()
        patch = bind_pod(self.lease, inventory, POLICY)
        self.pod = answer(apply(spawned_pod(), patch, marks_on(self.lease)), None, inventory).pod
        self.is_watched = True
        self.carried = self.lease

    def write(self, said: str | None) -> None:
        pod = copy.deepcopy(self.pod)
        pod["metadata"]["annotations"].pop(ALLOCATED, None)
        if said is not None:
            pod["metadata"]["annotations"][ALLOCATED] = said
        self.pod = pod

    async def _see(self):
        return (self.pod, []) if self.is_watched else None

    def _keep(self, lease) -> None:
        self.carried = lease

    @asynccontextmanager
    async def looking(self):
        log = logging.getLogger("tests")
        looks = asyncio.create_task(
            read_back(self.allocator, self.lease, self._see, self._keep, log, first_seconds=0.02)
        )
        yield looks
        looks.cancel()

    @property
    def doubts(self) -> dict[str, GrantDoubt]:
        return self.store.grant_doubts()


@pytest.fixture
def case(tmp_path) -> Case:
    return Case(f"sqlite:///{tmp_path}/books.sqlite")


async def until(true: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_grant_that_agrees_is_looked_at_once_and_writes_nothing(case):
    before = case.store.events()

    async with case.looking() as looks:
        await asyncio.wait_for(looks, 5)

    assert case.store.events() == before
    assert case.carried == case.lease


async def test_the_server_carries_what_the_engine_gave(case):
    case.write("GPU-0002,NVIDIA,24467,30:;")

    async with case.looking() as looks:
        await asyncio.wait_for(looks, 5)

    assert case.carried.placement.pieces[0].gpu_uuid == "GPU-0002"
    assert case.store.lease(case.lease.id) == case.carried
    assert case.doubts == {}


async def test_what_cannot_be_read_is_in_doubt_until_it_can_be(case):
    case.write("none of its form")
    async with case.looking() as looks:
        await until(lambda: case.doubts)
        doubt = case.doubts[case.lease.id]

        case.write("GPU-0002,NVIDIA,24467,30:;")
        await asyncio.wait_for(looks, 10)

    assert doubt.kind is Doubt.GRANT_UNREADABLE
    assert "none of its form" in doubt.said
    assert case.doubts == {}
    assert case.carried.placement.pieces[0].gpu_uuid == "GPU-0002"


async def test_an_engine_that_is_a_moment_late_is_no_doubt_and_one_that_is_silent_is(case):
    case.write(None)
    async with case.looking():
        await until(lambda: case.doubts)

    assert case.doubts == {case.lease.id: GrantDoubt(Doubt.GRANT_UNTOLD)}


@pytest.mark.parametrize("away", ["pod", "cluster", "books"])
async def test_what_is_away_meanwhile_is_waited_for(case, away, tmp_path, caplog):
    case.write("GPU-0002,NVIDIA,24467,30:;")
    books, moved = tmp_path / "books.sqlite", tmp_path / "moved.sqlite"
    if away == "pod":
        case.is_watched = False
    elif away == "cluster":
        case.cluster.fault = "The API server does not answer."
    else:
        books.rename(moved)
    async with case.looking() as looks:
        await asyncio.sleep(0.3)
        was_over = looks.done()
        case.is_watched, case.cluster.fault = True, None
        if away == "books":
            moved.rename(books)
        await asyncio.wait_for(looks, 20)

    assert not was_over
    assert case.store.lease(case.lease.id).placement.pieces[0].gpu_uuid == "GPU-0002"
    assert caplog.text.count("what was granted is not known yet") == (away == "books")


async def test_a_lease_that_the_books_have_lost_is_looked_at_until_it_is_back(case):
    case.allocator.release(case.lease.id, "the books were restored from a backup")
    case.write("GPU-0002,NVIDIA,24467,30:;")
    async with case.looking() as looks:
        await asyncio.sleep(0.3)
        was_over = looks.done()
        case.store.readopt(case.lease, "server_lives")
        await asyncio.wait_for(looks, 20)

    assert not was_over
    assert case.store.lease(case.lease.id).placement.pieces[0].gpu_uuid == "GPU-0002"
