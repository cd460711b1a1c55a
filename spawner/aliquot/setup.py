"""Setup: one line of ``jupyterhub_config.py`` that makes a Hub share GPUs.

``setup_aliquot(c)`` adds to what is configured already and replaces nothing of it: the
spawner class (unless one of ours, or a class of your own, is set), the Hub service with its
role, and what notebooks need to reach the service.

On a cluster three things differ. The GPUs are the cluster's. The service is reached from other
pods, so it has a port of its own and listens at the hub pod's address: the proxy's route leads
there, and notebooks go to the same port at the name by which they reach the Hub, which stays
when the hub pod is replaced. And the service is given what a program needs to find the API
server, because a Hub passes almost nothing of its environment on.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
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

KUBERNETES_SPAWNER = "aliquot-kubernetes"
# The port that hub_config/kubernetes opens between pods; notebooks keep it in their environment.
KUBERNETES_SERVICE_PORT = 8082
# Zero to JupyterHub sets this class before it runs an admin's lines; ours extends it.
_STOCK_KUBESPAWNER = {"kubespawner.KubeSpawner", "kubespawner.spawner.KubeSpawner", "kubespawner"}
# Where the API server is, and a PostgreSQL password that is kept out of the database's URL.
_PASSED_ON = (
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBECONFIG",
    "POD_NAMESPACE",
    "PGPASSWORD",
)


def setup_aliquot(
    c: Config,
    *,
    spawner: str = "aliquot-local",
    service_port: int = 0,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Share GPUs from the Hub that ``c`` configures.

    Call it at the end of the file, after ``c.Aliquot`` and the Hub's address are set.
    ``service_port`` 0 takes a free one at each start of the Hub, and 8082 on a cluster. Calling
    it again, or after a service of the name ``aliquot`` was configured by hand, changes nothing
    of that service.
    """
    on_cluster = spawner == KUBERNETES_SPAWNER
    present_class = _get(c.JupyterHub, "spawner_class", None)
    if present_class is None or (on_cluster and _is_stock(present_class)):
        c.JupyterHub.spawner_class = spawner
    if on_cluster and "gpu_source" not in c.Aliquot:
        c.Aliquot.gpu_source = "kubernetes"
    configured = _get(c.JupyterHub, "services", []) or []
    present = [service["url"] for service in configured if service["name"] == SERVICE_NAME]
    wanted = service_port or (KUBERNETES_SERVICE_PORT if on_cluster else _free_port())
    port = urlparse(present[0]).port if present else wanted
    prefix = _base_url(c) + f"services/{SERVICE_NAME}"
    for_pods = _hub_host(c) if on_cluster else "127.0.0.1"
    c.Aliquot.service_url = f"http://{_in_url(for_pods)}:{port}{prefix}"
    settings = settings_of(c)
    c.Aliquot.database_url = settings.database_url
    listens_at, environment = "127.0.0.1", {ENVIRONMENT: settings.to_json()}
    if on_cluster:
        listens_at = _own_address(environ) or for_pods
        environment |= {name: environ[name] for name in _PASSED_ON if name in environ}
    service = {
        "name": SERVICE_NAME,
        "url": f"http://{_in_url(listens_at)}:{port}",
        "command": [sys.executable, "-m", "aliquot.service"],
        "environment": environment,
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


def _is_stock(spawner_class: Any) -> bool:
    named = (
        spawner_class
        if isinstance(spawner_class, str)
        else (f"{spawner_class.__module__}.{spawner_class.__qualname__}")
    )
    return named in _STOCK_KUBESPAWNER


def _hub_host(c: Config) -> str:
    """The name or address by which pods reach the Hub, as JupyterHub itself finds it."""
    for name in ("hub_connect_url", "hub_connect_ip", "hub_bind_url", "hub_ip"):
        value = _get(c.JupyterHub, name, "")
        host = urlparse(value).hostname if name.endswith("_url") else value
        if host and host not in ("0.0.0.0", "::", "*"):
            return host
    return socket.gethostname()


def _own_address(environ: Mapping[str, str]) -> str:
    """The hub pod's address; empty where the Hub does not run in a pod.

    Not the Hub's Service: a pod may not reach itself through it (that takes a network with
    hairpin mode), and it leads nowhere until the Hub is ready, which waits for the service.
    """
    if "KUBERNETES_SERVICE_HOST" not in environ:
        return ""
    # The kubelet writes the pod's address beside its name into /etc/hosts.
    return environ.get("POD_IP") or str(socket.getaddrinfo(socket.gethostname(), None)[0][4][0])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
