"""hub_config/kubernetes against a real API server: it takes every manifest, the hub may do what
it does and no more, and its pods pass the pod security standard "restricted".

Helm is built for it, and renders our chart; with ``ALIQUOT_Z2JH_CHART`` also Zero to JupyterHub's
own chart with our values.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient as KubernetesClient
from kubespawner import KubeSpawner
from traitlets.config import Config

from tests.cluster import binaries, helm_binary, hub_manifests, kai_objects, z2jh_values
from tests.cluster.api_client import ApiError
from tests.cluster.hub_manifests import CHART, CONFIG, path_of, shipped

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
# Building helm takes a minute where nothing is cached.
FIRST_TIME = pytest.mark.timeout(600)
DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}
PLAIN = ["priority-class.yaml", "engines/kai-queues.yaml"]


@pytest.fixture(scope="session")
def helm() -> Path:
    try:
        return helm_binary.find_helm()
    except binaries.CannotBuild as failure:
        pytest.skip(str(failure))


@pytest.fixture
def hub(control_plane, namespace):
    """A client with the rights of a deployed hub in ``namespace``."""
    hub_manifests.give_rights(control_plane.api, namespace)
    yield control_plane.client_for(f"{namespace}/hub")
    for kind in ("clusterrolebindings", "clusterroles"):
        path = f"/apis/{hub_manifests.RBAC}/v1/{kind}/aliquot-{namespace}"
        control_plane.api.delete(path)


@pytest.fixture
def restricted(control_plane, monkeypatch: pytest.MonkeyPatch):
    """A namespace that admits only what "restricted" allows."""
    name = control_plane.namespace()
    # KubeSpawner loads a configuration when it is made; the client read KUBECONFIG at import.
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
        str(control_plane.kubeconfig_for(f"{name}/hub")),
    )
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.api.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": label}})
    yield name
    control_plane.remove_namespace(name)


@pytest.fixture
def c(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("POD_IP", "10.244.1.7")
    return z2jh_values.hub_configuration(z2jh_values.read("values.yaml"))


# -- the manifests ---------------------------------------------------------------------------


@FIRST_TIME
def test_helm_renders_our_chart_as_the_tests_read_it(helm):
    def in_order(manifests: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(manifest, sort_keys=True) for manifest in manifests)

    assert in_order(helm_binary.render(CHART, "aliquot", "jhub")) == in_order(shipped("jhub"))


@FIRST_TIME
def test_helm_puts_another_account_and_port_where_they_belong(helm):
    found = helm_binary.render(
        CHART, "aliquot", "other", hubServiceAccount="my-hub", servicePort="9000"
    )
    subjects = [s for m in found for s in m.get("subjects", ())]
    ports = [
        rule["ports"][0]["port"]
        for m in found if m["kind"] == "NetworkPolicy"
        for rule in [*m["spec"].get("ingress", []), *m["spec"].get("egress", [])]
    ]

    assert subjects == [{"kind": "ServiceAccount", "name": "my-hub", "namespace": "other"}] * 2
    assert ports == [9000, 9000]


def test_the_api_server_takes_every_manifest_of_our_chart(control_plane, namespace):
    taken = [
        control_plane.api.post(path_of(manifest, namespace), manifest, **DRY_RUN)["kind"]
        for manifest in shipped(namespace)
    ]

    assert sorted(taken) == [
        "ClusterRole", "ClusterRoleBinding", "NetworkPolicy", "NetworkPolicy", "Role", "RoleBinding"
    ]


def test_the_api_server_takes_the_plain_manifests(control_plane, namespace, object_nodes):
    object_nodes.install(kai_objects.DEFINITIONS, [kai_objects.definition()])
    control_plane.api.wait_until(kai_objects.QUEUES, bool)

    for name in PLAIN:
        for manifest in yaml.safe_load_all((CONFIG / name).read_text()):
            control_plane.api.post(path_of(manifest, namespace), manifest, **DRY_RUN)


# -- what the hub may do -----------------------------------------------------------------------

DRA = "resource.k8s.io"
# verb, group, resource, whether in the hub's own namespace ("" is all namespaces)
MAY = [
    *(("own", verb, "", "pods") for verb in ("get", "list", "watch", "create", "delete")),
    *(("own", verb, "", "persistentvolumeclaims") for verb in ("get", "list", "create")),
    *(("own", verb, "", "events") for verb in ("list", "watch")),
    ("own", "create", DRA, "resourceclaimtemplates"),
    ("own", "get", DRA, "resourceclaims"),
    *(("all", verb, "", "nodes") for verb in ("list", "watch")),
    *(("all", verb, "", "pods") for verb in ("list", "watch")),
    *(("all", verb, DRA, "resourceslices") for verb in ("list", "watch")),
    *(("all", verb, DRA, "deviceclasses") for verb in ("list", "watch")),
    *(("all", verb, DRA, "resourceclaims") for verb in ("list", "watch")),
]
MAY_NOT = [
    *(("other", verb, "", "pods") for verb in ("create", "delete", "update", "patch")),
    *(("other", verb, "", "secrets") for verb in ("get", "list", "watch", "create", "delete")),
    *(("other", verb, "", "services") for verb in ("get", "create", "delete")),
    *(("other", verb, "", "persistentvolumeclaims") for verb in ("get", "create", "delete")),
    *(("other", verb, DRA, "resourceclaimtemplates") for verb in ("create", "delete")),
    ("other", "list", "", "events"),
    ("all", "list", "", "secrets"),
    ("all", "list", "", "configmaps"),
    ("own", "get", "", "configmaps"),
    *(("all", verb, "", "nodes") for verb in ("create", "update", "patch", "delete")),
    *(("own", verb, "", "pods") for verb in ("update", "patch")),
    *(("own", "create", "", f"pods/{part}") for part in ("exec", "attach", "eviction")),
    ("own", "patch", "", "pods/status"),
    ("own", "create", "", "serviceaccounts/token"),
    *(("own", verb, DRA, "resourceclaims") for verb in ("create", "update", "patch", "delete")),
    *(("all", verb, DRA, "resourceslices") for verb in ("create", "update", "delete")),
    *(("all", verb, DRA, "deviceclasses") for verb in ("create", "update", "delete")),
    *(("own", verb, hub_manifests.RBAC, "roles") for verb in ("create", "bind", "escalate")),
    *(("all", verb, "scheduling.run.ai", "queues") for verb in ("list", "create")),
    ("own", "delete", DRA, "resourceclaimtemplates"),
    ("all", "impersonate", "", "users"),
]


def may(client, namespace: str, where: str, verb: str, group: str, resource: str) -> bool:
    name, _, part = resource.partition("/")
    place = {"own": namespace, "other": "kube-system", "all": ""}[where]
    asked = {"namespace": place, "verb": verb, "group": group, "resource": name,
             "subresource": part}
    review = {"spec": {"resourceAttributes": asked}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return client.post(path, review)["status"]["allowed"]


def test_the_hub_may_do_what_it_does(hub, namespace):
    refused = [asked for asked in MAY if not may(hub, namespace, *asked)]

    assert refused == []


def test_the_hub_may_do_nothing_else(hub, namespace):
    allowed = [asked for asked in MAY_NOT if may(hub, namespace, *asked)]

    assert allowed == []


def test_the_hub_may_look_whether_kai_is_installed(hub):
    # Every account may (system:discovery): 404 is an answer, 403 would be none.
    with pytest.raises(ApiError) as answered:
        hub.get("/apis/scheduling.run.ai/v3")

    assert answered.value.code == 404


def test_our_chart_alone_lets_the_hub_create_nothing_but_claim_templates():
    rules = [rule for m in shipped("jhub") if "rules" in m for rule in m["rules"]]
    changing = {
        resource: set(rule["verbs"]) - {"get", "list", "watch"}
        for rule in rules
        for resource in rule["resources"]
        if set(rule["verbs"]) - {"get", "list", "watch"}
    }

    assert changing == {"resourceclaimtemplates": {"create"}}
    assert not any("*" in [*rule["resources"], *rule["verbs"]] for rule in rules)


# -- what the pods are -------------------------------------------------------------------------


async def notebook_pod(config: Config, namespace: str) -> dict[str, Any]:
    config = Config(config)
    config.KubeSpawner.namespace = namespace
    spawner = KubeSpawner(_mock=True, config=config)
    pod = await spawner.get_pod_manifest()
    async with KubernetesClient() as client:
        return client.sanitize_for_serialization(pod)


async def test_a_notebook_s_pod_passes_the_restricted_standard(control_plane, restricted, c):
    control_plane.api.post(
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        yaml.safe_load((CONFIG / "priority-class.yaml").read_text()),
    )
    pod = await notebook_pod(c, restricted)

    try:
        taken = control_plane.api.post(
            f"/api/v1/namespaces/{restricted}/pods", pod, dryRun="All"
        )
    finally:
        control_plane.api.delete("/apis/scheduling.k8s.io/v1/priorityclasses/aliquot-notebook")

    assert taken["spec"]["priority"] == 1000
    assert taken["spec"]["preemptionPolicy"] == "Never"


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("runAsNonRoot", "runAsNonRoot != true"),
        ("capabilities", "unrestricted capabilities"),
        ("seccompProfile", "seccompProfile"),
    ],
)
async def test_each_line_of_the_security_context_is_needed(
    control_plane, restricted, c, without, said
):
    c.KubeSpawner.container_security_context.pop(without)
    c.KubeSpawner.pop("priority_class_name")
    pod = await notebook_pod(c, restricted)

    with pytest.raises(ApiError, match=said) as refused:
        control_plane.api.post(f"/api/v1/namespaces/{restricted}/pods", pod, dryRun="All")

    assert refused.value.code == 403


# -- Zero to JupyterHub's own chart --------------------------------------------------------------


@pytest.fixture
def z2jh_chart() -> Path:
    found = z2jh_values.chart_folder()
    if found is None:
        pytest.skip("ALIQUOT_Z2JH_CHART names no folder with the jupyterhub chart")
    return found


@FIRST_TIME
@pytest.mark.parametrize("overlays", [(), ("values-postgresql.yaml",)], ids=["sqlite", "postgres"])
def test_the_api_server_takes_the_hub_s_chart_with_our_values(
    control_plane, namespace, helm, z2jh_chart, overlays
):
    values = [CONFIG / name for name in ("values.yaml", *overlays)]

    found = helm_binary.render(z2jh_chart, "jhub", namespace, values)

    for manifest in found:
        control_plane.api.post(path_of(manifest, namespace), manifest, dryRun="All")
    assert len(found) > 15


@FIRST_TIME
def test_the_chart_s_own_pods_pass_the_restricted_standard_as_well(
    control_plane, restricted, helm, z2jh_chart
):
    found = helm_binary.render(z2jh_chart, "jhub", restricted, [CONFIG / "values.yaml"])
    templates = {
        m["metadata"]["name"]: m["spec"]["template"] for m in found
        if m["kind"] in ("Deployment", "DaemonSet", "Job")
    }

    for name, template in templates.items():
        # Accounts are made by helm, and this is about the security context alone.
        spec = {k: v for k, v in template["spec"].items() if k != "serviceAccountName"}
        pod = {"metadata": {"name": name}, "spec": spec}
        control_plane.api.post(f"/api/v1/namespaces/{restricted}/pods", pod, dryRun="All")
    assert {"hub", "proxy"} <= set(templates)


@FIRST_TIME
def test_the_rights_of_the_hub_s_chart_are_those_that_the_tests_give(helm, z2jh_chart):
    values = [CONFIG / "values.yaml"]
    found = helm_binary.render(z2jh_chart, "jhub", "jhub", values)
    theirs = [m for m in found if m["metadata"]["name"] == "hub" and "ules" in json.dumps(m)]
    (role,) = [m for m in theirs if m["kind"] == "Role"]
    expected = hub_manifests.chart_rights("jhub")[0]["rules"]

    assert [{**rule, "verbs": set(rule["verbs"])} for rule in role["rules"]] == [
        {**rule, "verbs": set(rule["verbs"])} for rule in expected
    ]


@FIRST_TIME
def test_the_hub_s_chart_makes_of_our_values_what_the_tests_make_of_them(
    helm, z2jh_chart, tmp_path, c
):
    """Runs the chart's jupyterhub_config.py as the hub container would, in a folder."""
    found = helm_binary.render(z2jh_chart, "jhub", "jhub", [CONFIG / "values.yaml"])
    by_kind = {m["kind"]: m for m in found if m["metadata"]["name"] == "hub"}
    config_map, secret = by_kind["ConfigMap"]["data"], by_kind["Secret"]["data"]
    (tmp_path / "config").mkdir()
    (tmp_path / "secret").mkdir()
    for name, text in config_map.items():
        # The one thing that is changed: where the container mounts its files.
        text = text.replace("/usr/local/etc/jupyterhub", str(tmp_path))
        (tmp_path / "config" / name).write_text(text)
        if name.endswith(".py"):
            (tmp_path / name).write_text(text)
    for name, encoded in secret.items():
        decode = subprocess.run(
            ["base64", "-d"], input=encoded, capture_output=True, text=True, check=True
        )
        (tmp_path / "secret" / name).write_text(decode.stdout)

    program = (
        "import json; from traitlets.config.loader import PyFileConfigLoader;"
        "c = PyFileConfigLoader('jupyterhub_config.py').load_config();"
        "open('c.json', 'w').write(json.dumps(c, default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={
            "PATH": os.environ["PATH"], "POD_NAMESPACE": "jhub", "POD_IP": "10.244.1.7",
            "KUBERNETES_SERVICE_HOST": "10.96.0.1", "HUB_SERVICE_PORT": "8081",
            "PROXY_API_SERVICE_PORT": "8001",
        },
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads((tmp_path / "c.json").read_text())
    ours = json.loads(json.dumps(c, default=str))

    assert theirs["Aliquot"] == ours["Aliquot"]
    assert theirs["JupyterHub"]["spawner_class"] == "aliquot-kubernetes"
    assert [s["name"] for s in theirs["JupyterHub"]["services"]] == [
        "jupyterhub-idle-culler", "aliquot"
    ]
    assert theirs["JupyterHub"]["services"][1]["url"] == "http://10.244.1.7:8082"
    own = {"common_labels"}  # they carry the chart's version
    expected = {k: v for k, v in ours["KubeSpawner"].items() if k not in own}
    assert {k: theirs["KubeSpawner"].get(k) for k in expected} == expected
    assert "init_containers" not in theirs["KubeSpawner"] or not (
        theirs["KubeSpawner"]["init_containers"]
    )
