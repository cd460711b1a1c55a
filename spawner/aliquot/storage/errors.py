"""Errors: what a database can do to us, in words for the admin.

Every driver's error is translated here and nowhere else. Sentences name the database without
its password, and the setting to change where there is one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

try:
    import psycopg
except ImportError:  # the extra "postgresql" is not installed: SQLite only
    psycopg = None

URL_SETTING = "Aliquot.database_url"
WAIT_SETTING = "Aliquot.database_wait_seconds"


class Fault(StrEnum):
    """What is wrong with the database."""

    LOCKED = "locked"
    FULL = "full"
    READ_ONLY = "read_only"
    NEWER_SCHEMA = "newer_schema"
    OLDER_SCHEMA = "older_schema"
    NOT_OURS = "not_ours"
    GONE = "gone"
    UNREACHABLE = "unreachable"


class LedgerUnavailable(Exception):
    """The ledger cannot be read or written now. Nothing was written.

    ``str`` of it is one sentence to show an admin. GPU launches pause; who catches it
    refuses with it, and the next call finds out by itself whether the fault is over.
    """

    def __init__(self, kind: Fault, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}. {remedy}")
        self.kind = kind
        self.what = what
        self.why = why
        self.remedy = remedy

    def __reduce__(self) -> tuple[type, tuple[Fault, str, str, str]]:
        return type(self), (self.kind, self.what, self.why, self.remedy)


def shown(url: URL) -> str:
    """The database for people: a path, or a URL without its password and options."""
    if url.get_backend_name() == "sqlite":
        return url.database or "a database in memory"
    known = URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
    return known.render_as_string()


def parse_url(text: str) -> URL:
    """Read a database URL; PostgreSQL gets its driver, a SQLite file its whole path.

    Raises LedgerUnavailable for anything else; the text is not repeated, since what is not
    a URL may still hold a password.
    """
    what = f"the ledger at '{URL_SETTING}' cannot be opened"
    form = f"Set {URL_SETTING} to sqlite:///<path> or postgresql+psycopg://<user>@<host>/<name>."
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise LedgerUnavailable(Fault.UNREACHABLE, what, "it is not a URL", form) from error
    backend = "postgresql" if url.drivername == "postgres" else url.get_backend_name()
    if backend == "sqlite":
        path = url.database
        if not path or path == ":memory:" or "mode=memory" in path:
            why = "a database in memory would forget who holds which GPU"
            raise LedgerUnavailable(Fault.UNREACHABLE, what, why, form)
        if path.startswith("file:"):
            raise LedgerUnavailable(Fault.UNREACHABLE, what, "it names no plain file", form)
        return url.set(drivername="sqlite", database=os.path.abspath(path))
    if backend == "postgresql":
        if psycopg is None:
            raise LedgerUnavailable(
                Fault.UNREACHABLE,
                f"the ledger at {shown(url)} cannot be opened",
                "the driver psycopg is not installed",
                "Install it on the hub's machine: pip install 'aliquot[postgresql]'.",
            )
        return url.set(drivername="postgresql+psycopg")
    why = f"'{backend[:40]}' is not a database that the ledger knows"
    raise LedgerUnavailable(Fault.UNREACHABLE, what, why, form)


@contextmanager
def translated(url: URL, wait_seconds: float) -> Iterator[None]:
    """Let no driver's error out: raise LedgerUnavailable in its place.

    An error that tells of a mistake in our own statement is none of the database's faults
    and passes as it is.
    """
    try:
        yield
    except Exception as error:
        fault = fault_of(error, url, wait_seconds)
        if fault is None:
            raise
        raise fault from error


def fault_of(error: BaseException, url: URL, wait_seconds: float) -> LedgerUnavailable | None:
    """The fault that a driver's error tells of; None when it is none."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, PoolTimeout):
        return locked(url, wait_seconds)
    if isinstance(error, sqlite3.Error):
        return _sqlite_fault(error, url, wait_seconds)
    if psycopg is not None and isinstance(error, psycopg.Error):
        return _postgresql_fault(error, url, wait_seconds)
    return None


def locked(url: URL, wait_seconds: float) -> LedgerUnavailable:
    return LedgerUnavailable(
        Fault.LOCKED,
        f"the ledger at {shown(url)} is locked",
        f"another writer held it for more than {wait_seconds:g} s",
        f"Try again; if it stays so, end the program that holds it or raise {WAIT_SETTING}.",
    )


def full(url: URL, where: str = "the disk") -> LedgerUnavailable:
    return LedgerUnavailable(
        Fault.FULL,
        f"the ledger at {shown(url)} cannot be written",
        f"{where} is full",
        f"Free space there, or move the database and set {URL_SETTING}.",
    )


def read_only(url: URL) -> LedgerUnavailable:
    if url.get_backend_name() == "sqlite":
        why = "its file or folder is read-only for the hub's user"
        remedy = f"Let that user write both, or set {URL_SETTING} to another place."
    else:
        why = "the server accepts reads only"
        remedy = f"Set {URL_SETTING} to the primary server."
    what = f"the ledger at {shown(url)} cannot be written"
    return LedgerUnavailable(Fault.READ_ONLY, what, why, remedy)


def gone(url: URL, why: str = "the file is no longer there") -> LedgerUnavailable:
    return LedgerUnavailable(
        Fault.GONE,
        f"the ledger at {shown(url)} is gone",
        why,
        f"Put it back from a backup, or set {URL_SETTING} and restart the hub to begin anew.",
    )


def newer_schema(url: URL, found: str, known: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        Fault.NEWER_SCHEMA,
        f"the ledger at {shown(url)} is of a newer Aliquot",
        f"its schema is {found[:32]}, this version knows {known}",
        "Install the version of Aliquot that wrote it, or one that is newer.",
    )


def older_schema(url: URL, found: str | None, known: str) -> LedgerUnavailable:
    has = f"its schema is {found}" if found else "it has no schema yet"
    return LedgerUnavailable(
        Fault.OLDER_SCHEMA,
        f"the ledger at {shown(url)} is not upgraded",
        f"{has}, this version needs {known}",
        "Start the hub once: it upgrades the ledger.",
    )


def not_ours(url: URL, why: str) -> LedgerUnavailable:
    return LedgerUnavailable(
        Fault.NOT_OURS,
        f"the ledger at {shown(url)} cannot be opened",
        why,
        f"Set {URL_SETTING} to a database of Aliquot's own; a new one is made at start.",
    )


def unreachable(url: URL, why: str, remedy: str) -> LedgerUnavailable:
    what = f"the ledger at {shown(url)} cannot be reached"
    return LedgerUnavailable(Fault.UNREACHABLE, what, why, remedy)


def _sqlite_fault(error: sqlite3.Error, url: URL, wait_seconds: float) -> LedgerUnavailable | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    path = url.database or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return locked(url, wait_seconds)
    if name == "SQLITE_FULL":
        return full(url)
    if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return not_ours(url, "the file is not a readable SQLite database")
    if not os.path.exists(path):
        return gone(url)
    if name.startswith("SQLITE_READONLY"):
        return read_only(url)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")):
        folder = os.path.dirname(path)
        if not (os.access(path, os.R_OK | os.W_OK) and os.access(folder, os.W_OK)):
            return read_only(url)
        # A full disk also shows as a failure to grow the shared-memory file.
        if os.statvfs(folder).f_bavail == 0:
            return full(url)
        remedy = f"Check that disk, or set {URL_SETTING} to a local one."
        return unreachable(url, f"the disk failed ({name})", remedy)
    if isinstance(error, sqlite3.OperationalError) and "no such table" in str(error):
        return gone(url, "its tables are no longer there")
    return None


def _postgresql_fault(
    error: BaseException, url: URL, wait_seconds: float
) -> LedgerUnavailable | None:
    assert psycopg is not None
    state = getattr(error, "sqlstate", None) or ""
    if state in ("55P03", "57014", "40P01", "40001"):
        return locked(url, wait_seconds)
    if state == "53100":
        return full(url, "the database server's disk")
    if state in ("25006", "42501"):
        return read_only(url)
    if state in ("42P01", "3F000"):
        return gone(url, "its tables are no longer there")
    words = str(error)
    if state == "3D000" or ("database " in words and "does not exist" in words):
        return gone(url, "the server has no database of that name")
    if state.startswith("28") or "authentication failed" in words:
        remedy = f"Correct user and password in {URL_SETTING}."
        return unreachable(url, "the server refuses the log-in", remedy)
    if state == "53300":
        return unreachable(url, "the server has no connection left", "Raise its max_connections.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return unreachable(
            url,
            "the server does not answer",
            f"Start it, or correct host and port in {URL_SETTING}; the hub reconnects by itself.",
        )
    return None
