"""setup_aliquot(c, spawner="aliquot-kubernetes"): a Hub in a pod, as Zero to JupyterHub runs it."""

from __future__ import annotations

import json
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from traitlets.config import Config

from aliquot.setup import setup_aliquot

IN_A_POD = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "POD_NAMESPACE": "jhub",
    "POD_IP": "10.244.1.7",
    "CONFIGPROXY_AUTH_TOKEN": "not for the service",
}


def as_the_chart_begins() -> Config:
    """What Zero to JupyterHub has set when it comes to hub.extraConfig."""
    c = Config()
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.hub_bind_url = "http://:8081"
    c.JupyterHub.hub_connect_url = "http://hub:8081"
    c.JupyterHub.base_url = "/jupyter/"
    c.JupyterHub.services = [{"name": "jupyterhub-idle-culler", "command": ["true"]}]
    c.JupyterHub.load_roles = []
    return c


def on_a_cluster(c: Config, environ: dict[str, str] = IN_A_POD, **options: int) -> dict:
    """Set it up and return its service."""
    setup_aliquot(c, spawner="aliquot-kubernetes", environ=environ, **options)
    (service,) = [s for s in c.JupyterHub.services if s["name"] == "aliquot"]
    return service


def test_gpus_are_looked_for_in_the_cluster():
    c = as_the_chart_begins()

    service = on_a_cluster(c)

    assert c.Aliquot.gpu_source == "kubernetes"
    assert json.loads(service["environment"]["ALIQUOT_SETTINGS"])["gpu_source"] == "kubernetes"


def test_an_admin_s_own_source_of_gpus_stays():
    c = as_the_chart_begins()
    c.Aliquot.gpu_source = "simulated"

    on_a_cluster(c)

    assert c.Aliquot.gpu_source == "simulated"


def test_the_chart_s_stock_spawner_is_replaced_and_a_class_of_one_s_own_is_not():
    from kubespawner import KubeSpawner

    for configured, expected in (
        ("kubespawner.KubeSpawner", "aliquot-kubernetes"),
        (KubeSpawner, "aliquot-kubernetes"),
        ("mine.Spawner", "mine.Spawner"),
    ):
        c = as_the_chart_begins()
        c.JupyterHub.spawner_class = configured
        on_a_cluster(c)
        assert c.JupyterHub.spawner_class == expected


def test_notebooks_reach_the_service_by_the_hub_s_name_and_the_proxy_by_the_pod_s_address():
    c = as_the_chart_begins()

    service = on_a_cluster(c)

    assert c.Aliquot.service_url == "http://hub:8082/jupyter/services/aliquot"
    assert service["url"] == "http://10.244.1.7:8082"


def test_another_port_can_be_asked_for():
    c = as_the_chart_begins()

    assert on_a_cluster(c, service_port=9000)["url"] == "http://10.244.1.7:9000"
    assert c.Aliquot.service_url == "http://hub:9000/jupyter/services/aliquot"


def test_without_a_named_address_the_pod_s_own_is_looked_up():
    c = as_the_chart_begins()
    environ = {name: value for name, value in IN_A_POD.items() if name != "POD_IP"}

    host = urlsplit(on_a_cluster(c, environ)["url"]).hostname

    assert ip_address(host or "")


def test_an_ipv6_address_is_written_as_urls_want_it():
    c = as_the_chart_begins()

    assert on_a_cluster(c, IN_A_POD | {"POD_IP": "fd00::7"})["url"] == "http://[fd00::7]:8082"


@pytest.mark.parametrize(
    ("hub", "host"),
    [
        ({"hub_connect_ip": "192.0.2.7"}, "192.0.2.7"),
        ({"hub_bind_url": "http://192.0.2.8:8081"}, "192.0.2.8"),
        ({"hub_ip": "192.0.2.9"}, "192.0.2.9"),
    ],
)
def test_a_hub_outside_of_the_cluster_is_reached_where_the_hub_itself_is(hub, host):
    c = Config()
    c.JupyterHub.update(hub)

    service = on_a_cluster(c, {}, service_port=9000)

    assert service["url"] == f"http://{host}:9000"
    assert c.Aliquot.service_url == f"http://{host}:9000/services/aliquot"


def test_the_service_is_told_where_the_api_server_is_and_nothing_else_of_the_hub_s():
    environment = on_a_cluster(as_the_chart_begins())["environment"]

    assert set(environment) == {
        "ALIQUOT_SETTINGS",
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "POD_NAMESPACE",
    }


def test_services_and_roles_of_the_chart_stay():
    c = as_the_chart_begins()

    on_a_cluster(c)

    assert [s["name"] for s in c.JupyterHub.services] == ["jupyterhub-idle-culler", "aliquot"]
    assert {"aliquot-service", "user"} == {role["name"] for role in c.JupyterHub.load_roles}


def test_calling_it_twice_is_calling_it_once():
    c = as_the_chart_begins()
    on_a_cluster(c)
    before = json.dumps([c.JupyterHub.services, c.JupyterHub.load_roles, c.Aliquot.service_url])

    on_a_cluster(c)

    after = json.dumps([c.JupyterHub.services, c.JupyterHub.load_roles, c.Aliquot.service_url])
    assert after == before
