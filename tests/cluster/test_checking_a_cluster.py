"""``aliquot check`` and ``aliquot report`` on a cluster, with the rights of a deployed hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aliquot.discovery.cluster_access import RIGHTS
from aliquot.settings import Settings
from aliquot.storage import Store
from tests.cluster import binaries, hub_manifests

pytestmark = pytest.mark.cluster


@pytest.fixture
def hub(control_plane, namespace):
    """Gives a deployed hub's kubeconfig; ``namespace/nobody`` has no rights."""
    hub_manifests.give_rights(control_plane.api, namespace)
    yield control_plane.kubeconfig_for(f"{namespace}/hub")
    for kind in ("clusterrolebindings", "clusterroles"):
        path = f"/apis/{hub_manifests.RBAC}/v1/{kind}/aliquot-{namespace}"
        control_plane.api.delete(path)


def aliquot(command: str, kubeconfig: Path, folder: Path) -> dict:
    """The JSON of a command, run as in the hub's pod."""
    settings = Settings(database_url=f"sqlite:///{folder}/books.sqlite", gpu_source="kubernetes")
    environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "ALIQUOT_SETTINGS": settings.to_json()}
    done = subprocess.run(
        [sys.executable, "-m", "aliquot.cli.main", command, "--json"],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def of(document: dict, area: str) -> list[tuple[str, str]]:
    return [(f["level"], f["message"]) for f in document["findings"] if f["area"] == area]


def test_a_deployed_hub_has_its_rights_and_each_node_is_told_with_its_engine(
    hub, object_nodes, tmp_path
):
    object_nodes.add("plugin-mig-a100-80", "gpu-mig")
    object_nodes.add("hami-a100-40", "gpu-hami")

    found = aliquot("check", hub, tmp_path)

    version = binaries.kubernetes_version()
    assert of(found, "cluster") == [("ok", f"the API server answers, Kubernetes {version}")]
    assert of(found, "rights") == [("ok", "the hub's service account has the rights that it needs")]
    told = "\n".join(message for level, message in of(found, "gpus") if level == "ok")
    assert "node gpu-mig: NVIDIA's device plugin" in told
    assert "1g.10gb" in told
    assert "node gpu-hami: HAMi" in told
    assert "in blocks and whole" in told
    assert any("jupyterhub-kubespawner 7." in message for _, message in of(found, "versions"))


def test_each_right_that_lacks_is_a_problem_that_says_what_it_is_for(
    control_plane, namespace, tmp_path
):
    nobody = control_plane.kubeconfig_for(f"{namespace}/nobody")

    found = aliquot("check", nobody, tmp_path)

    rights = of(found, "rights")
    assert not found["ok"]
    assert len(rights) == len(RIGHTS)
    assert rights[0] == (
        "problem",
        "the hub's service account may not list, watch nodes in all namespaces, "
        "which is for seeing which GPUs there are",
    )
    assert (
        "problem",
        "the hub's service account may not create "
        f"resourceclaimtemplates.resource.k8s.io in namespace {namespace}, "
        "which is for DRA notebooks",
    ) in rights


def test_every_right_that_our_chart_grants_is_looked_at(namespace):
    granted = {
        (group, resource, verb, manifest["kind"] == "ClusterRole")
        for manifest in hub_manifests.shipped(namespace)
        for rule in manifest.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = {(r.group, r.resource, verb, r.everywhere) for r in RIGHTS for verb in r.verbs}

    assert granted <= asked


def test_a_cluster_that_does_not_answer_is_a_problem_and_no_stack(tmp_path):
    found = aliquot("check", tmp_path / "no-kubeconfig", tmp_path)

    ((level, message),) = of(found, "cluster")
    assert level == "problem"
    assert "the hub runs in no cluster" in message
    assert of(found, "gpus") == []


def test_the_report_names_node_and_engine(hub, object_nodes, tmp_path):
    Store.open(f"sqlite:///{tmp_path}/books.sqlite").close()
    object_nodes.add("hami-a100-40", "gpu-hami")

    found = aliquot("report", hub, tmp_path)

    assert {(gpu["node"], gpu["engine"]) for gpu in found["gpus"]} == {("gpu-hami", "hami")}
    assert found["findings"] == []
