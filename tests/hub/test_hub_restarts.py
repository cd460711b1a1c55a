"""A Hub that was killed finds its servers and their leases again, and takes nobody else's."""

from __future__ import annotations

import json
import sqlite3
import subprocess

import psutil

from aliquot.discovery.marked_processes import DEPLOYMENT, deployment_mark
from tests.fixtures.sharing_hub import SharingHub, StartSharingHub
from tests.hub.test_start_and_stop import environments, until


def end_servers(shared: SharingHub) -> None:
    mark = deployment_mark(shared.database_url)
    ended = [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(DEPLOYMENT) == mark
    ]
    for process in ended:
        process.kill()
    psutil.wait_procs(ended, timeout=5)


def test_a_running_server_keeps_its_lease_over_a_kill_and_gives_it_back_after(
    start_sharing_hub: StartSharingHub,
):
    shared = start_sharing_hub()
    shared.hub.start_server("ada", options={"share": "25 blocks"})
    (before,) = shared.store.open_leases()

    shared.hub.kill()
    shared.hub.start()
    shared.hub.wait_for_server("ada")
    (after,) = shared.store.open_leases()
    shared.hub.stop_server("ada")

    assert after.id == before.id
    assert shared.held_blocks() == 0
    assert environments(shared) == []


def test_a_server_that_ended_while_no_hub_ran_holds_nothing_afterwards(
    start_sharing_hub: StartSharingHub,
):
    shared = start_sharing_hub()
    shared.hub.start_server("ada", options={"share": "25 blocks"})

    shared.hub.kill()
    end_servers(shared)
    shared.hub.start()

    until(lambda: shared.held_blocks() == 0)
    assert not shared.hub.server("ada")


def test_a_process_that_has_a_lost_server_s_id_is_not_taken_for_it_and_not_ended(
    start_sharing_hub: StartSharingHub,
):
    shared = start_sharing_hub()
    shared.hub.start_server("ada", options={"share": "25 blocks"})
    shared.hub.kill()
    end_servers(shared)
    bystander = subprocess.Popen(["sleep", "300"])
    try:
        with sqlite3.connect(shared.hub.directory / "jupyterhub.sqlite") as hub:
            ((number, text),) = hub.execute("SELECT id, state FROM spawners WHERE server_id > 0")
            state = json.dumps({**json.loads(text), "pid": bystander.pid})
            hub.execute("UPDATE spawners SET state = ? WHERE id = ?", (state, number))

        shared.hub.start()

        until(lambda: shared.held_blocks() == 0)
        assert not shared.hub.server("ada")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_lease_in_a_state_that_cannot_be_read_is_given_back_all_the_same(
    start_sharing_hub: StartSharingHub,
):
    shared = start_sharing_hub()
    shared.hub.start_server("ada", options={"share": "25 blocks"})
    shared.hub.kill()
    with sqlite3.connect(shared.hub.directory / "jupyterhub.sqlite") as hub:
        ((number, text),) = hub.execute("SELECT id, state FROM spawners WHERE server_id > 0")
        state = json.loads(text)
        state["aliquot"]["lease"] = {"version": 99}
        hub.execute("UPDATE spawners SET state = ? WHERE id = ?", (json.dumps(state), number))
    shared.hub.start()

    shared.hub.stop_server("ada")

    until(lambda: shared.held_blocks() == 0)
    assert environments(shared) == []
