"""Store: the ledger on disk.

Everything here blocks and may be called from any thread; nothing here decides. Whoever
writes holds the database's one write lock from first to last statement, so two hubs, or a
hub and its service, can no more promise the same blocks than two threads can.

The ledger is kept in memory between calls, and is exact: each transaction reads the
*version*, which triggers count up with every change of what decisions depend on, and loads
the ledger anew when somebody else has changed it.

Every method raises LedgerUnavailable when the database cannot do it; nothing was written
then, and the next call tries afresh.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from sqlalchemy import Connection, select
from sqlalchemy.engine import URL

from aliquot.domain.grants import settle
from aliquot.domain.judging import Decision
from aliquot.domain.leases import Lease, LeaseState, Placement
from aliquot.domain.quota import ResourceGroup
from aliquot.domain.shares import CpuOnly, read_share
from aliquot.domain.uncertain import GrantDoubt
from aliquot.storage import errors, schema
from aliquot.storage.connections import Writer, create_file, reading_engine, writing_engine
from aliquot.storage.errors import Fault, LedgerUnavailable
from aliquot.storage.prepared import LedgerStatements
from aliquot.storage.rows import (
    doubt_from_event,
    event_from_row,
    grant_from_event,
    group_rows_of,
    groups_to_json,
    lease_from_row,
    refuse_large,
    weight_rows_of,
)
from aliquot.storage.tables import (
    DIFFERS,
    IS_OPEN,
    JUDGED,
    events,
    leases,
    ledger_state,
    model_weights,
    presets,
    receipts,
    resource_groups,
)
from aliquot.storage.transactions import Known, WriteTransaction, load
from aliquot.storage.turns import Operation, Turns
from aliquot.storage.values import Event, Ledger, Reservation

MAX_OPTIONS_BYTES = 4096
MAX_RECEIPT_BYTES = 65536


class Store:
    """One a process and database. Make it with ``open``."""

    def __init__(self, url: URL, wait_seconds: float) -> None:
        self._url = url
        self._wait_seconds = wait_seconds
        self._reading = reading_engine(url, wait_seconds)
        self._writing = writing_engine(url, wait_seconds)
        self._statements = LedgerStatements(self._writing.dialect)
        # One writer a process: threads wait here, and the database sees one connection.
        self._write_lock = threading.Lock()
        self._turns = Turns(self._write_lock, self._run_all)
        self._writer: Writer | None = None
        self._known: Known | None = None

    @classmethod
    def open(cls, url: str, *, migrate: bool = True, busy_wait_seconds: float = 5.0) -> Store:
        """Open the database, make and upgrade its tables where ``migrate``.

        ``busy_wait_seconds`` bounds the wait for another writer, in every later call too.
        """
        parsed = errors.parse_url(url)
        if migrate:
            create_file(parsed)
        with errors.translated(parsed, busy_wait_seconds):
            schema.ensure(parsed, migrate=migrate)
        return cls(parsed, busy_wait_seconds)

    def close(self) -> None:
        """Close all connections. A later call opens them again."""
        with self._write_lock:
            self._drop_writer()
            self._forget()

    # Leases

    def reserve(self, request: Reservation, decide: Callable[[Ledger], Decision]) -> Decision:
        """Decide and, on a grant with pieces, write the lease, in one transaction.

        ``decide`` is pure and quick: all other writers wait for it, and another thread may
        run it, or run it twice. A lease that the same
        server still holds from an earlier attempt is released first, whatever is decided.
        The same attempt asked twice gets the lease that it has.

        Raises ValueError for a lease id that was used before and is over.
        """
        return self._together(lambda write: write.reserve(request, decide))

    def activate(self, lease_id: str, at: datetime) -> bool:
        """The server answers. True when the lease is active now, also if it was before;
        False when it is not open: the server has lost it."""

        def activate(write: WriteTransaction) -> bool:
            lease = write.open_by_id(lease_id)
            if lease is not None and lease.state is LeaseState.RESERVED:
                write.activate(lease, at)
            return lease is not None

        return self._together(activate)

    def put_granted(
        self,
        lease_id: str,
        granted: Placement | None,
        at: datetime,
        doubt: GrantDoubt | None = None,
    ) -> bool:
        """What the engine really gave: the pieces become those, the charge as ``grants`` has
        it. None where it tells no devices: the lease stays as it is. ``doubt`` is kept beside
        it until a later look finds none. False when the lease is not open; safe to repeat."""

        def put(write: WriteTransaction) -> bool:
            lease = write.open_by_id(lease_id)
            if lease is None:
                return False
            settled = granted and settle(lease, granted, write.ledger.weights)
            if settled is not None:
                write.put_granted(lease, settled, at)
            write.judge_grant(lease, doubt, at)
            return True

        return self._together(put)

    def release(self, lease_id: str, why: str, at: datetime) -> bool:
        """Give a lease back. False when it was not open, so it is safe to repeat."""

        def release(write: WriteTransaction) -> bool:
            lease = write.open_by_id(lease_id)
            if lease is not None:
                write.release(lease, why, at)
            return lease is not None

        return self._together(release)

    def release_server(self, spawner_id: int, why: str, at: datetime) -> list[str]:
        """Give back whatever a server holds; returns the ids of what it held."""

        def release(write: WriteTransaction) -> list[str]:
            lease = write.open_of(spawner_id)
            if lease is None:
                return []
            write.release(lease, why, at)
            return [lease.id]

        return self._together(release)

    def readopt(self, lease: Lease, why: str) -> bool:
        """Put back a lease that a live server proves, as active, whatever quotas say.

        False when there is nothing to do: it is open already, or the server has a later
        lease, in which case the proof is old. An earlier open lease of the server goes.
        """
        at = datetime.now(UTC)
        with self._write() as write:
            holder = write.open_of(lease.server.spawner_id)
            if holder is not None:
                if holder.id == lease.id or holder.reserved_at > lease.reserved_at:
                    return False
                write.release(holder, "superseded", at)
            lived = replace(lease, state=LeaseState.ACTIVE, active_at=lease.active_at or at)
            write.put_back(lived, why, at)
        return True

    def open_leases(self) -> list[Lease]:
        return list(self.ledger().books.leases)

    def lease(self, lease_id: str) -> Lease | None:
        with self._read() as connection:
            row = connection.execute(leases.select().where(leases.c.id == lease_id)).first()
        return None if row is None else lease_from_row(row)

    def leases_of(self, user_id: int) -> list[Lease]:
        """All leases that a user ever had, the latest first."""
        query = leases.select().where(leases.c.user_id == user_id)
        with self._read() as connection:
            rows = connection.execute(query.order_by(leases.c.reserved_at.desc()))
            return [lease_from_row(row) for row in rows]

    def ledger(self) -> Ledger:
        """The ledger as it is now, for showing; ``reserve`` gives its own to a decision."""
        with self._read() as connection:
            version = connection.execute(select(ledger_state.c.version)).scalar_one()
            known = self._known
            if known is None or known.ledger.version != version:
                loaded = load(connection, version)
                # A writer may have gone on meanwhile; what it knows is not overwritten.
                if self._known is known:
                    self._known = loaded
                known = loaded
        return known.ledger

    # What managers set

    def save_groups(
        self,
        groups: Sequence[ResourceGroup],
        weights: Mapping[str, int],
        actor: str,
        why: str,
    ) -> None:
        """Replace all resource groups and model weights.

        Leases of a group that is no more keep its name and go on counting against it.

        Raises ValueError, one sentence, for what is no tree, a name that comes twice and a
        weight below 1: who edits groups shows it beside the form.
        """
        group_rows, weight_rows = group_rows_of(groups), weight_rows_of(weights)
        with self._write() as write:
            before = groups_to_json(write.ledger.tree.groups.values(), write.ledger.weights)
            write.replace_table(resource_groups, group_rows)
            write.replace_table(model_weights, weight_rows)
            after = groups_to_json(groups, weights)
            write.event(datetime.now(UTC), actor, "groups.saved", "groups", before, after, why)

    def save_presets(self, shares: Sequence[str], actor: str, why: str) -> None:
        """Replace the sizes that the picker offers, in this order.

        Raises ValueError, one sentence, for a text that is no share of a GPU.
        """
        texts = []
        for text in shares:
            share = read_share(text)
            if share is None or isinstance(share, CpuOnly):
                raise ValueError(f"'{text[:64]}' is no share of a GPU")
            texts.append(str(share))
        texts = list(dict.fromkeys(texts))
        rows = [{"position": n, "share": text} for n, text in enumerate(texts)]
        with self._write() as write:
            before = [str(share) for share in write.ledger.presets]
            write.replace_table(presets, rows)
            write.event(datetime.now(UTC), actor, "presets.saved", "presets", before, texts, why)

    def put_receipt(self, lease_id: str, receipt: Mapping[str, Any], at: datetime) -> bool:
        """Keep what a notebook verified; a later one replaces it. False without such a lease.

        Raises ValueError when it is more than 64 KiB as JSON.
        """
        refuse_large(receipt, MAX_RECEIPT_BYTES, "a receipt")
        values = {"receipt": dict(receipt), "received_at": at}
        mine = receipts.c.lease_id == lease_id
        with self._write() as write:
            known = write.connection.execute(select(leases.c.id).where(leases.c.id == lease_id))
            if known.first() is None:
                return False
            changed = write.connection.execute(receipts.update().where(mine).values(values))
            if not changed.rowcount:
                write.connection.execute(receipts.insert().values(lease_id=lease_id, **values))
            write.has_written = True
        return True

    def receipt(self, lease_id: str) -> Mapping[str, Any] | None:
        query = select(receipts.c.receipt).where(receipts.c.lease_id == lease_id)
        with self._read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def open_receipts(self) -> dict[str, Mapping[str, Any]]:
        """What the notebooks of open leases have verified, by lease id."""
        is_open = select(leases.c.id).where(IS_OPEN)
        query = select(receipts.c.lease_id, receipts.c.receipt)
        with self._read() as connection:
            rows = connection.execute(query.where(receipts.c.lease_id.in_(is_open)))
            return {row.lease_id: row.receipt for row in rows}

    def events(self, after: int = 0, limit: int = 100) -> list[Event]:
        """The audit in the order of writing, from the event behind number ``after``."""
        query = events.select().where(events.c.id > after).order_by(events.c.id).limit(limit)
        with self._read() as connection:
            return [event_from_row(row) for row in connection.execute(query)]

    def differing_grants(self) -> dict[str, tuple[Placement, Placement]]:
        """Of open leases, by id: those whose engine gave another amount than the books had,
        as it was placed and as it was given."""
        is_open = select(leases.c.id).where(IS_OPEN)
        query = events.select().where(DIFFERS, events.c.object.in_(is_open)).order_by(events.c.id)
        with self._read() as connection:
            return {row.object: grant_from_event(row) for row in connection.execute(query)}

    def grant_doubts(self) -> dict[str, GrantDoubt]:
        """Of open leases, by id: those whose grant could not be booked, and why."""
        is_open = select(leases.c.id).where(IS_OPEN)
        query = events.select().where(JUDGED, events.c.object.in_(is_open)).order_by(events.c.id)
        with self._read() as connection:
            # The last word on a lease counts.
            found = {row.object: doubt_from_event(row) for row in connection.execute(query)}
        return {lease_id: doubt for lease_id, doubt in found.items() if doubt is not None}

    def check(self) -> None:
        """Raise LedgerUnavailable when the ledger cannot be read or its write lock not had."""
        with self._write():
            self.ledger()

    # Transactions

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """A snapshot."""
        try:
            with self._reading.begin() as connection:
                yield connection
        except Exception as error:
            self._raise_named(error)

    def _together(self, operation: Operation) -> Any:
        """Do what may be done in one transaction with what others do; see ``turns``."""
        try:
            return self._turns.take(operation, self._wait_seconds)
        except TimeoutError as error:
            raise errors.locked(self._url, self._wait_seconds) from error

    @contextmanager
    def _write(self) -> Iterator[WriteTransaction]:
        """Hold the write lock; commit at the end if something was written."""
        if not self._write_lock.acquire(timeout=self._wait_seconds):
            raise errors.locked(self._url, self._wait_seconds)
        try:
            write = self._begin_write()
            yield write
            self._known = write.finish()
        except BaseException as error:
            self._undo(error)
        finally:
            self._write_lock.release()

    def _run_all(self, operations: list[Operation]) -> list[Any]:
        """The same for ``turns``, which has the lock."""
        try:
            write = self._begin_write()
            results = [operation(write) for operation in operations]
            self._known = write.finish()
        except BaseException as error:
            self._undo(error)
        return results

    def _begin_write(self) -> WriteTransaction:
        """Take the lock and make sure that the ledger in memory is the one on disk.

        The connection is kept between writes. One that the server has closed meanwhile is
        noticed here, before anything is written, and opened again once.
        """
        for is_last in (False, True):
            try:
                if self._writer is None:
                    self._writer = Writer(self._writing, self._url, self._wait_seconds)
                return WriteTransaction.begin(self._writer, self._statements, self._known)
            except Exception as error:
                fault = errors.fault_of(error, self._url, self._wait_seconds)
                if is_last or fault is None or fault.kind is not Fault.UNREACHABLE:
                    raise
                self._drop_writer()
        raise AssertionError

    def _undo(self, error: BaseException) -> NoReturn:
        """Roll back and raise what went wrong; a connection that cannot even roll back is
        closed."""
        try:
            if self._writer is not None:
                self._writer.rollback()
        except Exception:
            self._drop_writer()
        if isinstance(error, Exception):
            self._raise_named(error)
        raise error

    def _raise_named(self, error: Exception) -> NoReturn:
        """Raise it as LedgerUnavailable if it is a fault of the database, else as it is.

        After a fault all connections are made anew, but for a lock's: those are in order.
        """
        fault = error
        if not isinstance(error, LedgerUnavailable):
            fault = errors.fault_of(error, self._url, self._wait_seconds) or error
        if isinstance(fault, LedgerUnavailable) and fault.kind is not Fault.LOCKED:
            self._forget()
        if fault is error:
            raise error
        raise fault from error

    def _drop_writer(self) -> None:
        """Close the writer's connection. For who holds the write lock."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _forget(self) -> None:
        """Close the connections that nobody uses, and know nothing of the ledger."""
        self._known = None
        self._reading.dispose()
        self._writing.dispose()
