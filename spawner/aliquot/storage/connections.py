"""Connections: SQLite and PostgreSQL made to behave alike.

Two engines on one database. Of the *reading* one a transaction is a snapshot; a *writer*
holds the write lock from its first statement, so that check and insert cannot be parted.
Python's sqlite3 begins transactions late, hence they are begun here.

A commit returns when it is on disk (SQLite: WAL with synchronous=FULL; PostgreSQL:
synchronous_commit=on), and a lock is waited for ``wait_seconds``, never forever.

A SQLite file that was deleted or replaced while it was open would go on taking writes that
nobody can ever read; each transaction therefore looks whether its file is still the one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from aliquot.storage import errors

# SQLite's own waiting sleeps up to 100 ms between tries and so starves behind a busy writer:
# a writer is told to wait briefly, and tries again until its time is over.
_BRIEF_WAIT_SECONDS = 0.03

_READERS = 4


def reading_engine(url: URL, wait_seconds: float) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = _sqlite_engine(url, wait_seconds, pool_size=_READERS)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            _hold_to_file(connection, url, connection.connection.info["file"])
            connection.connection.cursor().execute("BEGIN")

        return engine
    # The ping notices a server that was restarted before a reader does.
    return _postgresql_engine(
        url, wait_seconds, pool_size=_READERS, pool_pre_ping=True, isolation="REPEATABLE READ"
    )


def writing_engine(url: URL, wait_seconds: float) -> Engine:
    """For a ``Writer``, which begins and ends its transactions."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, min(wait_seconds, _BRIEF_WAIT_SECONDS), pool_size=1)
    return _postgresql_engine(url, wait_seconds, pool_size=1, isolation="READ COMMITTED")


class Writer:
    """One connection that writes, and its transactions.

    The driver is told directly to begin and to commit: SQLAlchemy's own way takes as long as
    a tenth of a durable commit. ``cursor`` and ``connection`` are in one transaction.
    """

    def __init__(self, engine: Engine, url: URL, wait_seconds: float) -> None:
        self.connection = engine.connect()
        self._url = url
        self._wait_seconds = wait_seconds
        self._driver: Any = self.connection.connection.driver_connection
        # None on PostgreSQL.
        self._file: tuple[int, int] | None = self.connection.connection.info.get("file")
        self.cursor: Any = self._driver.cursor()

    def begin(self) -> None:
        """Begin; on SQLite with the write lock, or raise the driver's error after the wait.

        On PostgreSQL transactions exclude each other by the ``ledger_state`` row, which the
        first statement locks.
        """
        if self._file is None:
            return
        _hold_to_file(self.connection, self._url, self._file)
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                self.cursor.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise

    def commit(self) -> None:
        if self._file is None:
            self._driver.commit()
        else:
            # The driver's own method would compile the word each time.
            self.cursor.execute("COMMIT")
        if self.connection.in_transaction():
            self.connection.commit()

    def rollback(self) -> None:
        self._driver.rollback()
        if self.connection.in_transaction():
            self.connection.rollback()

    def close(self) -> None:
        """Close the connection for good, whatever state it is in."""
        self.connection.invalidate()
        self.connection.close()


def create_file(url: URL) -> None:
    """Make the SQLite file, for its owner alone; nothing where it exists, or on PostgreSQL.

    Connections never make it: a database that was deleted must not come back empty.
    """
    if url.get_backend_name() != "sqlite":
        return
    assert url.database is not None
    path = Path(url.database)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.full(url) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise errors.read_only(url) from error
        why = os.strerror(error.errno or 0).lower()
        if isinstance(error, FileNotFoundError):
            why = f"there is no folder {path.parent}"
        remedy = f"Set {errors.URL_SETTING} to a file in a folder that exists."
        raise errors.unreachable(url, why, remedy) from error


def use_wal(engine: Engine, wait_seconds: float) -> None:
    """Put a SQLite database into WAL mode for good; nothing on PostgreSQL.

    The switch does not wait for others that are switching too, so it is tried again.
    """
    if engine.dialect.name != "sqlite":
        return
    deadline = time.monotonic() + wait_seconds
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        while _journal_mode(cursor) != "wal":
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
    finally:
        raw.close()


def _journal_mode(cursor: Any) -> str:
    cursor.execute("PRAGMA journal_mode")
    return cursor.fetchone()[0]


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _sqlite_engine(url: URL, busy_seconds: float, *, pool_size: int) -> Engine:
    assert url.database is not None
    address = f"file:{quote(url.database)}?mode={url.query.get('mode', 'rw')}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, timeout=busy_seconds, check_same_thread=False, isolation_level=None
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    engine = create_engine(
        url.set(query={}),
        creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
    )

    @event.listens_for(engine, "connect")
    def _connected(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["file"] = _identity(url)

    return engine


def _hold_to_file(connection: Connection, url: URL, opened: tuple[int, int]) -> None:
    """Raise LedgerUnavailable when the connection's file is no longer at its path.

    The connection is closed with it; the next one opens what is there then.
    """
    try:
        found = _identity(url)
    except errors.LedgerUnavailable:
        connection.invalidate()
        raise
    if found != opened:
        connection.invalidate()
        raise errors.gone(url, "its file was replaced while it was in use")


def _identity(url: URL) -> tuple[int, int]:
    assert url.database is not None
    try:
        found = os.stat(url.database)
    except FileNotFoundError as error:
        raise errors.gone(url) from error
    except OSError as error:
        raise errors.read_only(url) from error
    return found.st_dev, found.st_ino


def _postgresql_engine(
    url: URL, wait_seconds: float, *, pool_size: int, isolation: Any, pool_pre_ping: bool = False
) -> Engine:
    # 0 would mean no limit to PostgreSQL.
    wait_milliseconds = max(1, round(wait_seconds * 1000))
    settings = {
        "lock_timeout": wait_milliseconds,
        "synchronous_commit": "on",
        "timezone": "UTC",
        # A hub that was stopped (SIGSTOP, a paused VM) must not hold the lock for good.
        "idle_in_transaction_session_timeout": 60_000,
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    given = url.query.get("options", "")
    return create_engine(
        url.difference_update_query(["options"]),
        connect_args={
            "options": f"{given} {options}".strip(),
            "connect_timeout": 5,
            "keepalives_idle": 30,
            "tcp_user_timeout": 30_000,
            "application_name": "aliquot",
        },
        isolation_level=isolation,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=pool_pre_ping,
    )
