"""What a reservation costs beyond its own transaction, and whether a crowd can oversell.

*Ours* is ``Store.reserve``: the lock, the ledger, the decision on a machine of 16 GPUs, the
lease and its event, on disk when it returns. The *floor* is the same transaction (begin, read
the version, insert the two rows, commit) by the bare driver with ready values, as fast as one
connection can, on the same database and disk, in turns with ours, so that a busy machine
slows both.

The promise is about many clients, as when a class begins; they share commits. One client
alone pays for the decision in full between two commits: about 0.1 ms, which shows where the
disk takes 0.2 ms. Its rows do not keep the promise on every disk; they have a lower mark, so
that it does not get worse unseen.

The crowd is 64 clients in 4 processes that ask for more than there is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, make_url

from aliquot.domain.judging import Grant
from aliquot.storage import Reservation, Store
from bench.rows import Row
from tests.fixtures.databases import PostgresqlServer, postgresql_binaries
from tests.storage.ledger_cases import (
    ADA,
    NOON,
    attempt,
    decide_on,
    later,
    machine,
    vision,
)

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
A_ROUND = 50
BURSTS = max(1, ROUNDS // 4)
GPUS = 16
CLIENTS = 64
PROCESSES = 4
TARGET = 0.8
ALONE_MARKS = {"SQLite": 0.55, "PostgreSQL": 0.7}

_INSERT_LEASE = (
    "INSERT INTO leases (id, user_id, user_name, spawner_id, server_name, group_name, "
    "charge_compute, charge_memory, pieces, state, reserved_at, options) "
    "VALUES ({0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}, {0})"
)
_INSERT_EVENT = (
    "INSERT INTO events (at, actor, kind, object, after, why) VALUES ({0}, {0}, {0}, {0}, {0}, {0})"
)


def run() -> Sequence[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="aliquot-bench-") as folder:
        for name, url in _databases(Path(folder)):
            with closing(Store.open(url)) as store:
                store.save_groups([vision(GPUS * 100)], {}, "bench", "all of the machine")
                rows.append(_burst(f"{name}: {CLIENTS} clients, none open", store, url))
                mark = ALONE_MARKS[name]
                rows.append(_against_bare(f"{name}: one client, none open", store, url, mark))
                for spawner_id in range(1, 1001):
                    hold_one(store, spawner_id)
                rows.append(_against_bare(f"{name}: one client, 1,000 open", store, url, mark))
                rows.append(_burst(f"{name}: {CLIENTS} clients, 1,000 open", store, url))
                for spawner_id in range(1, 1001):
                    store.release_server(spawner_id, "stopped", NOON)
            rows.append(_crowd(name, url))
    return rows


def hold_one(store: Store, spawner_id: int) -> None:
    outcome = store.reserve(attempt(spawner_id), decide_on("1 block", ADA, machine(GPUS)))
    assert isinstance(outcome, Grant)


def _databases(folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder / 'ledger.sqlite'}"
    binaries = postgresql_binaries()
    if binaries is None:
        return
    server = PostgresqlServer.create(binaries, settings=())
    try:
        server.start()
        yield "PostgreSQL", server.url(server.new_database())
    finally:
        server.remove()


def _against_bare(what: str, store: Store, url: str, mark: float) -> Row:
    decide = decide_on("1 block", ADA, machine(GPUS))
    ours: list[float] = []
    floor: list[float] = []
    with _bare_reservation(store, url) as bare:
        for _ in range(ROUNDS + 1):
            requests = [attempt(spawner_id) for spawner_id in range(5001, 5001 + A_ROUND)]
            store.ledger()
            began = time.perf_counter()
            for request in requests:
                store.reserve(request, decide)
            ours.append((time.perf_counter() - began) / A_ROUND)
            for request in requests:
                store.release(request.lease_id, "stopped", NOON)

            began = time.perf_counter()
            for spawner_id in range(5001, 5001 + A_ROUND):
                bare(spawner_id)
            floor.append((time.perf_counter() - began) / A_ROUND)
            for spawner_id in range(5001, 5001 + A_ROUND):
                store.release_server(spawner_id, "stopped", NOON)
    return _row(what, ours, floor, mark)


def _row(what: str, ours: list[float], floor: list[float], target: float) -> Row:
    """The first round warms up. The middle of the rounds' ratios, since a neighbour's burst
    of writing hits one side of a round."""
    ratio = statistics.median(b / a for a, b in zip(ours[1:], floor[1:], strict=True))
    return Row(
        what,
        ratio,
        "of bare",
        "at least",
        target,
        f"{1 / statistics.median(ours):,.0f}/s",
        f"{1 / statistics.median(floor):,.0f}/s",
    )


def _burst(what: str, store: Store, url: str) -> Row:
    """All clients at once, eight servers each, against as many bare transactions in a row
    (on one connection: several would only be in each other's way)."""
    decide = decide_on("1 block", ADA, machine(GPUS))
    each = 8
    before = len(store.open_leases())
    servers = range(5001, 5001 + CLIENTS * each)
    ours: list[float] = []
    floor: list[float] = []
    with _bare_reservation(store, url) as bare:
        for _ in range(BURSTS + 1):
            requests = [attempt(spawner_id) for spawner_id in servers]
            store.ledger()
            gate = threading.Barrier(CLIENTS + 1)

            def client(mine: Sequence[Reservation], gate: threading.Barrier = gate) -> None:
                gate.wait()
                for request in mine:
                    assert isinstance(store.reserve(request, decide), Grant)

            clients = [
                threading.Thread(target=client, args=(requests[n::CLIENTS],))
                for n in range(CLIENTS)
            ]
            for thread in clients:
                thread.start()
            gate.wait()
            began = time.perf_counter()
            for thread in clients:
                thread.join()
            ours.append((time.perf_counter() - began) / len(servers))
            assert len(store.open_leases()) == before + len(servers)
            for spawner_id in servers:
                store.release_server(spawner_id, "stopped", NOON)

            began = time.perf_counter()
            for spawner_id in servers:
                bare(spawner_id)
            floor.append((time.perf_counter() - began) / len(servers))
            for spawner_id in servers:
                store.release_server(spawner_id, "stopped", NOON)
    return _row(what, ours, floor, TARGET)


@contextmanager
def _bare_reservation(store: Store, url: str) -> Iterator[Callable[[int], None]]:
    """The driver's own connection, with the settings that durability asks for."""
    hold_one(store, 5001)
    (lease,) = (lease for lease in store.open_leases() if lease.server.spawner_id == 5001)
    store.release_server(5001, "stopped", NOON)
    pieces = json.dumps([piece.to_json() for piece in lease.placement.pieces])
    after = json.dumps(store.events(after=0, limit=1000)[1].after)
    moment: Any = later(0)
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = create_engine(url)
    raw = engine.raw_connection()
    driver: Any = raw.driver_connection
    cursor = driver.cursor()
    if is_sqlite:
        driver.isolation_level = None
        cursor.execute("PRAGMA synchronous = FULL")
        moment = "2026-11-23T12:00:00.000000Z"
    mark = "?" if is_sqlite else "%s"
    insert_lease, insert_event = _INSERT_LEASE.format(mark), _INSERT_EVENT.format(mark)

    def reserve(spawner_id: int) -> None:
        lease_id = uuid4().hex
        if is_sqlite:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("SELECT version FROM ledger_state")
        else:
            cursor.execute("SELECT version FROM ledger_state FOR UPDATE")
        cursor.fetchone()
        cursor.execute(
            insert_lease,
            (
                lease_id,
                1,
                "ada",
                spawner_id,
                "",
                "vision",
                14,
                14,
                pieces,
                "reserved",
                moment,
                "{}",
            ),
        )
        cursor.execute(insert_event, (moment, "ada", "lease.reserved", lease_id, after, "started"))
        if is_sqlite:
            cursor.execute("COMMIT")
        else:
            driver.commit()

    try:
        yield reserve
    finally:
        raw.close()
        engine.dispose()


def _crowd(name: str, url: str) -> Row:
    """64 clients ask for 64 x 40 blocks of 1,600; a quarter give theirs back and ask again."""
    command = [sys.executable, "-m", "bench.reservations", url]
    began = time.perf_counter()
    crowd = [
        subprocess.Popen([*command, str(n * 1000)], stdout=subprocess.PIPE)
        for n in range(1, PROCESSES + 1)
    ]
    answers = [json.loads(process.communicate()[0]) for process in crowd]
    took = time.perf_counter() - began
    with closing(Store.open(url)) as store:
        books = store.ledger().books
        held = sum(lease.charge.compute for lease in books.leases)
        oversold = max(0, held - GPUS * 1400)
        for gpu in machine(GPUS).gpus:
            oversold += 14 * max(0, books.use_of(gpu.uuid).blocks - 100)
    asked = sum(answer["asked"] for answer in answers)
    granted = sum(answer["granted"] for answer in answers)
    faults = sum(answer["faults"] for answer in answers)
    return Row(
        f"{name}: units oversold to {CLIENTS} clients",
        oversold + faults,
        "",
        "at most",
        0,
        f"{asked} asked, {granted} granted, {faults} faults",
        f"{took:.1f} s, {held // 14} of {GPUS * 100} blocks held",
    )


def _clients_of_one_process(url: str, first_server: int) -> None:
    answer = {"asked": 0, "granted": 0, "faults": 0}
    adding = threading.Lock()
    decide = decide_on("40 blocks", ADA, machine(GPUS))
    with closing(Store.open(url)) as store:

        def client(number: int) -> None:
            for turn in range(8):
                try:
                    if turn % 4 == 3:
                        store.release_server(first_server + number, "stopped", NOON)
                    outcome = store.reserve(attempt(first_server + number), decide)
                except Exception as error:
                    print(error, file=sys.stderr)
                    outcome = error
                with adding:
                    answer["asked"] += 1
                    answer["granted"] += isinstance(outcome, Grant)
                    answer["faults"] += isinstance(outcome, Exception)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS // PROCESSES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps(answer))


if __name__ == "__main__":
    _clients_of_one_process(sys.argv[1], int(sys.argv[2]))
