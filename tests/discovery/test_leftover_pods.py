"""Left-over pods: only our own of that lease is deleted, with the rights of a service account."""

from __future__ import annotations

import json
import threading

import pytest

from aliquot.discovery.leftover_pods import LeftoverPods
from aliquot.discovery.leftovers import LeftoverProcesses, leftovers_for
from aliquot.discovery.marked_processes import deployment_mark
from aliquot.domain.pod_marks import LEASE, LEDGER
from tests.cluster.api_client import ApiClient
from tests.fixtures.control_plane import ControlPlane

URL = "postgresql+psycopg://aliquot@db/aliquot"
OURS = deployment_mark(URL)
LEASE_ID, OTHER_LEASE = "a" * 32, "b" * 32
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def make_pod(api: ApiClient, namespace: str, name: str, labels: dict[str, str], **meta) -> None:
    containers = [{"name": "notebook", "image": "none"}]
    # A node that is not there: the pod then waits for its kubelet to end it.
    spec = {"containers": containers, "terminationGracePeriodSeconds": 1}
    metadata = {"name": name, "labels": labels, **meta}
    api.post(f"/api/v1/namespaces/{namespace}/pods", {"metadata": metadata, "spec": spec})


def names(api: ApiClient, namespace: str) -> set[str]:
    return {p["metadata"]["name"] for p in api.list(f"/api/v1/namespaces/{namespace}/pods")}


def allow(api: ApiClient, namespace: str, *, verbs_here: list[str]) -> None:
    """Let the hub list pods everywhere and do ``verbs_here`` in its own namespace."""
    subjects = [{"kind": "ServiceAccount", "name": "hub", "namespace": namespace}]
    for kind, path, verbs in (
        ("ClusterRole", RBAC, ["list"]),
        ("Role", f"{RBAC}/namespaces/{namespace}", verbs_here),
    ):
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]
        name = f"hub-{namespace}"
        api.post(f"{path}/{kind.lower()}s", {"metadata": {"name": name}, "rules": rules})
        ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
        api.post(f"{path}/{kind.lower()}bindings", binding)


@pytest.fixture
def hub(control_plane: ControlPlane, namespace: str, monkeypatch):
    """The service account of a hub; gives the function that grants it rights."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig_for(f"{namespace}/hub")))
    return lambda verbs: allow(control_plane.api, namespace, verbs_here=verbs)


@pytest.mark.cluster
def test_only_the_pod_of_that_lease_and_of_this_ledger_is_deleted(control_plane, namespace, hub):
    hub(["delete"])
    api = control_plane.api
    make_pod(api, namespace, "left-over", {LEDGER: OURS, LEASE: LEASE_ID})
    make_pod(api, namespace, "of-another-lease", {LEDGER: OURS, LEASE: OTHER_LEASE})
    make_pod(api, namespace, "of-another-hub", {LEDGER: deployment_mark("x"), LEASE: LEASE_ID})
    make_pod(api, namespace, "without-a-ledger", {LEASE: LEASE_ID})
    make_pod(api, namespace, "of-others", {})
    pods = leftovers_for("kubernetes", URL)

    ended = pods.end(LEASE_ID), pods.end(LEASE_ID)

    assert ended == (1, 0)
    assert names(api, namespace) == {
        "of-another-lease", "of-another-hub", "without-a-ledger", "of-others",
    }  # fmt: skip


@pytest.mark.cluster
def test_a_pod_that_is_ending_already_is_left_to_end(control_plane, namespace, hub):
    hub(["delete"])
    api = control_plane.api
    labels = {LEDGER: OURS, LEASE: LEASE_ID}
    make_pod(api, namespace, "stuck", labels, finalizers=["aliquot.io/test"])
    pods = LeftoverPods(OURS)

    ended = pods.end(LEASE_ID), pods.end(LEASE_ID)

    path = f"/api/v1/namespaces/{namespace}/pods/stuck"
    assert ended == (1, 0)
    assert api.get(path)["metadata"]["deletionTimestamp"]
    asked = control_plane.requests_of(f"{namespace}/hub")
    assert [request.verb for request in asked] == ["list", "delete", "list"]
    api.patch(path, {"metadata": {"finalizers": None}})


@pytest.mark.cluster
def test_without_the_right_to_delete_the_pod_stays_and_the_log_says_so(
    control_plane, namespace, hub, caplog
):
    hub(["get"])
    make_pod(control_plane.api, namespace, "left-over", {LEDGER: OURS, LEASE: LEASE_ID})

    assert LeftoverPods(OURS).end(LEASE_ID) == 0

    assert names(control_plane.api, namespace) == {"left-over"}
    assert "the API server answered 403 Forbidden" in caplog.text


def test_an_api_server_that_is_away_is_a_line_in_the_log(tmp_path, monkeypatch, caplog):
    place = tmp_path / "kubeconfig"
    cluster = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}
    place.write_text(json.dumps({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "a-token-of-this-test"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }))  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(place))

    assert LeftoverPods(OURS).end(LEASE_ID) == 0

    assert f"the pod of lease {LEASE_ID} cannot be deleted now" in caplog.text
    assert "a-token-of-this-test" not in caplog.text


def test_outside_of_a_cluster_there_is_no_pod_to_delete(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    ended: list[int] = []

    thread = threading.Thread(target=lambda: ended.append(LeftoverPods(OURS).end(LEASE_ID)))
    thread.start()
    thread.join(30)

    assert ended == [0]
    assert "the hub runs in no cluster" in caplog.text


def test_on_one_machine_the_leftovers_are_processes():
    assert isinstance(leftovers_for("auto", URL), LeftoverProcesses)
    # A process is found by its spawner; a lease alone names none.
    assert leftovers_for("auto", URL).end(LEASE_ID) == 0
