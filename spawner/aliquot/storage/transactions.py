"""Transactions: the ledger in memory, and one write to it and to the disk at once.

A *known* ledger is one that was read or made at a version. Within a transaction that holds
the write lock it is exact if the version on disk is still its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from aliquot.domain.books import Books
from aliquot.domain.grants import Settled
from aliquot.domain.judging import Decision, Grant
from aliquot.domain.leases import Lease, LeaseState
from aliquot.domain.quota import GroupTree
from aliquot.domain.shares import read_share
from aliquot.domain.uncertain import GrantDoubt
from aliquot.storage.connections import Writer
from aliquot.storage.prepared import LedgerStatements
from aliquot.storage.rows import (
    AGREES,
    doubt_from_event,
    event_to_row,
    grant_summary,
    group_from_row,
    lease_from_row,
    lease_summary,
    lease_to_row,
)
from aliquot.storage.tables import (
    IS_OPEN,
    JUDGED,
    events,
    leases,
    model_weights,
    presets,
    resource_groups,
)
from aliquot.storage.values import Ledger, Reservation

# Who acts when a lease changes with its server's state, rather than by anybody's request.
HUB = "hub"


@dataclass(frozen=True, slots=True)
class Known:
    """A ledger, and its open leases by the server that holds them.

    ``by_server`` belongs to the one who writes: it is changed in place after a commit, and
    the Known that it was part of is then dropped.
    """

    ledger: Ledger
    by_server: dict[int, Lease]


def load(connection: Connection, version: int) -> Known:
    """Read the ledger, in a transaction in which ``version`` was read."""
    groups = connection.execute(resource_groups.select().order_by(resource_groups.c.name))
    tree = GroupTree.of(group_from_row(row) for row in groups.mappings())
    weights = {row.gpu_model: row.weight for row in connection.execute(model_weights.select())}
    texts = connection.execute(select(presets.c.share).order_by(presets.c.position)).scalars()
    shares = tuple(share for text in texts if (share := read_share(text)) is not None)
    query = leases.select().where(IS_OPEN).order_by(leases.c.reserved_at, leases.c.id)
    open_leases = [lease_from_row(row) for row in connection.execute(query)]
    ledger = Ledger(tree, Books(open_leases, tree), weights, shares, version)
    return Known(ledger, {lease.server.spawner_id: lease for lease in open_leases})


class WriteTransaction:
    """One held write lock. What is written to disk is done to ``ledger`` at once."""

    def __init__(self, writer: Writer, statements: LedgerStatements, known: Known) -> None:
        self.connection = writer.connection
        self.known = known
        self.ledger = known.ledger
        self.has_written = False
        self._is_stale = False
        self._statements = statements
        self._writer = writer
        self._cursor = writer.cursor
        # By server: what is open now and was not when the transaction began; None for what
        # was released.
        self._changed: dict[int, Lease | None] = {}

    @classmethod
    def begin(
        cls, writer: Writer, statements: LedgerStatements, known: Known | None
    ) -> WriteTransaction:
        writer.begin()
        statements.lock_version.run(writer.cursor, {})
        version = writer.cursor.fetchone()[0]
        if known is None or known.ledger.version != version:
            known = load(writer.connection, version)
        return cls(writer, statements, known)

    def open_of(self, spawner_id: int) -> Lease | None:
        """The lease that a server holds."""
        if spawner_id in self._changed:
            return self._changed[spawner_id]
        return self.known.by_server.get(spawner_id)

    def open_by_id(self, lease_id: str) -> Lease | None:
        for held in (self._changed.values(), self.known.by_server.values()):
            for lease in held:
                if lease is not None and lease.id == lease_id:
                    now = self.open_of(lease.server.spawner_id)
                    return now if now is not None and now.id == lease_id else None
        return None

    def reserve(self, request: Reservation, decide: Callable[[Ledger], Decision]) -> Decision:
        """See ``Store.reserve``."""
        stale = self.open_of(request.server.spawner_id)
        if stale is not None and stale.id == request.lease_id:
            return Grant(stale.placement, stale.charge, stale.group)
        if stale is not None:
            self.release(stale, "superseded", request.at)
        decision = decide(self.ledger)
        if isinstance(decision, Grant) and decision.placement.pieces:
            self.insert(request.lease(decision), request.person.name, request.at)
        return decision

    def insert(self, lease: Lease, actor: str, at: datetime) -> None:
        """Raises ValueError for what the tables refuse, such as an id that was used before."""
        dbapi: Any = self.connection.dialect.loaded_dbapi
        after = lease_summary(lease)
        event = event_to_row(at, actor, "lease.reserved", lease.id, None, after, "started")
        try:
            self._statements.insert_lease(self._cursor, lease_to_row(lease), event)
        except dbapi.IntegrityError as error:
            raise ValueError(f"lease {lease.id} cannot be written: {error}") from error
        self.has_written = True
        self._count(1, self.ledger.books.with_lease(lease))
        self._changed[lease.server.spawner_id] = lease

    def put_back(self, lease: Lease, why: str, at: datetime) -> None:
        """Insert a lease that the books have lost, or open again one that was released."""
        changed = self.connection.execute(
            leases.update().where(leases.c.id == lease.id).values(lease_to_row(lease))
        )
        if not changed.rowcount:
            self.connection.execute(leases.insert().values(lease_to_row(lease)))
        self.event(at, HUB, "lease.readopted", lease.id, None, lease_summary(lease), why)
        self._count(1, self.ledger.books.with_lease(lease))
        self._changed[lease.server.spawner_id] = lease

    def activate(self, lease: Lease, at: datetime) -> None:
        active = replace(lease, state=LeaseState.ACTIVE, active_at=at)
        self._statements.activate.run(
            self._cursor, {"lease_id": lease.id, "state": "active", "active_at": at}
        )
        before, after = {"state": lease.state.value}, {"state": "active"}
        self.event(at, HUB, "lease.activated", lease.id, before, after, "server_answers")
        self._count(1, self.ledger.books.without([lease.id]).with_lease(active))
        self._changed[lease.server.spawner_id] = active

    def put_granted(self, lease: Lease, settled: Settled, at: datetime) -> None:
        now = settled.lease
        pieces = [piece.to_json() for piece in now.placement.pieces]
        values = {
            "pieces": pieces,
            "charge_compute": now.charge.compute,
            "charge_memory": now.charge.memory,
        }
        mine = leases.update().where(leases.c.id == lease.id)
        self.connection.execute(mine.values(values))
        why = "costs_differ" if settled.costs_differ else "same_cost"
        before, after = grant_summary(lease), grant_summary(now)
        self.event(at, HUB, "lease.granted", lease.id, before, after, why)
        self._count(1, self.ledger.books.without([lease.id]).with_lease(now))
        self._changed[lease.server.spawner_id] = now

    def judge_grant(self, lease: Lease, doubt: GrantDoubt | None, at: datetime) -> None:
        """Keep what a look at a grant found, when the last one found something else."""
        mine = events.select().where(JUDGED, events.c.object == lease.id)
        last = self.connection.execute(mine.order_by(events.c.id.desc()).limit(1)).first()
        before = None if last is None else doubt_from_event(last)
        if doubt == before:
            return
        why = AGREES if doubt is None else doubt.kind.value
        was, now = (None if one is None else {"said": one.said} for one in (before, doubt))
        self.event(at, HUB, "lease.grant_judged", lease.id, was, now, why)

    def release(self, lease: Lease, why: str, at: datetime) -> None:
        self._statements.release.run(
            self._cursor,
            {"lease_id": lease.id, "state": "released", "released_at": at, "released_why": why},
        )
        before, after = lease_summary(lease), {"state": "released"}
        self.event(at, HUB, "lease.released", lease.id, before, after, why)
        self._count(1, self.ledger.books.without([lease.id]))
        self._changed[lease.server.spawner_id] = None

    def replace_table(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """Put these rows in the place of all. The ledger is loaded anew after it."""
        self.connection.execute(table.delete())
        if rows:
            self.connection.execute(table.insert(), rows)
        self.has_written = self._is_stale = True

    def event(
        self, at: datetime, actor: str, kind: str, about: str, before: Any, after: Any, why: str
    ) -> None:
        row = event_to_row(at, actor, kind, about, before, after, why)
        self._statements.insert_event.run(self._cursor, row)
        self.has_written = True

    def finish(self) -> Known | None:
        """Make it last, if anything was written. Returns the ledger as it is then, None when
        it has to be loaded."""
        if not self.has_written:
            self._writer.rollback()
            return self.known
        self._writer.commit()
        if self._is_stale:
            return None
        by_server = self.known.by_server
        for spawner_id, lease in self._changed.items():
            if lease is None:
                by_server.pop(spawner_id, None)
            else:
                by_server[spawner_id] = lease
        return Known(self.ledger, by_server)

    def _count(self, changed_rows: int, books: Books) -> None:
        """The triggers add one to the version for each changed row."""
        now = self.ledger
        version = now.version + changed_rows
        self.ledger = Ledger(now.tree, books, now.weights, now.presets, version)
