"""Leases over REST and on the page: each reads their own."""

from __future__ import annotations

import time
from datetime import datetime

import pytest


def test_my_leases_are_mine_with_the_ids_of_their_gpus(hub, ada, adas_notebook):
    mine = hub.service("GET", "api/leases/mine", token=ada).json()
    others = hub.service("GET", "api/leases/mine", token=hub.token_of("lin")).json()

    assert mine["_pagination"] == {"offset": 0, "limit": 100, "total": 1}
    lease = mine["items"][0]
    assert (lease["lease_id"], lease["state"]) == (adas_notebook, "active")
    assert (lease["group"], lease["charged_blocks"]) == ("vision", 30)
    assert lease["placement"]["pieces"][0]["gpu_uuid"].startswith("GPU-")
    assert datetime.fromisoformat(lease["reserved_at"]).utcoffset() is not None
    assert others["items"] == []


def test_the_page_shows_my_leases_in_both_languages_and_runs_no_script(hub, adas_notebook):
    browser = hub.login("ada")

    english = browser.open("services/aliquot/?lang=en")
    korean = browser.open("services/aliquot/?lang=ko")

    assert "30 blocks of 100 blocks" in english.text
    assert "Simulated" in english.text
    assert '<html lang="ko">' in korean.text
    assert "시뮬레이션" in korean.text
    assert "<script" not in english.text
    policy = english.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


@pytest.mark.slow
def test_a_renamed_user_still_owns_the_lease_of_the_running_server(sharing):
    hub = sharing.hub
    hub.add_user("early", "vision")
    hub.start_server("early", options={"share": "10 blocks"})
    lease_id = sharing.store.open_leases()[0].id
    assert hub.api("PATCH", "users/early", json={"name": "late"}).status_code == 200
    hub.add_user("early", "vision")
    token_of_late, token_of_new = hub.token_of("late"), hub.token_of("early")

    # The next pass of reconciliation sees the new name, within a minute.
    deadline = time.monotonic() + 75
    while time.monotonic() < deadline:
        mine = hub.service("GET", "api/leases/mine", token=token_of_late).json()["items"]
        if mine:
            break
        time.sleep(1)
    others = hub.service("GET", "api/leases/mine", token=token_of_new).json()["items"]
    hub.stop_server("late")

    assert [lease["lease_id"] for lease in mine] == [lease_id]
    assert others == []
