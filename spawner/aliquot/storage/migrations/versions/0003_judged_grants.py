"""An index for the leases whose grant could not be booked.

Partial, so that it costs the other events nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = "events_of_judged_grants"


def upgrade() -> None:
    judged = sa.text("kind = 'lease.grant_judged'")
    op.create_index(NAME, "events", ["object"], sqlite_where=judged, postgresql_where=judged)


def downgrade() -> None:
    op.drop_index(NAME, table_name="events")
