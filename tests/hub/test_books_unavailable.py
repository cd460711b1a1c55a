"""When the books cannot be read or written: a sentence, nothing lost, CPU starts go on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aliquot.storage.schema import VERSION_TABLE
from tests.fixtures.sharing_hub import SharingHub, StartSharingHub
from tests.hub.test_start_and_stop import error_of, until

PAUSED = "GPU launches are paused: the books of who holds which GPU cannot be read right now"


def file_of(shared: SharingHub) -> Path:
    return Path(shared.database_url.removeprefix("sqlite:///"))


def refused(shared: SharingHub, user: str = "lin") -> str:
    answer = shared.hub.start_server(user, options={"share": "10 blocks"}, wait=False)
    assert answer.status_code == 409, answer.text
    return answer.json()["message"]


def test_a_locked_database_refuses_gpus_in_a_sentence_and_nothing_else(
    start_sharing_hub: StartSharingHub,
):
    shared = start_sharing_hub("c.Aliquot.database_wait_seconds = 0.2")
    shared.hub.start_server("ada", options={"share": "10 blocks"})
    lock = sqlite3.connect(file_of(shared), isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    message = refused(shared)
    shared.hub.start_server("eve", options={"share": "cpu"})
    form = shared.hub.login("lin").submit_spawn_form("lin", {"share": "10 blocks"})
    shared.hub.stop_server("ada")
    lock.execute("ROLLBACK")

    assert message.startswith(PAUSED)
    assert PAUSED in error_of(form.text)
    # The stop could not be written; the service finds the lease without a server.
    until(lambda: shared.held_blocks() == 0, seconds=90)
    shared.hub.start_server("lin", options={"share": "10 blocks"})
    assert shared.held_blocks() == 10


@pytest.mark.parametrize("damage", ["a newer schema", "not a database"])
def test_a_hub_starts_with_books_that_it_cannot_use(start_sharing_hub, damage):
    shared = start_sharing_hub()
    shared.hub.stop()
    path = file_of(shared)
    if damage == "a newer schema":
        with sqlite3.connect(path) as books:
            books.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'from the future'")
    else:
        shared.store.close()
        for file in path.parent.glob(path.name + "*"):
            file.unlink()
        path.write_bytes(b"no database at all, but some text of a page\n" * 200)

    shared.hub.start()

    assert refused(shared).startswith(PAUSED)
    shared.hub.start_server("eve", options={"share": "cpu"})
    page = shared.hub.login("lin").open("hub/spawn/lin")
    assert page.status_code == 200
    assert "Traceback" not in page.text
