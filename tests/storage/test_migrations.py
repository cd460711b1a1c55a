"""Migrations: up and down on real rows, and nothing else's tables touched."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from aliquot.storage import Fault, LedgerUnavailable, Store, schema
from aliquot.storage.tables import metadata
from tests.storage.ledger_cases import decide_on, held_blocks, hold, later, ledger_id, vision


@contextmanager
def transaction(url: str):
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def test_the_migrations_make_the_tables_that_queries_are_written_for(store, database_url):
    with transaction(database_url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": schema.VERSION_TABLE, "compare_server_default": True},
        )
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_that_the_code_expects(database_url):
    with transaction(database_url) as connection:
        scripts = ScriptDirectory.from_config(schema.alembic_config(connection))
        assert scripts.get_heads() == [schema.HEAD]


def test_a_ledger_with_rows_goes_down_to_nothing_and_up_again(store, database_url):
    store.save_groups([vision()], {"A30": 2}, "admin", "groups")
    lease_id = hold(store, 1)
    store.put_receipt(lease_id, {"verdict": "verified"}, later(1))
    store.close()

    with transaction(database_url) as connection:
        schema.downgrade(connection, "base")
        assert inspect(connection).get_table_names() == [schema.VERSION_TABLE]

    with closing(Store.open(database_url)) as anew:
        assert anew.open_leases() == []
        anew.save_groups([vision()], {}, "admin", "groups")
        hold(anew, 1)
        assert held_blocks(anew) == 30


def test_a_database_without_tables_is_only_made_where_that_is_asked(database_url):
    with pytest.raises(LedgerUnavailable) as caught:
        Store.open(database_url, migrate=False)

    assert caught.value.kind in (Fault.OLDER_SCHEMA, Fault.GONE)


def test_a_ledger_that_is_up_to_date_opens_without_migrating(store, database_url):
    before = ledger_id(database_url)

    with closing(Store.open(database_url, migrate=False)) as opened:
        assert opened.open_leases() == []
    assert ledger_id(database_url) == before


def test_alembic_is_not_loaded_for_a_ledger_that_is_up_to_date(store, database_url):
    """It takes 0.2 s and 10 MB, which no notebook's start should pay."""
    program = (
        "import sys; from aliquot.storage import Store; Store.open(sys.argv[1]).close(); "
        "sys.exit('alembic' in sys.modules)"
    )
    spawner = Path(__file__).parents[2] / "spawner"
    done = subprocess.run(
        [sys.executable, "-c", program, database_url],
        env={"PYTHONPATH": str(spawner), "PATH": ""},
        check=False,
    )
    assert done.returncode == 0


def test_the_hubs_own_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "jupyterhub.sqlite"
    with closing(sqlite3.connect(path)) as hub:
        hub.execute("CREATE TABLE spawners (id INTEGER PRIMARY KEY)")
        hub.execute("CREATE TABLE oauth_clients (id INTEGER PRIMARY KEY)")
        hub.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    before = path.read_bytes()

    with pytest.raises(LedgerUnavailable, match="the Hub's own database") as caught:
        Store.open(f"sqlite:///{path}")

    assert caught.value.kind is Fault.NOT_OURS
    assert path.read_bytes() == before


def test_a_database_whose_table_is_in_the_way_is_refused(database_url):
    if database_url.startswith("sqlite"):
        sqlite3.connect(database_url.removeprefix("sqlite:///")).close()
    with transaction(database_url) as connection:
        connection.execute(text("CREATE TABLE events (id INTEGER)"))

    with pytest.raises(LedgerUnavailable, match="has a table 'events'") as caught:
        Store.open(database_url)

    assert caught.value.kind is Fault.NOT_OURS


def test_a_migration_that_fails_midway_leaves_nothing(database_url):
    if database_url.startswith("sqlite"):
        sqlite3.connect(database_url.removeprefix("sqlite:///")).close()
    with pytest.raises(PowerFails):
        upgrade_and_fail(database_url)

    with transaction(database_url) as connection:
        assert inspect(connection).get_table_names() == []
    with closing(Store.open(database_url)) as store:
        store.save_groups([vision()], {}, "admin", "groups")
        assert decide_on("30 blocks")(store.ledger())


class PowerFails(Exception):
    pass


def upgrade_and_fail(url: str) -> None:
    with transaction(url) as connection:
        if connection.dialect.name == "sqlite":
            connection.connection.cursor().execute("BEGIN IMMEDIATE")
        schema.upgrade(connection)
        raise PowerFails
