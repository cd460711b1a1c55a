"""Zero to JupyterHub's values: what its chart makes of those that ours sets.

The chart cannot be had from package registries, so what it does with each key that our files
use is written down here. A key that is not known fails, so that a new one gets looked up.
``ALIQUOT_Z2JH_CHART`` names a folder with the chart itself; ``test_hub_config`` then renders it
and runs its own configuration file, and compares.

Source: jupyterhub/zero-to-jupyterhub-k8s 48ea50e (Hub 5.5), jupyterhub/values.yaml and
jupyterhub/files/hub/jupyterhub_config.py.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from traitlets.config import Config

VALUES = Path(__file__).resolve().parents[2] / "hub_config" / "kubernetes"

# singleuser.* by the trait of KubeSpawner that it becomes.
_TRAITS = {
    "uid": "uid",
    "fsGid": "fs_gid",
    "allowPrivilegeEscalation": "allow_privilege_escalation",
    "startTimeout": "start_timeout",
}
# Of all user pods (scheduling.userPods.tolerations).
_TOLERATED = [
    {"key": f"hub.jupyter.org{sign}dedicated", "operator": "Equal", "value": "user",
     "effect": "NoSchedule"}
    for sign in ("/", "_")
]
# Read by the chart's templates alone, or switching off what it would have added.
_TEMPLATES = {
    "hub.image.name", "hub.image.tag", "hub.db.type", "hub.db.url", "hub.db.pvc.accessModes",
    "hub.db.pvc.storage", "hub.extraEnv", "hub.service.extraPorts", "hub.networkPolicy.enabled",
    "singleuser.networkPolicy.enabled", "singleuser.cloudMetadata.blockWithIptables",
    "scheduling.userScheduler.enabled",
}
_AS_ONE = ("hub.extraEnv", "hub.config", "hub.extraConfig")


def read(*names: str) -> dict[str, Any]:
    """Our values files merged as helm does it: maps key by key, all else replaced."""
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, yaml.safe_load((VALUES / name).read_text()))
    return merged


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and path not in _AS_ONE:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def hub_configuration(values: Mapping[str, Any], namespace: str = "jhub") -> Config:
    """The ``c`` that the Hub of the chart ends up with, of what our values decide.

    Raises KeyError for a key whose meaning is not written down above.
    """
    c = Config()
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.hub_bind_url = "http://:8081"
    c.JupyterHub.hub_connect_url = "http://hub:8081"
    c.JupyterHub.services = []
    c.JupyterHub.load_roles = []
    c.KubeSpawner.namespace = namespace
    c.KubeSpawner.common_labels = {
        "app": "jupyterhub", "app.kubernetes.io/name": "jupyterhub",
        "release": "jhub", "app.kubernetes.io/instance": "jhub",
        "app.kubernetes.io/managed-by": "kubespawner",
    }
    # The chart's default, which our values keep.
    c.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
    image: dict[str, str] = {}
    extra: dict[str, str] = {}
    for path, value in _leaves(values):
        section, _, key = path.partition(".")
        if section == "singleuser" and key in _TRAITS:
            setattr(c.KubeSpawner, _TRAITS[key], value)
        elif path.startswith("singleuser.image."):
            image[path.rpartition(".")[2]] = value
        elif path == "singleuser.extraTolerations":
            c.KubeSpawner.tolerations = [*_TOLERATED, *value]
        elif path == "hub.config":
            for name, traits in value.items():
                c[name].update(traits)
        elif path == "hub.extraConfig":
            extra = value
        elif path not in _TEMPLATES:
            raise KeyError(f"what the chart does with {path} is not written down")
    c.KubeSpawner.image = f"{image['name']}:{image['tag']}"
    for name, lines in sorted(extra.items()):
        exec(compile(lines, f"hub.extraConfig.{name}", "exec"), {"c": c})
    return c


def chart_folder() -> Path | None:
    """The chart itself, where somebody has it."""
    named = os.environ.get("ALIQUOT_Z2JH_CHART")
    return Path(named) if named else None
