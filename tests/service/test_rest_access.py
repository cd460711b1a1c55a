"""Who gets an answer of the service at all, and what no answer leaves open."""

from __future__ import annotations


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
