"""Several processes on one ledger: nothing is promised twice, nobody waits forever, and one
that is killed leaves nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from aliquot.domain.currency import cost_of_blocks
from aliquot.domain.quota import Quota, ResourceGroup
from aliquot.storage import Store
from tests.storage.ledger_cases import ledger_id, machine, vision

ROOT = Path(__file__).parents[2]


def start_writer(url: str, first_server: int, seconds: float, *, gpus: int = 2):
    """A process that starts and stops servers for so long; see ``reserving_process``."""
    command = [
        sys.executable, "-m", "tests.storage.reserving_process",
        url, str(first_server), str(seconds), str(gpus),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'spawner'}{os.pathsep}{ROOT}"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment)


def outcome_of(process) -> dict:
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    return json.loads(out)


def assert_books_are_sound(store: Store, *, gpus: int, quota_blocks: int) -> None:
    """Replay the audit: at no moment was more held than there is, and the replay ends at
    the books."""
    held: dict[str, int] = {}
    most = 0
    for event in all_events(store):
        if event.kind == "lease.reserved":
            held[event.object] = event.after["charge"][0]
        elif event.kind == "lease.released":
            del held[event.object]
        most = max(most, sum(held.values()))
    assert most <= min(gpus * 1400, quota_blocks * 14)
    books = store.ledger().books
    assert {lease.id for lease in books.leases} == set(held)
    assert books.held_by_group("vision").compute == sum(held.values())
    for gpu in machine(gpus).gpus:
        assert books.use_of(gpu.uuid).blocks <= 100


def all_events(store: Store) -> list:
    found = []
    while page := store.events(after=found[-1].id if found else 0, limit=1000):
        found += page
    return found


def test_writers_in_several_processes_never_oversell(store, database_url):
    store.save_groups([vision(170)], {}, "admin", "less than the machine has")

    writers = [start_writer(database_url, 1000 * n, 3.0) for n in range(1, 5)]
    outcomes = [outcome_of(writer) for writer in writers]

    assert all(outcome["faults"] == [] for outcome in outcomes)
    assert all(outcome["granted"] > 0 for outcome in outcomes)
    assert sum(outcome["refused"] for outcome in outcomes) > 0
    assert_books_are_sound(store, gpus=2, quota_blocks=170)


def test_writers_and_a_manager_see_each_others_changes(store, database_url):
    store.save_groups([vision(200)], {}, "admin", "the first groups")
    writers = [start_writer(database_url, 1000 * n, 2.5) for n in range(1, 3)]

    changes = 0
    while any(writer.poll() is None for writer in writers):
        blocks = (120, 200)[changes % 2]
        extra = ResourceGroup("speech", Quota(cost_of_blocks(changes)))
        store.save_groups([vision(blocks), extra], {}, "admin", f"change {changes}")
        store.ledger()
        changes += 1
        time.sleep(0.02)

    assert all(outcome_of(writer)["faults"] == [] for writer in writers)
    assert changes > 3
    assert_books_are_sound(store, gpus=2, quota_blocks=200)
    counts = Counter(event.kind for event in all_events(store))
    assert counts["groups.saved"] == changes + 1


def test_a_writer_killed_midway_leaves_whole_transactions_and_no_lock(store, database_url):
    store.save_groups([vision(200)], {}, "admin", "the first groups")
    for round_number in range(4):
        # The same servers each time: what the one before held is replaced, not in the way.
        victim = start_writer(database_url, 1000, 60.0)
        try:
            last = all_events(store)[-1].id
            deadline = time.monotonic() + 60
            while len(store.events(after=last)) < 5:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.003 * round_number)
        finally:
            os.kill(victim.pid, signal.SIGKILL)
            victim.communicate()

        with closing(Store.open(database_url)) as restarted:
            assert_books_are_sound(restarted, gpus=2, quota_blocks=200)
            restarted.check()
    survivor = outcome_of(start_writer(database_url, 1000, 0.5))
    assert survivor["faults"] == []


@pytest.mark.parametrize("processes", [6])
def test_processes_that_start_first_together_make_one_ledger(database_url, processes):
    writers = [start_writer(database_url, 1000 * n, 0.0) for n in range(1, processes + 1)]
    outcomes = [outcome_of(writer) for writer in writers]

    assert [outcome["faults"] for outcome in outcomes] == [[]] * processes
    assert len({outcome["ledger"] for outcome in outcomes}) == 1
    with closing(Store.open(database_url)) as store:
        assert ledger_id(database_url) == outcomes[0]["ledger"]
        assert len(store.ledger().presets) == 4
