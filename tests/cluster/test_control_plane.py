"""The control plane is real: its version, its rights, and its programs that stop and start."""

from __future__ import annotations

import socket

import pytest
import requests

from tests.cluster import binaries
from tests.cluster import control_plane as starting
from tests.cluster.api_client import ApiError
from tests.cluster.control_plane import StartFailed

pytestmark = pytest.mark.cluster


def test_the_api_server_is_the_pinned_release(control_plane):
    assert control_plane.api.get("/version")["gitVersion"] == binaries.kubernetes_version()


def test_a_service_account_without_a_role_is_refused(control_plane, namespace):
    hub = control_plane.client_for(f"{namespace}/hub")

    with pytest.raises(ApiError) as refused:
        hub.list(f"/api/v1/namespaces/{namespace}/pods")

    assert refused.value.code == 403
    assert f"system:serviceaccount:{namespace}:hub" in refused.value.message


def test_a_role_lets_a_service_account_do_what_it_says_and_no_more(control_plane, namespace):
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    subject = {"kind": "ServiceAccount", "name": "hub", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    path = f"/apis/{group}/v1/namespaces/{namespace}"
    hub = control_plane.client_for(f"{namespace}/hub")
    control_plane.api.post(f"{path}/roles", {"metadata": {"name": "hub"}, "rules": rules})
    control_plane.api.post(f"{path}/rolebindings", {
        "metadata": {"name": "hub"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "hub"},
        "subjects": [subject],
    })

    assert hub.list(f"/api/v1/namespaces/{namespace}/pods") == []
    with pytest.raises(ApiError, match="403 Forbidden"):
        hub.delete(f"/api/v1/namespaces/{namespace}/pods/someone")


def test_a_token_that_nobody_gave_out_is_not_let_in(control_plane):
    answer = requests.get(
        f"{control_plane.url}/api/v1/nodes", verify=str(control_plane.ca_file), timeout=10,
        headers={"Authorization": "Bearer made-up"},
    )

    assert answer.status_code == 401


def test_what_a_service_account_asked_for_can_be_counted(control_plane, namespace):
    hub = control_plane.client_for(f"{namespace}/hub")
    for _ in range(3):
        with pytest.raises(ApiError):
            hub.get(f"/api/v1/namespaces/{namespace}/pods/ada")

    asked = control_plane.requests_of(f"{namespace}/hub")

    assert [(r.verb, r.resource, r.name, r.code) for r in asked] == [
        ("get", "pods", "ada", 403)
    ] * 3


def test_a_program_that_does_not_start_is_named_with_the_end_of_its_log(control_plane):
    control_plane.stop("kube-scheduler")
    place = ("127.0.0.1", control_plane.ports["kube-scheduler"])
    with socket.create_server(place), pytest.raises(StartFailed) as failed:
        control_plane.start_program("kube-scheduler")

    assert str(failed.value).startswith("kube-scheduler ended with status 1:")
    assert "address already in use" in str(failed.value)
    control_plane.start_program("kube-scheduler")


def test_a_port_that_was_taken_meanwhile_costs_a_second_try(tmp_path, monkeypatch, control_plane):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    offered = iter([port])
    free_port = starting.free_port
    monkeypatch.setattr(starting, "free_port", lambda: next(offered, None) or free_port())

    with taken:
        cluster = starting.start(tmp_path)
    try:
        assert cluster.api.get("/readyz") == {"text": "ok"}
        assert cluster.ports["etcd"] != port
    finally:
        cluster.close()


def test_an_api_server_that_comes_back_still_knows_everything(new_control_plane):
    cluster = new_control_plane()
    name = cluster.namespace()
    hub = cluster.client_for(f"{name}/hub")

    cluster.stop("kube-apiserver", kill=True)
    with pytest.raises(requests.ConnectionError):
        cluster.api.get("/version")
    cluster.start_program("kube-apiserver")

    assert cluster.api.get(f"/api/v1/namespaces/{name}")["status"]["phase"] == "Active"
    with pytest.raises(ApiError, match="403"):  # known by its old token, and still refused
        hub.list("/api/v1/nodes")
