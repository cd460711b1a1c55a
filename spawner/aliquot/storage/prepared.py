"""Prepared: statements of the tables, compiled once and given to the driver as they are.

A durable transaction takes about 0.2 ms on a good disk; SQLAlchemy's own execution of its
four statements takes as long again. These keep its tables and types and leave out the rest.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from copy import copy
from typing import Any

from sqlalchemy import JSON, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import Delete, Insert, Select, Update

from aliquot.storage.tables import IS_OPEN, UtcDateTime, events, leases, ledger_state

# What is written are trees that were just made: no circle to look for.
_as_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode


class Prepared:
    """One statement for one kind of database."""

    def __init__(
        self,
        statement: Insert | Update | Delete | Select,
        dialect: Dialect,
        columns: Collection[str] | None = None,
    ) -> None:
        compiled: Any = statement.compile(
            dialect=dialect, column_keys=None if columns is None else list(columns)
        )
        self._text: str = compiled.string
        self._positions: list[str] | None = compiled.positiontup
        self._dialect = dialect
        binds = compiled.binds.items()
        self._moments = [(name, b.type) for name, b in binds if isinstance(b.type, UtcDateTime)]
        self._documents = [name for name, b in binds if isinstance(b.type, JSON)]

    def run(self, cursor: Any, values: dict[str, Any]) -> int:
        """Execute it; ``values`` is used up. Returns the number of rows that it met.

        Raises the driver's own errors.
        """
        for name, kind in self._moments:
            if values[name] is not None:
                values[name] = kind.process_bind_param(values[name], self._dialect)
        for name in self._documents:
            if values[name] is not None:
                values[name] = _as_json(values[name])
        if self._positions is None:
            cursor.execute(self._text, values)
        else:
            cursor.execute(self._text, tuple(map(values.__getitem__, self._positions)))
        return cursor.rowcount

    def and_then(self, other: Prepared) -> Prepared:
        """Both inserts as one statement, in one round trip. PostgreSQL alone has it: SQLite
        has no insert in a WITH, and no round trip to save.

        ``values`` are then those of both; no name may be in the two.
        """
        both = copy(self)
        both._text = f"WITH first AS ({self._text}) {other._text}"
        both._moments = self._moments + other._moments
        both._documents = self._documents + other._documents
        return both


class LedgerStatements:
    """What the way of a lease needs."""

    def __init__(self, dialect: Dialect) -> None:
        version = ledger_state.select().with_only_columns(ledger_state.c.version)
        # SQLite leaves FOR UPDATE out: there the whole transaction holds the lock.
        self.lock_version = Prepared(version.with_for_update(), dialect)
        self._insert_lease = Prepared(
            leases.insert(), dialect, [column.name for column in leases.c]
        )
        self.insert_event = Prepared(
            events.insert().inline(),
            dialect,
            [column.name for column in events.c if column.name != "id"],
        )
        self._insert_both: Prepared | None = None
        if dialect.name == "postgresql":
            self._insert_both = self._insert_lease.and_then(self.insert_event)
        by_id = leases.update().where(leases.c.id == bindparam("lease_id"), IS_OPEN)
        self.activate = Prepared(by_id, dialect, ["state", "active_at"])
        self.release = Prepared(by_id, dialect, ["state", "released_at", "released_why"])

    def insert_lease(self, cursor: Any, lease: dict[str, Any], event: dict[str, Any]) -> None:
        """Insert a lease and its event."""
        if self._insert_both is not None:
            self._insert_both.run(cursor, lease | event)
        else:
            self._insert_lease.run(cursor, lease)
            self.insert_event.run(cursor, event)
