"""Prepared: statements of the tables, compiled once and given to the driver as they are.

A durable transaction takes about 0.2 ms on a good disk; SQLAlchemy's own execution of its
four statements takes as long again. These keep its tables and types and leave out the rest.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from sqlalchemy import JSON, bindparam
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import Delete, Insert, Select, Update

from aliquot.storage.tables import IS_OPEN, UtcDateTime, events, leases, ledger_state

_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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
            cursor.execute(self._text, [values[name] for name in self._positions])
        return cursor.rowcount


class LedgerStatements:
    """What the way of a lease needs."""

    def __init__(self, dialect: Dialect) -> None:
        version = ledger_state.select().with_only_columns(ledger_state.c.version)
        # SQLite leaves FOR UPDATE out: there the whole transaction holds the lock.
        self.lock_version = Prepared(version.with_for_update(), dialect)
        self.insert_lease = Prepared(leases.insert(), dialect, [column.name for column in leases.c])
        self.insert_event = Prepared(
            events.insert().inline(),
            dialect,
            [column.name for column in events.c if column.name != "id"],
        )
        by_id = leases.update().where(leases.c.id == bindparam("lease_id"), IS_OPEN)
        self.activate = Prepared(by_id, dialect, ["state", "active_at"])
        self.release = Prepared(by_id, dialect, ["state", "released_at", "released_why"])
