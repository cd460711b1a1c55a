"""Schema: is the database ours, and of this version? If older, upgrade it.

The migrations are in this package and run without an ini file. A process that starts first
holds the write lock while it migrates; others wait for it and then find nothing to do. An
upgrade is one transaction on both databases: it happens wholly or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from aliquot.storage import errors
from aliquot.storage.connections import Writer, reading_engine, use_wal, writing_engine
from aliquot.storage.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0003"

# Not alembic's default name: the Hub's own database has a table of that one.
VERSION_TABLE = "aliquot_schema"

_FOLDER = Path(__file__).parent / "migrations"
# Any number does, as long as it is ours: "aliquot" in ASCII.
_MIGRATING = 0x616C6971756F74

# Another process may be migrating; no request waits for this.
_MIGRATION_SECONDS = 30.0


def alembic_config(connection: Connection) -> Config:
    """What alembic's commands need; they run inside the connection's transaction."""
    from alembic.config import Config  # takes 0.2 s, and only a migration needs it

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def found_revision(connection: Connection) -> str | None:
    """The revision that the database is at, None for one without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def ensure(url: URL, *, migrate: bool) -> None:
    """Bring the database to HEAD, or say why it cannot be used.

    A database that is there already is only read, so that opening one neither waits for its
    writers nor needs to write.
    """
    reading = reading_engine(url, _MIGRATION_SECONDS)
    writing = writing_engine(url, _MIGRATION_SECONDS)
    try:
        with reading.begin() as connection:
            current = _is_current(connection, url, migrate=migrate)
        use_wal(writing, _MIGRATION_SECONDS)
        if current:
            return
        writer = Writer(writing, url, _MIGRATION_SECONDS)
        try:
            writer.begin()
            _upgrade_unless_done(writer.connection, url)
            writer.commit()
        finally:
            writer.close()
    finally:
        reading.dispose()
        writing.dispose()


def _upgrade_unless_done(connection: Connection, url: URL) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
    if not _is_current(connection, url, migrate=True):
        upgrade(connection)


def upgrade(connection: Connection, to: str = "head") -> None:
    from alembic import command

    command.upgrade(alembic_config(connection), to)


def downgrade(connection: Connection, to: str) -> None:
    from alembic import command

    command.downgrade(alembic_config(connection), to)


def _is_current(connection: Connection, url: URL, *, migrate: bool) -> bool:
    found = found_revision(connection)
    if found == HEAD:
        return True
    if found is None:
        _refuse_foreign(connection, url)
    elif found not in _known_revisions(connection):
        raise errors.newer_schema(url, found, HEAD)
    if not migrate:
        raise errors.older_schema(url, found, HEAD)
    return False


def _known_revisions(connection: Connection) -> set[str]:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config(connection))
    return {script.revision for script in scripts.walk_revisions()}


def _refuse_foreign(connection: Connection, url: URL) -> None:
    """Raise when tables of something else would stand in the way, the Hub's above all."""
    present = set(inspect(connection).get_table_names())
    if {"spawners", "oauth_clients"} <= present:
        raise errors.not_ours(url, "it is the Hub's own database")
    if taken := sorted(present & metadata.tables.keys()):
        raise errors.not_ours(url, f"something else has a table '{taken[0]}' in it")
