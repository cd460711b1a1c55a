"""What a database can do to us, made to happen for real: each is one sentence, loses nothing,
and is over when its cause is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from aliquot.storage import Fault, Store
from tests.fixtures.databases import PostgresqlServer, postgresql_binaries
from tests.storage.fault_cases import fault_of, opened, reserve
from tests.storage.ledger_cases import attempt, decide_on, held_blocks, hold, later

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


@contextmanager
def lock_holder(url: str):
    """Another process that holds the write lock until the block ends."""
    program = (
        "import sys, sqlalchemy as sa\n"
        "engine = sa.create_engine(sys.argv[1], isolation_level='AUTOCOMMIT')\n"
        "connection = engine.connect()\n"
        "for statement in sys.argv[2:]: connection.execute(sa.text(statement))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    statements = ["BEGIN IMMEDIATE"]
    if not url.startswith("sqlite"):
        statements = ["BEGIN", "SELECT * FROM ledger_state FOR UPDATE"]
    holder = subprocess.Popen(
        [sys.executable, "-c", program, url, *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.stdin.close()
        holder.wait(30)
        holder.stdout.close()


def test_a_ledger_that_another_process_holds_is_waited_for_and_then_refused(database_url):
    with opened(database_url, busy_wait_seconds=0.4) as store:
        hold(store, 1)
        with lock_holder(database_url):
            began = time.monotonic()
            fault = fault_of(reserve(store, 2))
            waited = time.monotonic() - began
            # Reading goes on: the picker still shows what is free.
            assert held_blocks(store) == 30

        assert fault.kind is Fault.LOCKED
        assert "Aliquot.database_wait_seconds" in fault.remedy
        assert "more than 0.4 s" in fault.why
        assert waited >= 0.4
        hold(store, 2)
        assert held_blocks(store) == 60


def test_no_wait_means_that_a_held_ledger_is_refused_at_once(database_url):
    with opened(database_url, busy_wait_seconds=0.0) as store, lock_holder(database_url):
        assert fault_of(reserve(store)).kind is Fault.LOCKED


def test_a_thread_waits_no_longer_for_a_thread_than_for_a_process(database_url):
    with opened(database_url, busy_wait_seconds=0.2) as store:
        fault = []

        def ask_within(ledger):
            # The lock is ours while we decide; another asking now must not hang.
            fault.append(fault_of(store.check))
            return decide_on("30 blocks")(ledger)

        store.reserve(attempt(1), ask_within)
        assert fault[0].kind is Fault.LOCKED
        assert held_blocks(store) == 30


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k,mode=777", "aliquot-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@needs_root
def test_a_full_disk_refuses_loses_nothing_and_recovers(tiny_disk):
    with opened(f"sqlite:///{tiny_disk / 'ledger.sqlite'}") as store:
        first = hold(store, 1)
        ballast = tiny_disk / "ballast"
        fill(ballast)

        fault = fault_of(lambda: [hold(store, n, "1 block") for n in range(2, 400)])
        assert fault.kind is Fault.FULL
        assert "Aliquot.database_url" in fault.remedy
        held = held_blocks(store)

        ballast.unlink()
        hold(store, 1000, "10 blocks")
        assert held_blocks(store) == held + 10
        assert store.lease(first) is not None
        store.close()
        assert held_blocks(store) == held + 10


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@needs_root
def test_a_full_disk_where_the_ledger_is_to_be_made_is_told(tiny_disk):
    fill(tiny_disk / "ballast")

    fault = fault_of(lambda: Store.open(f"sqlite:///{tiny_disk / 'ledger.sqlite'}"))

    assert fault.kind is Fault.FULL


@needs_root
def test_a_postgresql_server_with_a_full_disk_is_told(postgresql_server, postgresql_url, tiny_disk):
    database = postgresql_url.partition("/ledger")[2].partition("?")[0]
    account = os.stat(postgresql_server.folder)
    place = tiny_disk / "space"
    place.mkdir()
    os.chown(place, account.st_uid, account.st_gid)
    for parent in place.parents[:4]:
        if os.stat(parent).st_uid == 0 and parent.is_relative_to("/tmp/pytest-of-root"):
            parent.chmod(0o755)
    with opened(postgresql_url) as store:
        hold(store, 1)
        postgresql_server.execute(f"CREATE TABLESPACE tiny LOCATION '{place}'")
        name = f"ledger{database}"
        postgresql_server.execute("ALTER TABLE leases SET TABLESPACE tiny", name)
        fill(tiny_disk / "ballast")

        fault = fault_of(lambda: [hold(store, n, "1 block") for n in range(2, 170)])
        assert fault.kind is Fault.FULL
        assert "server's disk" in fault.why

        (tiny_disk / "ballast").unlink()
        held = held_blocks(store)
        hold(store, 1000, "1 block")
        assert held_blocks(store) == held + 1
        postgresql_server.execute("ALTER TABLE leases SET TABLESPACE pg_default", name)
    postgresql_server.execute("DROP TABLESPACE tiny")


def test_a_file_opened_for_reading_is_read_and_not_written(sqlite_url):
    with opened(sqlite_url) as store:
        hold(store, 1)

    with closing(Store.open(f"{sqlite_url}?mode=ro")) as reader:
        assert held_blocks(reader) == 30
        fault = fault_of(reserve(reader, 2))

    assert fault.kind is Fault.READ_ONLY
    assert "Aliquot.database_url" in fault.remedy


def opened_by_nobody(url: str) -> str:
    """What a user who owns nothing is told. Their process is a fork of this one, since they
    may not be able to read Python itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writing, open_and_release(url).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def open_and_release(url: str) -> str:
    try:
        store = Store.open(url)
        store.ledger()
        store.release_server(1, "stopped", later(1))
    except Exception as error:
        return f"{getattr(error, 'kind', type(error))} {error}"
    return "released"


@pytest.fixture
def public_folder():
    """A folder that every user can enter, unlike pytest's own."""
    folder = Path("/tmp") / f"aliquot-faults-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user: needs root")
@pytest.mark.parametrize("folder_mode", [0o755, 0o777])
@pytest.mark.parametrize("file_mode", [0o644, 0o600])
def test_a_file_of_another_user_is_called_read_only(public_folder, file_mode, folder_mode):
    path = public_folder / "ledger.sqlite"
    with opened(f"sqlite:///{path}") as store:
        hold(store, 1)
    path.chmod(file_mode)
    public_folder.chmod(folder_mode)

    told = opened_by_nobody(f"sqlite:///{path}")

    assert told.startswith("read_only the ledger at /tmp/")
    assert "read-only for the hub's user" in told
    with closing(Store.open(f"sqlite:///{path}")) as store:
        assert held_blocks(store) == 30


@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user: needs root")
def test_a_folder_in_which_no_file_can_be_made_is_called_read_only(public_folder):
    told = opened_by_nobody(f"sqlite:///{public_folder / 'new.sqlite'}")

    assert told.startswith("read_only ")


def test_a_file_deleted_under_us_takes_no_more_leases(sqlite_url):
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with opened(sqlite_url) as store:
        hold(store, 1)
        kept = path.with_suffix(".kept")
        store.close()
        store.ledger()
        store.check()
        path.rename(kept)

        for act in (reserve(store, 2), store.ledger, store.check):
            fault = fault_of(act)
            assert fault.kind is Fault.GONE
            assert "no longer there" in fault.why
        assert not path.exists()

        kept.rename(path)
        assert held_blocks(store) == 30
        hold(store, 2)


def test_a_file_replaced_under_us_is_noticed_and_then_used(sqlite_url, tmp_path):
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with opened(sqlite_url) as store, opened(f"sqlite:///{tmp_path / 'other.sqlite'}") as other:
        hold(store, 1, "100 blocks")
        hold(other, 1, "10 blocks")
        other.close()
        (tmp_path / "other.sqlite").replace(path)
        for rest in ("-wal", "-shm"):
            Path(f"{path}{rest}").unlink(missing_ok=True)

        fault = fault_of(reserve(store, 2))
        assert fault.kind is Fault.GONE
        assert "replaced" in fault.why

        assert held_blocks(store) == 10
        hold(store, 2, "20 blocks")
        assert held_blocks(store) == 30


def test_tables_dropped_under_us_are_told(store, database_url):
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE ledger_state"))
    engine.dispose()

    for act in (store.ledger, store.check):
        assert fault_of(act).kind is Fault.GONE


@pytest.mark.engine
def test_a_server_that_accepts_reads_only_is_told(postgresql_url, postgresql_server):
    with opened(postgresql_url) as store:
        hold(store, 1)
        database = postgresql_url.partition("@/")[2].partition("?")[0]
        postgresql_server.execute(
            f"ALTER DATABASE {database} SET default_transaction_read_only = on"
        )
        store.close()

        assert fault_of(reserve(store, 2)).kind is Fault.READ_ONLY
        assert held_blocks(store) == 30


@pytest.mark.engine
def test_postgresql_may_stop_and_start_while_the_hub_runs():
    binaries = postgresql_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server: install Debian's package 'postgresql'")
    server = PostgresqlServer.create(binaries, settings=())
    try:
        server.start()
        with opened(server.url(server.new_database())) as store:
            first = hold(store, 1)
            server.stop()

            for act in (reserve(store, 2), store.ledger, store.check):
                assert fault_of(act).kind is Fault.UNREACHABLE

            server.start()
            hold(store, 2)
            assert held_blocks(store) == 60

            # Back before anybody asked: nobody needs to notice.
            server.stop()
            server.start()
            assert store.release(first, "stopped", later(1))
            assert held_blocks(store) == 30
    finally:
        server.remove()
