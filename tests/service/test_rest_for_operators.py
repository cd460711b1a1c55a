"""Health, findings and metrics: what the service tells those who run it."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.service.callers import PROMETHEUS, READ


def test_health_says_without_a_login_that_the_database_and_the_hub_answer(hub):
    health = hub.service("GET", "health").json()

    assert health["status"] == "ok"
    assert health["database"] == {"ok": True, "message": None}
    assert health["gpu_state"]["simulated"] is True
    assert health["gpu_state"]["age_seconds"] < 10
    assert health["reconciliation"]["ok"] is True
    assert health["at"].endswith("Z")


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
