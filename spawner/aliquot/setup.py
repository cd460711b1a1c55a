"""Setup: one line of ``jupyterhub_config.py`` that makes a Hub share GPUs.

``setup_aliquot(c)`` adds to what is configured already and replaces nothing of it: the
spawner class (unless one of ours, or a class of your own, is set), the Hub service with its
role, and what notebooks need to reach the service.
"""

from __future__ import annotations

import socket
import sys
from typing import Any
from urllib.parse import urlparse

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from aliquot.hub_scopes import NEEDED_SCOPES, READ_SCOPE, SERVICE_NAME
from aliquot.settings import ENVIRONMENT, settings_of

_SERVICE_ROLE = "aliquot-service"
_CUSTOM_SCOPES = {
    READ_SCOPE: {"description": "Read what GPUs are held, by whom, and the metrics."},
}
_ACCESS = f"access:services!service={SERVICE_NAME}"
_SERVER_SCOPES = ("users:activity!user", "access:servers!server", _ACCESS)


def setup_aliquot(c: Config, *, spawner: str = "aliquot-local", service_port: int = 0) -> None:
    """Share GPUs from the Hub that ``c`` configures.

    Call it at the end of the file, after ``c.Aliquot`` and the Hub's address are set.
    ``service_port`` 0 takes a free one at each start of the Hub. Calling it again, or after
    a service of the name ``aliquot`` was configured by hand, changes nothing of that service.
    """
    if "spawner_class" not in c.JupyterHub:
        c.JupyterHub.spawner_class = spawner
    configured = _get(c.JupyterHub, "services", []) or []
    present = [service["url"] for service in configured if service["name"] == SERVICE_NAME]
    port = urlparse(present[0]).port if present else service_port or _free_port()
    prefix = _base_url(c) + f"services/{SERVICE_NAME}"
    c.Aliquot.service_url = f"http://127.0.0.1:{port}{prefix}"
    settings = settings_of(c)
    c.Aliquot.database_url = settings.database_url
    service = {
        "name": SERVICE_NAME,
        "url": f"http://127.0.0.1:{port}",
        "command": [sys.executable, "-m", "aliquot.service"],
        "environment": {ENVIRONMENT: settings.to_json()},
        "oauth_no_confirm": True,
        "display": False,
    }
    _add(c.JupyterHub, "services", [service])
    role = {"name": _SERVICE_ROLE, "scopes": [*NEEDED_SCOPES], "services": [SERVICE_NAME]}
    _add(c.JupyterHub, "load_roles", [role, {"name": "user", "scopes": ["self"]}])
    for role in c.JupyterHub.load_roles:
        if role["name"] == "user":
            role["scopes"] = [*dict.fromkeys([*role.get("scopes", ()), _ACCESS])]
    scopes = dict(_get(c.JupyterHub, "custom_scopes", {}))
    c.JupyterHub.custom_scopes = {**scopes, **_CUSTOM_SCOPES}
    granted = _get(c.Spawner, "server_token_scopes", None)
    if granted is None:
        c.Spawner.server_token_scopes = list(_SERVER_SCOPES)
    elif not callable(granted):
        c.Spawner.server_token_scopes = [*dict.fromkeys([*granted, _ACCESS])]


def _get(section: Config, name: str, otherwise: Any) -> Any:
    """A configured value; one that was only appended to counts with what was appended."""
    value = section.get(name, otherwise)
    return value.get_value(otherwise) if isinstance(value, LazyConfigValue) else value


def _add(section: Config, name: str, items: list[dict[str, Any]]) -> None:
    """Append to a list of named things; one of the same name that is there stays."""
    present = list(_get(section, name, []) or [])
    names = {item["name"] for item in present}
    setattr(section, name, [*present, *(item for item in items if item["name"] not in names)])


def _base_url(c: Config) -> str:
    path = _get(c.JupyterHub, "base_url", "") or urlparse(_get(c.JupyterHub, "bind_url", "")).path
    return "/" + f"{path}/".strip("/") + ("/" if path.strip("/") else "")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
