"""setup_aliquot(c) adds to a configuration and takes nothing away."""

from __future__ import annotations

import json

from traitlets.config import Config

from aliquot.setup import setup_aliquot

ACCESS = "access:services!service=aliquot"


def configured(**hub: object) -> Config:
    c = Config()
    for name, value in hub.items():
        c.JupyterHub[name] = value
    setup_aliquot(c)
    return c


def test_an_empty_configuration_gets_spawner_service_and_rights():
    c = configured()

    (service,) = c.JupyterHub.services
    settings = json.loads(service["environment"]["ALIQUOT_SETTINGS"])
    roles = {role["name"]: role["scopes"] for role in c.JupyterHub.load_roles}
    assert c.JupyterHub.spawner_class == "aliquot-local"
    assert settings["service_url"] == service["url"] + "/services/aliquot"
    assert settings["database_url"].startswith("sqlite:////")
    assert "admin:server_state" in roles["aliquot-service"]
    assert roles["user"] == ["self", ACCESS]
    assert ACCESS in c.Spawner.server_token_scopes


def test_what_was_configured_stays():
    culler = {"name": "culler", "command": ["true"]}
    c = configured(
        spawner_class="mine",
        services=[culler],
        load_roles=[{"name": "user", "scopes": ["self", "read:hub"]}],
        custom_scopes={"custom:mine": {"description": "mine"}},
    )

    assert c.JupyterHub.spawner_class == "mine"
    assert c.JupyterHub.services[0] == culler
    assert c.JupyterHub.load_roles[0]["scopes"] == ["self", "read:hub", ACCESS]
    assert "custom:mine" in c.JupyterHub.custom_scopes


def test_a_list_that_was_only_appended_to_keeps_what_was_appended():
    c = Config()
    c.JupyterHub.services.append({"name": "culler", "command": ["true"]})

    setup_aliquot(c)

    assert [service["name"] for service in c.JupyterHub.services] == ["culler", "aliquot"]


def test_the_hub_s_base_url_is_part_of_the_service_s_address():
    for hub in ({"base_url": "/jupyter/"}, {"bind_url": "http://127.0.0.1:8000/jupyter/"}):
        assert configured(**hub).Aliquot.service_url.endswith("/jupyter/services/aliquot")


def test_calling_it_twice_is_calling_it_once():
    c = configured()
    before = json.dumps([c.JupyterHub.services, c.JupyterHub.load_roles, c.Aliquot.service_url])

    setup_aliquot(c)

    after = json.dumps([c.JupyterHub.services, c.JupyterHub.load_roles, c.Aliquot.service_url])
    assert after == before
