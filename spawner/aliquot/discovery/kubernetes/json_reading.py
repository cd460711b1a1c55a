"""JSON reading: fields of objects that others wrote, of whatever type they turn out to be.

Pure. A field that is missing or of another type reads as empty; nothing here raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_NOTHING: Mapping[str, Any] = {}


def mapping(holder: object, name: str) -> Mapping[str, Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, dict) else _NOTHING


def rows(holder: object, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a list; what else stands in it is passed over."""
    found = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(found, list):
        yield from (row for row in found if isinstance(row, dict))


def text(holder: object, name: str) -> str:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, str) else ""


def number(holder: object, name: str) -> int:
    """A whole number from 0; 0 for anything else."""
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if type(found) is int and found >= 0 else 0


def decimal(written: object) -> int:
    """The whole number from 0 that a label's text says; 0 for anything else."""
    if isinstance(written, str) and written.isascii() and written.isdigit() and len(written) < 10:
        return int(written)
    return 0


def array(written: str) -> list[Any] | None:
    """A JSON array in a text; None for anything else."""
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def full_name(obj: object) -> str:
    """``namespace/name`` of an object, or its name where it has no namespace."""
    metadata = mapping(obj, "metadata")
    namespace, name = text(metadata, "namespace"), text(metadata, "name")
    return f"{namespace}/{name}" if namespace else name
