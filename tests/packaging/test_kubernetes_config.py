"""hub_config/kubernetes holds together: every file is read, every name in it exists."""

from __future__ import annotations

import json

import pytest
import yaml
from jupyterhub.app import JupyterHub
from kubespawner import KubeSpawner
from traitlets.config import Config

from aliquot.domain.pod_marks import LEDGER
from aliquot.settings import Aliquot, Settings, settings_of
from aliquot.setup import KUBERNETES_SERVICE_PORT
from tests.cluster import hub_manifests, z2jh_values
from tests.cluster.z2jh_values import VALUES, hub_configuration

ENGINES = VALUES / "engines"
GROUPS = VALUES.parent / "groups.yaml"


@pytest.fixture
def in_the_hub_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kubelet and our values put into the hub container's environment."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("POD_NAMESPACE", "jhub")
    monkeypatch.setenv("POD_IP", "10.244.1.7")
    monkeypatch.setenv("ALIQUOT_DATABASE_URL", "postgresql+psycopg://aliquot:secret@db/aliquot")


@pytest.fixture
def c(in_the_hub_pod: None) -> Config:
    return hub_configuration(z2jh_values.read("values.yaml"))


@pytest.mark.parametrize("path", sorted(VALUES.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_is_yaml_or_a_template_that_becomes_yaml(path):
    text = path.read_text()
    if path.parent.name == "templates":
        assert hub_manifests.shipped("jhub")
    else:
        assert all(yaml.safe_load_all(text))


def test_the_values_make_a_hub_that_shares_the_cluster_s_gpus(c):
    (service,) = c.JupyterHub.services
    told = json.loads(service["environment"]["ALIQUOT_SETTINGS"])

    assert c.JupyterHub.spawner_class == "aliquot-kubernetes"
    assert told["gpu_source"] == "kubernetes"
    assert told["database_url"] == "sqlite:////srv/jupyterhub/aliquot.sqlite"
    assert told["service_url"] == "http://hub:8082/services/aliquot"
    assert service["url"] == "http://10.244.1.7:8082"
    assert service["environment"]["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"


def test_every_trait_that_the_values_set_exists(c):
    classes = {"KubeSpawner": KubeSpawner, "JupyterHub": JupyterHub, "Aliquot": Aliquot,
               "Spawner": KubeSpawner}

    unknown = [
        f"{section}.{name}"
        for section, traits in c.items()
        for name in traits
        if not classes[section].class_traits(config=True).get(name)
    ]

    assert unknown == []


def test_the_settings_of_a_hub_in_a_pod_survive_the_way_to_its_service(c):
    (service,) = c.JupyterHub.services

    assert Settings.from_environment(service["environment"]) == settings_of(c)


def test_postgresql_replaces_the_ledger_and_nothing_else(c, in_the_hub_pod):
    with_postgresql = z2jh_values.read("values.yaml", "values-postgresql.yaml")

    other = hub_configuration(with_postgresql)

    assert other.Aliquot.database_url == "postgresql+psycopg://aliquot:secret@db/aliquot"
    assert other.KubeSpawner == c.KubeSpawner
    assert with_postgresql["hub"]["extraEnv"]["POD_IP"]


def test_the_service_s_port_is_the_same_wherever_it_is_written():
    values = z2jh_values.read("values.yaml")
    (port,) = values["hub"]["service"]["extraPorts"]
    policies = [m for m in hub_manifests.shipped("jhub") if m["kind"] == "NetworkPolicy"]
    opened = {
        rule["ports"][0]["port"]
        for policy in policies
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
    }

    assert {port["port"], port["targetPort"], *opened} == {KUBERNETES_SERVICE_PORT}


def test_the_network_policies_name_pods_by_labels_that_they_carry(c):
    carried = {**c.KubeSpawner.common_labels, **c.KubeSpawner.extra_labels}
    hub = {"app.kubernetes.io/name": "jupyterhub", "app.kubernetes.io/component": "hub"}
    incoming, outgoing = (
        m["spec"] for m in hub_manifests.shipped("jhub") if m["kind"] == "NetworkPolicy"
    )

    assert incoming["podSelector"]["matchLabels"] == hub
    assert outgoing["egress"][0]["to"][0]["podSelector"]["matchLabels"] == hub
    for selector in (incoming["ingress"][0]["from"][0]["podSelector"], outgoing["podSelector"]):
        assert selector["matchLabels"].items() <= carried.items()
    assert LEDGER not in carried  # set for each pod by its lease


def test_the_priority_class_that_the_values_name_is_shipped(c):
    shipped = yaml.safe_load((VALUES / "priority-class.yaml").read_text())

    assert c.KubeSpawner.priority_class_name == shipped["metadata"]["name"]
    assert shipped["preemptionPolicy"] == "Never"


def test_every_group_of_the_example_that_starts_notebooks_has_a_leaf_queue_of_kai():
    groups = yaml.safe_load(GROUPS.read_text())["groups"]
    queues = {
        queue["metadata"]["name"]: queue["spec"].get("parentQueue")
        for queue in yaml.safe_load_all((ENGINES / "kai-queues.yaml").read_text())
    }
    leaves = set(queues) - set(queues.values())

    assert leaves == {name for name, group in groups.items() if "parent" in group}


def test_the_plugin_s_configurations_are_yaml_inside_of_yaml():
    values = yaml.safe_load((ENGINES / "nvidia-device-plugin-values.yaml").read_text())
    entries = {name: yaml.safe_load(text) for name, text in values["config"]["map"].items()}

    assert values["config"]["default"] in entries
    assert entries["default"]["flags"]["migStrategy"] == "mixed"
    assert entries["time-sliced"]["sharing"]["timeSlicing"]["renameByDefault"] is True
