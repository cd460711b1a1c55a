"""Tables: the ledger's columns, for queries.

The migrations make them; a test holds the two together.

A lease's pieces are a JSON column, not a table: a reservation is then one row, and loading a
thousand leases one query. What quotas count (``charge_*``) has columns of its own, so that
reports need no JSON; ``json_each`` (SQLite) and ``jsonb_array_elements`` (PostgreSQL) open
the pieces for those about GPUs.

Leases name their group and user without a foreign key: they outlive both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. PostgreSQL: ``timestamptz``; SQLite: text as ``2026-11-23T05:00:00.000000Z``,
    which sorts by time and which SQLite's date functions read."""

    impl = String(27)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(27))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment in the ledger carries a zone")
        if dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        return None if value is None else value.astimezone(UTC)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite makes row numbers of INTEGER PRIMARY KEY alone.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def _limit(name: str) -> list[Column[Any] | CheckConstraint]:
    """A cost that may be absent: both components or none, never negative."""
    return [
        Column(f"{name}_compute", BigInteger),
        Column(f"{name}_memory", BigInteger),
        CheckConstraint(
            f"({name}_compute IS NULL) = ({name}_memory IS NULL)"
            f" AND {name}_compute >= 0 AND {name}_memory >= 0",
            name=f"{name}_is_a_cost",
        ),
    ]


ledger_state = Table(
    "ledger_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("deployment_id", String(32), nullable=False),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

resource_groups = Table(
    "resource_groups",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("parent", String(255)),
    Column("nominal_compute", BigInteger, nullable=False),
    Column("nominal_memory", BigInteger, nullable=False),
    CheckConstraint("nominal_compute >= 0 AND nominal_memory >= 0", name="nominal_is_a_cost"),
    *_limit("ceiling"),
    *_limit("per_person"),
    *_limit("per_notebook"),
    *_limit("approval_above"),
    Column("kinds", Json, nullable=False),
)

model_weights = Table(
    "model_weights",
    metadata,
    Column("gpu_model", String(255), primary_key=True),
    Column("weight", Integer, nullable=False),
    CheckConstraint("weight >= 1", name="weight_is_positive"),
)

presets = Table(
    "presets",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("share", String(64), nullable=False),
)

# Literal, as in the partial index: with bound values the planner could not use it, and would
# read all leases that ever were.
IS_OPEN = text("state IN ('reserved', 'active')")

leases = Table(
    "leases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", BigInteger, nullable=False),
    Column("user_name", String(255), nullable=False),
    Column("spawner_id", BigInteger, nullable=False),
    Column("server_name", String(255), nullable=False),
    Column("group_name", String(255), nullable=False),
    Column("charge_compute", BigInteger, nullable=False),
    Column("charge_memory", BigInteger, nullable=False),
    Column("pieces", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reserved_at", UtcDateTime, nullable=False),
    Column("active_at", UtcDateTime),
    Column("until", UtcDateTime),
    Column("released_at", UtcDateTime),
    Column("released_why", Text),
    Column("options", Json),
    CheckConstraint("charge_compute >= 0 AND charge_memory >= 0", name="charge_is_a_cost"),
    CheckConstraint("state IN ('reserved', 'active', 'released')", name="state_is_known"),
    CheckConstraint(
        "(state = 'released') = (released_at IS NOT NULL)", name="released_has_its_moment"
    ),
    Index(
        "one_open_lease_per_server",
        "spawner_id",
        unique=True,
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    ),
    Index("leases_by_server", "spawner_id", "reserved_at"),
    Index("leases_by_user", "user_id", "reserved_at"),
)

# Literal for the same reason.
DIFFERS = text("kind = 'lease.granted' AND why = 'costs_differ'")
# What a look at a grant found, where that is not what the look before it did.
JUDGED = text("kind = 'lease.grant_judged'")

events = Table(
    "events",
    metadata,
    Column("id", RowNumber, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("object", String(255), nullable=False),
    Column("before", Json),
    Column("after", Json),
    Column("why", Text, nullable=False),
    Index("events_of_differing_grants", "object", sqlite_where=DIFFERS, postgresql_where=DIFFERS),
    Index("events_of_judged_grants", "object", sqlite_where=JUDGED, postgresql_where=JUDGED),
    # Numbers of lost events are never given again, so that ``after`` can be a bookmark.
    sqlite_autoincrement=True,
)

receipts = Table(
    "receipts",
    metadata,
    Column("lease_id", String(64), ForeignKey("leases.id"), primary_key=True),
    Column("receipt", Json, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)

# A change of these changes what is decided; triggers count it in ``ledger_state.version``.
COUNTED = (resource_groups, model_weights, presets, leases)
