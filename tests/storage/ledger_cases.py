"""Cases for the ledger: a small machine, its people, and requests that are decided for real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import create_engine, text

from aliquot.domain.admission import decide
from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory
from aliquot.domain.judging import Decision, Grant, Situation
from aliquot.domain.leases import Person, Server
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.domain.refusals import Ask
from aliquot.domain.shares import read_share
from aliquot.storage import Ledger, Reservation, Store

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ADA = Person(1, "ada", frozenset({"vision"}))
LIN = Person(2, "lin", frozenset({"vision"}))


def machine(gpus: int = 2) -> Inventory:
    return Inventory(
        tuple(
            Gpu(
                uuid=f"GPU-{index:08x}",
                index=index,
                product="NVIDIA H100 80GB HBM3",
                model="H100-80GB",
                memory_mib=81_559,
                blocks_by=BlocksBy.SIMULATED,
            )
            for index in range(gpus)
        ),
        source="simulated",
        read_at=NOON,
        simulated=True,
    )


def vision(blocks: int = 200) -> ResourceGroup:
    return ResourceGroup("vision", Quota(cost_of_blocks(blocks)))


def decide_on(
    share: str, person: Person = ADA, inventory: Inventory | None = None
) -> Callable[[Ledger], Decision]:
    parsed = read_share(share)
    assert parsed is not None
    ask = Ask(parsed)
    gpus = inventory or machine()

    def decide_with(ledger: Ledger) -> Decision:
        return decide(ask, person, Situation(ledger.tree, ledger.books, gpus, ledger.weights))

    return decide_with


def attempt(
    spawner_id: int,
    person: Person = ADA,
    *,
    lease_id: str | None = None,
    at: datetime = NOON,
    until: datetime | None = None,
    options: Mapping[str, str] | None = None,
) -> Reservation:
    return Reservation(
        lease_id or uuid4().hex, person, Server(spawner_id), options or {}, at, until
    )


def hold(store: Store, spawner_id: int, share: str = "30 blocks", person: Person = ADA) -> str:
    """Reserve, and fail unless it was granted. Returns the lease's id."""
    request = attempt(spawner_id, person)
    assert isinstance(store.reserve(request, decide_on(share, person)), Grant)
    return request.lease_id


def later(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def ledger_id(url: str) -> str:
    """What tells this ledger from every other, whoever opens it."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return connection.execute(text("SELECT deployment_id FROM ledger_state")).scalar_one()
    finally:
        engine.dispose()


def held_blocks(store: Store) -> int:
    return store.ledger().books.held_by_group("vision").blocks
