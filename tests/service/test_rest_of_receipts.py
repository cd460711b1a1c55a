"""Receipts over REST: sent by notebooks, judged by the service, read by their owners."""

from __future__ import annotations

import pytest

from tests.service.callers import PROMETHEUS, receipt_for


def test_a_notebook_sends_its_receipt_and_its_owner_reads_it(hub, ada, adas_notebook):
    address = f"api/receipts/{adas_notebook}"
    before = hub.service("GET", address, token=ada)
    # What a notebook server holds: its own token, as the spawner was given it.
    server_token = hub.token_of(
        "ada", scopes=["access:services!service=aliquot", "users:activity!user=ada"]
    )
    sent = hub.service("PUT", address, token=server_token, json=receipt_for(adas_notebook))
    read = hub.service("GET", address, token=ada)

    assert (before.status_code, before.json()["reason"]) == (404, "no_receipt_yet")
    assert sent.status_code == read.status_code == 200, sent.text
    assert read.json() == receipt_for(adas_notebook)
    mine = hub.service("GET", "api/leases/mine", token=ada).json()
    assert mine["items"][0]["verdict"] == "not_verifiable"


def test_the_books_make_up_their_own_mind_about_what_a_notebook_saw(hub, ada, adas_notebook):
    device = {"uuid": None, "name": "NVIDIA H100", "error": None, "free_mib": 1, "total_mib": 2}
    receipt = receipt_for(adas_notebook) | {
        "verdict": "verified",
        "reason": None,
        "seen": {
            "cuda": {"error": "LIBRARY_NOT_FOUND", "devices": [device]},
            "card_free_mib": {},
            "thread_percentage": None,
            "hami": None,
        },
    }

    put = hub.service("PUT", f"api/receipts/{adas_notebook}", token=ada, json=receipt)
    mine = hub.service("GET", "api/leases/mine", token=ada)

    assert put.status_code == 200, put.text
    lease = mine.json()["items"][0]
    assert lease["verdict"] == "not_verifiable"
    assert "libcuda.so.1" in lease["verdict_reason"]
    text = hub.service("GET", "metrics", token=PROMETHEUS).text
    assert 'jupyterhub_aliquot_receipts{verdict="not_verifiable"} 1.0' in text


def test_a_receipt_for_somebody_elses_lease_is_refused_as_if_there_were_none(
    hub, ada, adas_notebook
):
    lin = hub.token_of("lin")
    address = f"api/receipts/{adas_notebook}"
    hub.service("PUT", address, token=ada, json=receipt_for(adas_notebook))

    sent = hub.service("PUT", address, token=lin, json=receipt_for(adas_notebook))
    read = hub.service("GET", address, token=lin)
    never = hub.service("GET", f"api/receipts/{'0' * 32}", token=lin)

    assert (sent.status_code, read.status_code) == (404, 404)
    assert read.json() == never.json()


def test_whoever_may_read_all_reads_receipts_too(hub, ada, adas_notebook):
    address = f"api/receipts/{adas_notebook}"
    hub.service("PUT", address, token=ada, json=receipt_for(adas_notebook))

    assert hub.service("GET", address, token=PROMETHEUS).status_code == 200


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"[]", 400),
        (b"{not json", 400),
        (b"\xff\xfe", 400),
        (b"x" * (33 * 1024), 413),
    ],
)
def test_a_receipt_that_is_none_is_refused(hub, ada, adas_notebook, body, status):
    answer = hub.service("PUT", f"api/receipts/{adas_notebook}", token=ada, data=body)

    assert (answer.status_code, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"verdict": "fine"},
        {"checked_at": "yesterday"},
        {"checked_at": "2026-11-23T05:00:00"},
        {"checks": [{}] * 65},
        {"checks": "none"},
        {"simulated": "yes"},
        {"lease_id": "0" * 32},
        {"surprise": 1},
    ],
)
def test_a_receipt_with_a_wrong_field_is_refused(hub, ada, adas_notebook, changes):
    receipt = receipt_for(adas_notebook) | changes

    answer = hub.service("PUT", f"api/receipts/{adas_notebook}", token=ada, json=receipt)

    assert answer.status_code == 400, answer.text


def test_a_receipt_for_a_released_lease_is_not_kept(sharing, ada):
    hub = sharing.hub
    hub.start_server("ada", options={"share": "10 blocks"})
    lease_id = sharing.store.open_leases()[0].id
    hub.stop_server("ada")

    answer = hub.service("PUT", f"api/receipts/{lease_id}", token=ada, json=receipt_for(lease_id))

    assert answer.status_code == 404
    assert sharing.store.receipt(lease_id) is None


def test_a_receipt_sent_with_a_cookie_and_no_xsrf_token_is_refused(hub, adas_notebook):
    browser = hub.login("ada")
    browser.open("services/aliquot/")
    path = f"services/aliquot/api/receipts/{adas_notebook}"

    forged = browser.put(hub.url + path, json=receipt_for(adas_notebook))
    meant = browser.fetch("PUT", path, json=receipt_for(adas_notebook))

    assert (forged.status_code, forged.json()["reason"]) == (403, "xsrf_or_login")
    assert meant.status_code == 200
