"""What a ledger's URL may name, and what is said when it names something else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text

from aliquot.storage import Fault, Store, schema
from tests.storage.fault_cases import fault_of, opened
from tests.storage.ledger_cases import held_blocks, hold


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/at/all/ledger.sqlite", "no folder"),
        ("mysql://hub:secret@host/ledger", "'mysql' is not a database"),
        ("hub:secret@host", "not a URL"),
        ("", "not a URL"),
    ],
)
def test_a_url_that_cannot_hold_a_ledger_is_told_without_its_password(url, says):
    fault = fault_of(lambda: Store.open(url))

    assert says in str(fault)
    assert "Aliquot.database_url" in fault.remedy
    assert "secret" not in str(fault)


def test_a_server_that_is_not_there_is_told_without_its_password():
    url = "postgresql://hub:secret@127.0.0.1:1/ledger"

    fault = fault_of(lambda: Store.open(url))

    assert fault.kind is Fault.UNREACHABLE
    assert "postgresql+psycopg://hub@127.0.0.1:1/ledger" in fault.what
    assert "secret" not in str(fault)


@pytest.mark.engine
def test_a_database_that_the_server_does_not_have_is_told(postgresql_server):
    fault = fault_of(lambda: Store.open(postgresql_server.url("nowhere")))

    assert fault.kind is Fault.GONE


@pytest.mark.parametrize("content", [b"not a database" * 400, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "notes.sqlite"
    path.write_bytes(content)

    fault = fault_of(lambda: Store.open(f"sqlite:///{path}"))

    assert fault.kind is Fault.NOT_OURS
    assert path.read_bytes() == content


def test_a_stand_alone_sqlite_copy_opens_as_a_ledger(sqlite_url, tmp_path):
    """A backup made by SQLite's own tools is a plain file without a log."""
    with opened(sqlite_url) as store:
        hold(store, 1)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as source:
            source.execute("VACUUM INTO ?", (str(tmp_path / "backup.sqlite"),))

    with closing(Store.open(f"sqlite:///{tmp_path / 'backup.sqlite'}")) as restored:
        assert held_blocks(restored) == 30
        hold(restored, 2)


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(database_url):
    with opened(database_url) as store:
        hold(store, 1)
    set_revision(database_url, "0999")

    fault = fault_of(lambda: Store.open(database_url))

    assert fault.kind is Fault.NEWER_SCHEMA
    assert f"its schema is 0999, this version knows {schema.HEAD}" in fault.why
    set_revision(database_url, schema.HEAD)
    with closing(Store.open(database_url)) as store:
        assert held_blocks(store) == 30


def set_revision(url: str, revision: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE aliquot_schema SET version_num = :r"), {"r": revision})
    engine.dispose()
