"""The way of a request through a real Hub: start, refusal, stop, and every other end."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from bs4 import BeautifulSoup

from aliquot.discovery.marked_processes import ATTEMPT, DEPLOYMENT, deployment_mark
from tests.fixtures.sharing_hub import SharingHub, StartSharingHub


@pytest.fixture(autouse=True)
def _nothing_is_left_running(request):
    yield
    if "sharing_hub" in request.fixturenames:
        shared: SharingHub = request.getfixturevalue("sharing_hub")
        for user in ("ada", "lin", "grace", "eve"):
            for name in list((shared.hub.api("GET", f"users/{user}").json()).get("servers", {})):
                shared.hub.stop_server(user, name)
        assert shared.store.open_leases() == []


def environments(shared: SharingHub) -> list[dict[str, str]]:
    """The environment of each server that this deployment started."""
    mark = deployment_mark(shared.database_url)
    found = []
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get(DEPLOYMENT) == mark and ATTEMPT in environ:
            found.append(environ)
    return found


def until(condition, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def error_of(html: str) -> str:
    message = BeautifulSoup(html, "html.parser").select_one(".spawn-error-msg")
    return " ".join(message.get_text().split()) if message else ""


def test_a_started_server_holds_its_piece_and_is_told_what_it_holds(sharing_hub: SharingHub):
    ada = sharing_hub.hub.login("ada")

    ada.submit_spawn_form("ada", {"share": "25 blocks"})
    sharing_hub.hub.wait_for_server("ada")

    (lease,) = sharing_hub.store.open_leases()
    until(lambda: sharing_hub.store.open_leases()[0].state.value == "active")
    (environ,) = environments(sharing_hub)
    told = json.loads(environ["ALIQUOT_LEASE"])
    assert (lease.user_name, lease.group, lease.charge.blocks) == ("ada", "vision", 25)
    assert (told["lease_id"], told["blocks"], told["simulated"]) == (lease.id, 25, True)
    assert environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_stop_gives_the_piece_back_at_once(sharing_hub: SharingHub):
    sharing_hub.hub.start_server("ada", options={"share": "1g.10gb"})
    assert sharing_hub.held_blocks() == 15

    sharing_hub.hub.stop_server("ada")

    assert sharing_hub.held_blocks() == 0


def test_a_server_without_gpu_needs_no_lease_and_sees_no_gpu(sharing_hub: SharingHub):
    sharing_hub.hub.start_server("eve", options={})

    (environ,) = environments(sharing_hub)
    assert sharing_hub.store.open_leases() == []
    assert environ["CUDA_VISIBLE_DEVICES"] == ""
    assert environ["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "ALIQUOT_LEASE" not in environ


def test_more_than_the_group_has_left_is_refused_on_the_form_with_a_way_out(
    sharing_hub: SharingHub,
):
    sharing_hub.hub.start_server("ada", options={"share": "80 blocks"})
    lin = sharing_hub.hub.login("lin")

    answer = lin.submit_spawn_form("lin", {"share": "30 blocks", "group": "vision"})

    error = error_of(answer.text)
    assert answer.status_code == 409
    assert "30 blocks refused: group 'vision' holds 80 of its 100 blocks." in error
    assert "Start with 20 blocks" in error
    assert "Let group 'nlp' pay" in error
    assert "Ask ada, who holds 80 blocks" in error
    assert "Traceback" not in answer.text
    assert sharing_hub.held_blocks() == 80


def test_the_form_keeps_the_choices_that_were_refused(sharing_hub: SharingHub):
    lin = sharing_hub.hub.login("lin")

    answer = lin.submit_spawn_form(
        "lin", {"share": "custom", "amount": "190", "unit": "blocks", "group": "vision"}
    )

    page = BeautifulSoup(answer.text, "html.parser")
    amount = page.select_one("input[name=amount]")
    custom = page.select_one("input[name=share][value=custom]")
    assert amount is not None
    assert custom is not None
    assert amount["value"] == "190"
    assert custom.has_attr("checked")


def test_a_refusal_by_rest_is_one_sentence_of_json(sharing_hub: SharingHub):
    answer = sharing_hub.hub.start_server("ada", options={"share": "101 blocks"}, wait=False)

    assert answer.status_code == 409
    assert answer.json()["message"].startswith(
        "101 blocks refused: group 'vision' has 100 blocks in all."
    )


def test_a_refusal_speaks_the_language_of_the_browser(sharing_hub: SharingHub):
    lin = sharing_hub.hub.login("lin")
    lin.headers["Accept-Language"] = "ko-KR,ko;q=0.9,en;q=0.5"

    answer = lin.submit_spawn_form("lin", {"share": "190 blocks", "group": "vision"})

    assert "190블록 거절됨" in error_of(answer.content.decode())


def test_rejected_options_are_not_what_the_next_start_uses(sharing_hub: SharingHub):
    hub = sharing_hub.hub
    hub.start_server("ada", options={"share": "10 blocks"})
    hub.stop_server("ada")
    hub.start_server("ada", options={"share": "900 blocks"}, wait=False)

    hub.start_server("ada")

    assert sharing_hub.held_blocks() == 10


def test_options_that_were_put_without_a_start_are_judged_at_the_start(sharing_hub: SharingHub):
    hub = sharing_hub.hub
    hub.start_server("ada", "spare", options={"share": "cpu"})
    hub.stop_server("ada", "spare")
    put = hub.api(
        "PATCH", "users/ada/servers/spare", json={"user_options": {"share": "5000 blocks"}}
    )
    assert put.status_code == 200, put.text

    answer = hub.start_server("ada", "spare", wait=False)

    assert answer.status_code in (400, 409)
    assert sharing_hub.held_blocks() == 0


def test_a_link_fills_in_the_form_and_starts_nothing(sharing_hub: SharingHub):
    lin = sharing_hub.hub.login("lin")

    for query in ("opt-share=25+blocks", "share=25+blocks", "opt-share=custom&opt-amount=31"):
        answer = lin.open(f"hub/spawn/lin?{query}", headers={"Sec-Fetch-Site": "cross-site"})

        assert answer.status_code == 200
        assert "spawn_form" in answer.text
        assert not sharing_hub.hub.server("lin")
    amount = BeautifulSoup(answer.text, "html.parser").select_one("input[name=amount]")
    assert amount is not None
    assert amount["value"] == "31"


def test_named_servers_hold_pieces_of_their_own(sharing_hub: SharingHub):
    sharing_hub.hub.start_server("ada", "one", options={"share": "10 blocks"})
    sharing_hub.hub.start_server("ada", "two", options={"share": "25 blocks"})

    assert sorted(lease.server.name for lease in sharing_hub.store.open_leases()) == ["one", "two"]
    sharing_hub.hub.stop_server("ada", "one")
    assert sharing_hub.held_blocks() == 25


def test_an_admin_who_starts_for_somebody_charges_that_person(sharing_hub: SharingHub):
    admin = sharing_hub.hub.login("admin")

    answer = admin.submit_spawn_form("grace", {"share": "50 blocks"})
    sharing_hub.hub.wait_for_server("grace")

    (lease,) = sharing_hub.store.open_leases()
    assert answer.ok
    assert (lease.user_name, lease.group) == ("grace", "nlp")


def test_a_renamed_user_gives_back_what_the_old_name_took(sharing_hub: SharingHub):
    hub = sharing_hub.hub
    hub.start_server("grace", options={"share": "10 blocks"})
    try:
        renamed = hub.api("PATCH", "users/grace", json={"name": "hopper"})
        assert renamed.status_code == 200, renamed.text
        hub.stop_server("hopper")
    finally:
        hub.api("PATCH", "users/hopper", json={"name": "grace"})

    assert sharing_hub.held_blocks() == 0


def test_a_server_that_crashes_gives_its_piece_back(sharing_hub: SharingHub):
    sharing_hub.hub.start_server("ada", options={"share": "10 blocks"})
    mark = deployment_mark(sharing_hub.database_url)
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(DEPLOYMENT) == mark:
            process.kill()

    until(lambda: sharing_hub.held_blocks() == 0)


def test_two_users_at_once_are_not_promised_the_same_blocks(sharing_hub: SharingHub):
    def ask(user: str) -> int:
        options = {"share": "60 blocks", "group": "vision"}
        return sharing_hub.hub.start_server(user, options=options, wait=False).status_code

    with ThreadPoolExecutor(2) as both:
        codes = sorted(both.map(ask, ["ada", "lin"]))

    assert codes[0] in (201, 202)
    assert codes[1] == 409
    assert sharing_hub.held_blocks() == 60


def test_what_a_server_leaves_running_is_ended_before_its_piece_is_free(
    start_sharing_hub: StartSharingHub,
):
    command = "setsid sleep 300 & exec {python} {tiny}"
    shared = start_sharing_hub(
        f"""
import sys
tiny = c.Spawner.cmd[1]
c.Spawner.cmd = ["sh", "-c", {command!r}.format(python=sys.executable, tiny=tiny)]
"""
    )
    shared.hub.start_server("ada", options={"share": "10 blocks"})
    assert len(environments(shared)) >= 2

    shared.hub.stop_server("ada")

    assert environments(shared) == []
    assert shared.held_blocks() == 0


def test_a_start_that_times_out_gives_its_piece_back(start_sharing_hub: StartSharingHub):
    shared = start_sharing_hub(
        'c.Spawner.cmd = ["sleep", "60"]\nc.Spawner.http_timeout = 1\nc.Spawner.start_timeout = 2'
    )

    shared.hub.start_server("ada", options={"share": "10 blocks"}, wait=False)

    until(lambda: any(e.kind == "lease.released" for e in shared.store.events()))
    assert shared.held_blocks() == 0
    assert environments(shared) == []


def test_a_start_that_is_cancelled_gives_its_piece_back(start_sharing_hub: StartSharingHub):
    shared = start_sharing_hub('c.Spawner.cmd = ["sleep", "60"]\nc.Spawner.http_timeout = 30')
    shared.hub.start_server("ada", options={"share": "10 blocks"}, wait=False)
    until(lambda: shared.held_blocks() == 10)

    shared.hub.stop_server("ada")

    until(lambda: shared.held_blocks() == 0)


def test_what_an_admin_configures_does_not_widen_a_binding(start_sharing_hub: StartSharingHub):
    shared = start_sharing_hub(
        'c.Spawner.environment = {**c.Spawner.environment, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}'
    )

    shared.hub.start_server("eve", options={})

    assert environments(shared)[0]["CUDA_VISIBLE_DEVICES"] == ""
