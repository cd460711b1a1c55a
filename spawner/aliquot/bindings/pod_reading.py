"""Pod reading: parts of a manifest that others may have written, of whatever type they are.

A field that is missing or of another type reads as empty; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NOTHING: Mapping[str, Any] = {}
NOTEBOOK = "notebook"

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def mapping(holder: object, *names: str) -> Mapping[str, Any]:
    """The object at the end of a path."""
    for name in names:
        holder = holder.get(name) if isinstance(holder, Mapping) else None
    return holder if isinstance(holder, Mapping) else _NOTHING


def rows(holder: object, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a list; what else stands in it is passed over."""
    found = holder.get(name) if isinstance(holder, Mapping) else None
    if isinstance(found, list | tuple):
        yield from (row for row in found if isinstance(row, Mapping))


def text(holder: object, name: str) -> str:
    found = holder.get(name) if isinstance(holder, Mapping) else None
    return found if isinstance(found, str) else ""


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
