"""Pod reading: the containers of a manifest that others may have written, and its pin.

What is missing or of another type reads as empty; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aliquot.domain.kubernetes_values import mapping, rows, text

NOTEBOOK = "notebook"

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def containers(pod: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every container with its place, ``initContainers[wait]``; sidecars are among them."""
    spec = mapping(pod, "spec")
    for group in _CONTAINERS:
        for container in rows(spec, group):
            yield f"{group}[{text(container, 'name')}]", container


def notebook_index(spec: object) -> int:
    """Which of ``containers`` is the notebook's: the one of that name, else the first, as
    KubeSpawner makes it."""
    for index, container in enumerate(rows(spec, "containers")):
        if text(container, "name") == NOTEBOOK:
            return index
    return 0


def pinned_to(node: str) -> dict[str, Any]:
    """The node selector requirement that only one node meets."""
    return {"key": "metadata.name", "operator": "In", "values": [node]}
