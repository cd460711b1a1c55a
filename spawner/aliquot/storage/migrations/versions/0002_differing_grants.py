"""An index for the leases whose engine gave another amount than the ledger placed.

Partial, so that it costs the other events nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NAME = "events_of_differing_grants"


def upgrade() -> None:
    differ = sa.text("kind = 'lease.granted' AND why = 'costs_differ'")
    op.create_index(NAME, "events", ["object"], sqlite_where=differ, postgresql_where=differ)


def downgrade() -> None:
    op.drop_index(NAME, table_name="events")
