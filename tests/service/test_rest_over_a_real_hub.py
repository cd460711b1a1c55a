"""REST as its callers see it: through the proxy, known by the Hub, on the simulated machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.hub import RunningHub, hub_factory
from tests.fixtures.sharing_hub import SharingHub, sharing_hub_starter

READ = "custom:aliquot:read"
MORE = """
c.JupyterHub.services += [{"name": "prometheus", "api_token": "a-token-of-prometheus-0000000001"}]
c.JupyterHub.load_roles += [{
    "name": "prometheus", "services": ["prometheus"],
    "scopes": ["custom:aliquot:read", "access:services!service=aliquot"],
}]
"""
PROMETHEUS = "a-token-of-prometheus-0000000001"


@pytest.fixture(scope="module")
def sharing(tmp_path_factory) -> Iterator[SharingHub]:
    folder = tmp_path_factory.mktemp("rest")
    factory = hub_factory(folder)
    start_hub = next(factory)
    try:
        sharing = sharing_hub_starter(start_hub, folder)(MORE)
        sharing.hub.wait_for_service()
        yield sharing
    finally:
        factory.close()


@pytest.fixture(scope="module")
def hub(sharing) -> RunningHub:
    return sharing.hub


@pytest.fixture(scope="module")
def ada(hub) -> str:
    return hub.token_of("ada")


@pytest.fixture
def adas_notebook(sharing) -> Iterator[str]:
    """Ada's server with 30 blocks; gives the id of its lease."""
    assert sharing.hub.start_server("ada", options={"share": "30 blocks"}).status_code == 201
    yield sharing.store.open_leases()[0].id
    sharing.hub.stop_server("ada")


def receipt_for(lease_id: str) -> dict:
    return {
        "version": 1,
        "lease_id": lease_id,
        "verdict": "not_verifiable",
        "checked_at": "2026-11-23T05:00:00Z",
        "reason": "This machine is simulated.",
        "checks": [
            {
                "what": "devices visible",
                "expected": "1 GPU",
                "seen": None,
                "result": "unknown",
                "reason": "there is no driver",
                "enforced_by": "simulated",
            }
        ],
        "simulated": True,
        "seen": None,
    }


def test_health_says_without_a_login_that_the_database_and_the_hub_answer(hub):
    health = hub.service("GET", "health").json()

    assert health["status"] == "ok"
    assert health["database"] == {"ok": True, "message": None}
    assert health["gpu_state"]["simulated"] is True
    assert health["gpu_state"]["age_seconds"] < 10
    assert health["reconciliation"]["ok"] is True
    assert health["at"].endswith("Z")


def test_sizes_are_the_presets_and_the_slices_of_the_machine_and_called_simulated(hub, ada):
    sizes = hub.service("GET", "api/sizes", token=ada).json()

    shares = [size["share"] for size in sizes["sizes"]]
    assert shares[:4] == ["10 blocks", "25 blocks", "50 blocks", "100 blocks"]
    assert "1g.10gb" in shares
    assert sizes["simulated"] is True
    assert sizes["max_blocks"] == 200
    # An H100 has 81,559 MiB; a tenth of it, rounded down.
    ten = sizes["sizes"][0]["placement"]
    assert (ten["blocks"], ten["memory_mib"], ten["enforced_by"]) == (10, 8155, ["simulated"])
    assert all(piece["gpu_uuid"] is None for piece in ten["pieces"])


def test_availability_judges_the_share_that_was_asked_for(hub, ada):
    found = hub.service("GET", "api/availability?share=30+blocks", token=ada).json()

    assert found["person"] == "ada"
    assert found["answer"]["state"] == "now"
    assert found["answer"]["group"] == "vision"
    assert found["answer"]["options"] == {"share": "30 blocks"}
    assert [group["name"] for group in found["groups"]] == ["vision"]
    assert found["groups"][0]["nominal_blocks"] == 100


def test_a_no_tells_numbers_and_remedies_with_the_options_that_would_be_granted(
    hub, ada, adas_notebook
):
    found = hub.service("GET", "api/availability?share=80+blocks", token=ada).json()

    assert found["groups"][0]["held_blocks"] == found["groups"][0]["mine_blocks"] == 30
    refusal = found["answer"]["refusal"]
    assert refusal["reason"] == "over_group_quota"
    assert refusal["numbers"]["held_blocks"] == 30
    smaller = next(r for r in refusal["remedies"] if r["kind"] == "smaller")
    # A remedy is a promise: asked for, it is granted.
    again = hub.service("GET", "api/availability", token=ada, params=smaller["options"]).json()
    assert again["answer"]["state"] == "now"


def test_verdicts_are_worded_in_korean_for_those_who_ask_so(hub):
    eve = hub.token_of("eve")
    by_header = hub.service(
        "GET",
        "api/availability?share=10",
        token=eve,
        headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"},
    ).json()
    english = hub.service("GET", "api/availability?share=10&lang=en", token=eve).json()

    assert by_header["answer"]["refusal"]["reason"] == "no_group"
    assert any("가" <= letter <= "힣" for letter in by_header["answer"]["refusal"]["message"])
    assert english["answer"]["refusal"]["message"].isascii()


@pytest.mark.parametrize(
    "query, reason",
    [
        ("share=30+bananas", "unreadable_share"),
        ("share=3x1g.10gb", "mig_not_combinable"),
        ("share=" + "9" * 65, "bad_request"),
        ("isolation=none", "bad_request"),
        ("share=10&share=20", "bad_request"),
        ("gpu=1", "bad_request"),
        ("group=%00", "bad_option_value"),
        ("model=" + "x" * 256, "bad_request"),
        ("share=%ff%fe", "bad_request"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_an_error_of_the_caller(hub, ada, query, reason):
    answer = hub.service("GET", f"api/availability?{query}", token=ada)

    assert answer.status_code == 400
    error = answer.json()
    assert (error["status"], error["reason"]) == (400, reason)
    assert error["message"]
    assert "Traceback" not in answer.text


def test_somebody_elses_group_is_not_shown_and_not_used(hub, ada):
    found = hub.service("GET", "api/availability?share=10&group=nlp", token=ada).json()

    assert found["asked"]["group"] is None
    assert [group["name"] for group in found["groups"]] == ["vision"]
    assert found["answer"]["refusal"]["reason"] == "not_your_group"


def test_nobody_is_told_anything_but_health_without_a_login(hub):
    for path in ("api/sizes", "api/availability", "api/leases/mine", "api/findings", "metrics"):
        answer = hub.service("GET", path)
        assert (answer.status_code, answer.json()["reason"]) == (401, "not_logged_in"), path
        answer = hub.service("GET", path, token="no-such-token")
        assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden"), path


def test_a_token_without_access_to_the_service_is_refused(hub):
    token = hub.token_of("ada", scopes=["read:users!user=ada"])

    answer = hub.service("GET", "api/leases/mine", token=token)

    assert answer.status_code == 403
    assert answer.json()["message"] == "Your Hub account may not use this service."


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


def test_metrics_need_the_right_to_read_all(hub, ada):
    refused = hub.service("GET", "metrics", token=ada)

    assert refused.status_code == 403
    assert READ in refused.json()["message"]
    assert hub.service("GET", "metrics", token=PROMETHEUS).status_code == 200


def test_findings_are_for_who_may_read_all_and_health_only_counts_them(hub, ada, adas_notebook):
    refused = hub.service("GET", "api/findings", token=ada)
    found = hub.service("GET", "api/findings", token=PROMETHEUS)

    assert refused.status_code == 403
    assert READ in refused.json()["message"]
    assert (found.status_code, found.json()["items"]) == (200, [])
    assert found.json()["checked_at"] is not None
    assert hub.service("GET", "health").json()["uncertain"] == {}


def test_metrics_tell_the_books(hub, adas_notebook):
    text = hub.service("GET", "metrics", token=PROMETHEUS).text

    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["jupyterhub_aliquot_held_blocks", (("usergroup", "vision"),)] == 30
    # What a group holds counts in the groups above it.
    assert samples["jupyterhub_aliquot_held_blocks", (("usergroup", "lab"),)] == 30
    assert samples["jupyterhub_aliquot_nominal_blocks", (("usergroup", "vision"),)] == 100
    mine = (("usergroup", "vision"), ("username", "ada"))
    assert samples["jupyterhub_aliquot_user_held_blocks", mine] == 30
    assert samples["jupyterhub_aliquot_leases", (("state", "active"),)] == 1
    assert samples["jupyterhub_aliquot_leases", (("state", "reserved"),)] == 0
    assert samples["jupyterhub_aliquot_simulated", ()] == 1
    released = (("action", "released"),)
    assert samples["jupyterhub_aliquot_reconciliation_corrections_total", released] == 0


def test_methods_and_addresses_that_do_not_exist_are_said_to_be_so(hub, ada):
    wrong = hub.service("POST", "api/sizes", token=ada, json={})
    nothing = hub.service("GET", "api/nothing", token=ada)
    no_lease_id = hub.service("GET", "api/receipts/../sizes2", token=ada)

    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET")
    assert (nothing.status_code, nothing.json()["reason"]) == (404, "not_found")
    assert no_lease_id.status_code == 404


def test_a_script_with_a_cookie_must_send_the_xsrf_token_even_to_read(hub):
    browser = hub.login("ada")
    assert browser.open("services/aliquot/").status_code == 200
    address = hub.url + "services/aliquot/api/leases/mine"
    as_script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"}

    without = browser.get(address, headers=as_script)
    by_header = browser.fetch("GET", "services/aliquot/api/leases/mine")
    by_query = browser.get(address, params={"_xsrf": browser.xsrf_for(address)}, headers=as_script)

    assert (without.status_code, without.json()["reason"]) == (403, "xsrf_or_login")
    assert by_header.status_code == by_query.status_code == 200


def test_a_receipt_sent_with_a_cookie_and_no_xsrf_token_is_refused(hub, adas_notebook):
    browser = hub.login("ada")
    browser.open("services/aliquot/")
    path = f"services/aliquot/api/receipts/{adas_notebook}"

    forged = browser.put(hub.url + path, json=receipt_for(adas_notebook))
    meant = browser.fetch("PUT", path, json=receipt_for(adas_notebook))

    assert (forged.status_code, forged.json()["reason"]) == (403, "xsrf_or_login")
    assert meant.status_code == 200


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


def test_an_anonymous_visitor_of_the_page_is_sent_to_the_hubs_login(hub):
    answer = hub.service("GET", "", allow_redirects=False)

    assert answer.status_code == 302
    assert "/hub/api/oauth2/authorize" in answer.headers["Location"]


def test_every_answer_forbids_scripts_and_framing(hub, ada):
    paths = (
        "",
        "health",
        "api/sizes",
        "nothing",
        "oauth_callback",
        "static/service.css",
        "static/x",
    )
    for path in paths:
        answer = hub.service("GET", path, token=ada)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "Traceback" not in answer.text
    assert hub.service("GET", "static/../app.py").status_code == 404
    assert hub.service("GET", "static/%2e%2e/app.py").status_code in (403, 404)


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
