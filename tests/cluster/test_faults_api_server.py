"""Faults of the API server: it is gone, cuts its watches, or says no for a while."""

from __future__ import annotations

import time

import pytest

from tests.cluster.api_proxy import Seen
from tests.fixtures.faulty_hub import OUTAGE_SECONDS, FaultyHub

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

UNREACHABLE = (
    "Kubernetes does not answer, so nothing could be started. Try again in a minute, or ask the"
    " administrator of this Hub."
)


def is_creating(what: str):
    return lambda seen: seen.method == "POST" and seen.path.endswith(f"/{what}")


def is_deleting(seen: Seen) -> bool:
    return seen.method == "DELETE" and "/pods/" in seen.path


def is_watching(seen: Seen) -> bool:
    return seen.is_watch


def test_a_start_while_the_api_server_is_gone_is_one_sentence_and_holds_nothing(
    faulty: FaultyHub,
):
    faulty.run("lin")
    faulty.proxy.close_door()
    try:
        said = faulty.failure_of("ada")
        faulty.here.wait_until(lambda: faulty.here.held_blocks() == 15)
    finally:
        faulty.proxy.open_door()

    assert said == UNREACHABLE
    assert [lease.user_name for lease in faulty.here.store.open_leases()] == ["lin"]


def test_a_start_outlives_an_api_server_that_is_gone_while_its_pod_waits(faulty: FaultyHub):
    faulty.nodes.kubelet.starts = lambda pod: False
    faulty.begin("ada")
    faulty.here.wait_until(faulty.pods)

    faulty.proxy.close_door()
    time.sleep(OUTAGE_SECONDS)
    faulty.calm()
    faulty.here.wait_until(lambda: faulty.pods()[0]["status"]["phase"] == "Running")
    faulty.proxy.open_door()

    faulty.hub.wait_for_server("ada")
    assert len(faulty.here.store.open_leases()) == 1
    faulty.wait_until_gpus_are_given()


def test_a_server_and_its_lease_outlive_an_api_server_that_is_gone(faulty: FaultyHub):
    faulty.run("ada")
    (lease,) = faulty.here.store.open_leases()

    faulty.proxy.close_door()
    time.sleep(OUTAGE_SECONDS)
    faulty.proxy.open_door()
    faulty.wait_until_gpus_are_given()

    assert (faulty.hub.server("ada") or {})["ready"]
    assert lease.id in [one.id for one in faulty.here.store.open_leases()]
    faulty.run("lin")


def test_a_stop_while_the_api_server_is_gone_leaves_nothing_once_it_is_back(faulty: FaultyHub):
    faulty.run("ada")
    faulty.proxy.close_door()
    try:
        faulty.hub.stop_server("ada", seconds=OUTAGE_SECONDS + 20)
    finally:
        faulty.proxy.open_door()
    # KubeSpawner's watch comes back some seconds after the API server.
    faulty.here.wait_until(lambda: faulty.has_run("ada"), seconds=30 + OUTAGE_SECONDS)

    # The pod of the first start gave way to this one, and its slice with it.
    assert len(faulty.pods()) == 1
    assert faulty.here.held_blocks() == 15


def test_a_busy_api_server_gets_few_requests_from_an_idle_hub(faulty: FaultyHub):
    faulty.run("ada")
    faulty.instead(503, lambda seen: True)
    faulty.proxy.cut()
    at = time.monotonic()
    time.sleep(OUTAGE_SECONDS)
    asked = faulty.proxy.since(at)
    faulty.calm()

    # Seven watches and the look for KAI, each after 0.2, 0.4, 0.8 … s or later: that is at
    # most 6 times in 6 s, and 9 times in a minute.
    assert 6 <= len(asked) <= 8 * 9
    assert (faulty.hub.server("ada") or {})["ready"]
    faulty.run("lin")


def test_watches_that_are_cut_miss_nothing(faulty: FaultyHub):
    faulty.nodes.kubelet.starts = lambda pod: False
    faulty.begin("ada")
    faulty.here.wait_until(faulty.pods)
    faulty.instead(503, is_watching)
    faulty.proxy.cut()

    faulty.nodes.kubelet.starts = lambda pod: True
    faulty.nodes.kubelet.look_again()
    faulty.here.wait_until(lambda: faulty.pods()[0]["status"]["phase"] == "Running")
    faulty.calm()

    faulty.hub.wait_for_server("ada")


def test_a_watch_of_the_past_is_listed_anew(faulty: FaultyHub):
    faulty.run("lin")
    faulty.instead(410, is_watching, times=6)
    at = time.monotonic()
    faulty.proxy.cut()
    faulty.here.wait_until(lambda: not faulty.proxy.instead[-1].times)

    faulty.run("ada")

    lists = [seen for seen in faulty.proxy.since(at) if not seen.is_watch and seen.method == "GET"]
    # At once where it is one's first, and a little later each time.
    assert 2 <= len(lists) <= 30


@pytest.mark.parametrize("status", [409, 429, 500])
def test_two_bad_answers_to_a_pod_delay_the_start_and_no_more(faulty: FaultyHub, status: int):
    faulty.instead(status, is_creating("pods"), times=1 if status == 409 else 2)
    at = time.monotonic()

    faulty.run("ada")

    made = [seen for seen in faulty.proxy.since(at) if is_creating("pods")(seen)]
    assert len(made) == (2 if status == 409 else 3)
    assert len(faulty.pods()) == len(faulty.here.store.open_leases()) == 1


@pytest.mark.parametrize("status", [429, 500])
def test_two_bad_answers_to_a_claim_delay_the_start_and_no_more(faulty: FaultyHub, status: int):
    faulty.instead(status, is_creating("resourceclaimtemplates"), times=2)

    faulty.run("ada", "30 blocks")

    assert len(faulty.here.templates()) == 1
    assert faulty.here.held_blocks() == 30


@pytest.mark.parametrize("status", [429, 500])
def test_two_bad_answers_to_a_deletion_delay_the_stop_and_no_more(faulty: FaultyHub, status: int):
    faulty.run("ada")
    faulty.instead(status, is_deleting, times=2)
    at = time.monotonic()

    faulty.hub.stop_server("ada")

    faulty.here.wait_until(faulty.here.is_empty)
    assert len([seen for seen in faulty.proxy.since(at) if is_deleting(seen)]) == 3


@pytest.mark.parametrize("status", [429, 500])
def test_an_api_server_that_never_takes_the_pod_is_asked_a_bounded_number_of_times(
    faulty: FaultyHub, status: int
):
    faulty.instead(status, is_creating("pods"))
    at = time.monotonic()

    said = faulty.failure_of("ada")

    assert said == UNREACHABLE
    made = [seen for seen in faulty.proxy.since(at) if is_creating("pods")(seen)]
    assert 2 <= len(made) <= 12
    faulty.here.wait_until(faulty.here.is_empty)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            403,
            "Server not started: the claim on the GPU could not be made (403:"
            " Wrong, we say). Ask the administrator of this Hub.",
        ),
        (500, UNREACHABLE),
    ],
)
def test_a_claim_that_is_never_taken_ends_the_pod(faulty: FaultyHub, status: int, sentence: str):
    faulty.instead(status, is_creating("resourceclaimtemplates"))

    said = faulty.failure_of("ada", "30 blocks")

    assert said == sentence
    faulty.here.wait_until(faulty.here.is_empty)


@pytest.mark.parametrize("ahead_seconds", [300, -300])
def test_a_clock_that_is_five_minutes_wrong_changes_nothing(faulty: FaultyHub, ahead_seconds: int):
    faulty.proxy.skew_seconds = ahead_seconds
    faulty.proxy.cut()

    faulty.run("ada")
    told = faulty.said("ada")
    faulty.run("lin", "30 blocks")

    assert '"ready": true' in told
    assert faulty.here.held_blocks() == 45
    faulty.empty()


def test_watches_that_kubespawner_has_given_up_begin_again(faulty: FaultyHub):
    # The Hub's configuration ends them at grace's start, as KubeSpawner 7.1 does after 51 s
    # of failures.
    faulty.run("ada")

    faulty.run("grace")

    assert (faulty.hub.server("ada") or {})["ready"]
    assert len(faulty.here.store.open_leases()) == 2
