"""The ledger: groups, weights, presets, leases, events, receipts, accepted options.

Revision 0001, the first. What is written here never changes; the next schema is 0002.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
MOMENT = sa.String(27).with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

COUNTED = ("resource_groups", "model_weights", "presets", "leases")


def upgrade() -> None:
    state = op.create_table(
        "ledger_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("deployment_id", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(state, [{"id": 1, "deployment_id": uuid4().hex, "version": 0}])
    op.create_table(
        "resource_groups",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("parent", sa.String(255)),
        sa.Column("nominal_compute", sa.BigInteger, nullable=False),
        sa.Column("nominal_memory", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "nominal_compute >= 0 AND nominal_memory >= 0", name="nominal_is_a_cost"
        ),
        *limit("ceiling"),
        *limit("per_person"),
        *limit("per_notebook"),
        *limit("approval_above"),
        sa.Column("kinds", JSON, nullable=False),
    )
    op.create_table(
        "model_weights",
        sa.Column("gpu_model", sa.String(255), primary_key=True),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.CheckConstraint("weight >= 1", name="weight_is_positive"),
    )
    presets = op.create_table(
        "presets",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("share", sa.String(64), nullable=False),
    )
    op.bulk_insert(
        presets,
        [
            {"position": position, "share": f"{blocks} blocks"}
            for position, blocks in enumerate((10, 25, 50, 100))
        ],
    )
    op.create_table(
        "leases",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("user_name", sa.String(255), nullable=False),
        sa.Column("spawner_id", sa.BigInteger, nullable=False),
        sa.Column("server_name", sa.String(255), nullable=False),
        sa.Column("group_name", sa.String(255), nullable=False),
        sa.Column("charge_compute", sa.BigInteger, nullable=False),
        sa.Column("charge_memory", sa.BigInteger, nullable=False),
        sa.Column("pieces", JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reserved_at", MOMENT, nullable=False),
        sa.Column("active_at", MOMENT),
        sa.Column("until", MOMENT),
        sa.Column("released_at", MOMENT),
        sa.Column("released_why", sa.Text),
        sa.Column("options", JSON),
        sa.CheckConstraint("charge_compute >= 0 AND charge_memory >= 0", name="charge_is_a_cost"),
        sa.CheckConstraint("state IN ('reserved', 'active', 'released')", name="state_is_known"),
        sa.CheckConstraint(
            "(state = 'released') = (released_at IS NOT NULL)", name="released_has_its_moment"
        ),
    )
    is_open = sa.text("state IN ('reserved', 'active')")
    op.create_index(
        "one_open_lease_per_server",
        "leases",
        ["spawner_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index("leases_by_server", "leases", ["spawner_id", "reserved_at"])
    op.create_index("leases_by_user", "leases", ["user_id", "reserved_at"])
    op.create_table(
        "events",
        sa.Column("id", ROW_NUMBER, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("object", sa.String(255), nullable=False),
        sa.Column("before", JSON),
        sa.Column("after", JSON),
        sa.Column("why", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "receipts",
        sa.Column("lease_id", sa.String(64), sa.ForeignKey("leases.id"), primary_key=True),
        sa.Column("receipt", JSON, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        add_postgresql_triggers()
    else:
        add_sqlite_triggers()


def downgrade() -> None:
    for table in (
        "receipts",
        "events",
        "leases",
        "presets",
        "model_weights",
        "resource_groups",
        "ledger_state",
    ):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION aliquot_count_change()")
        op.execute("DROP FUNCTION aliquot_refuse_change()")


def limit(name: str) -> tuple[sa.Column, sa.Column, sa.CheckConstraint]:
    compute, memory = f"{name}_compute", f"{name}_memory"
    return (
        sa.Column(compute, sa.BigInteger),
        sa.Column(memory, sa.BigInteger),
        sa.CheckConstraint(
            f"({compute} IS NULL) = ({memory} IS NULL) AND {compute} >= 0 AND {memory} >= 0",
            name=f"{name}_is_a_cost",
        ),
    )


def add_sqlite_triggers() -> None:
    for table in COUNTED:
        for change in ("INSERT", "UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_{change.lower()}_counts AFTER {change} ON {table} "
                "BEGIN UPDATE ledger_state SET version = version + 1; END"
            )
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER events_{change.lower()}_refused BEFORE {change} ON events "
            "BEGIN SELECT RAISE(ABORT, 'events are only added, never changed'); END"
        )
    # REPLACE removes rows without asking the trigger above.
    op.execute(
        "CREATE TRIGGER events_replace_refused BEFORE INSERT ON events "
        "WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'events are only added, never changed'); END"
    )


def add_postgresql_triggers() -> None:
    op.execute(
        "CREATE FUNCTION aliquot_count_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN UPDATE ledger_state SET version = version + 1; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE FUNCTION aliquot_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'events are only added, never changed'; END $$"
    )
    for table in COUNTED:
        op.execute(
            f"CREATE TRIGGER {table}_counts AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION aliquot_count_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_truncate_counts AFTER TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION aliquot_count_change()"
        )
    op.execute(
        "CREATE TRIGGER events_refused BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
        "FOR EACH STATEMENT EXECUTE FUNCTION aliquot_refuse_change()"
    )
