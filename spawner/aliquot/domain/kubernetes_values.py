"""Kubernetes values: fields of its objects that others wrote, and its way to write numbers.

Pure. Objects are JSON, and a field may be of whatever type: one that is missing or of another
type reads as empty. Nothing here raises.

A *quantity* is ``7``, ``80Gi``, ``1k`` or ``500m``. What is no quantity, or is too large to be
a count of anything here, is None.

Source: k8s.io/apimachinery, pkg/api/resource/quantity.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

_NOTHING: Mapping[str, Any] = {}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?\d{1,2}))?",
    re.ASCII,
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
MIB = 1 << 20


def mapping(holder: object, *names: str) -> Mapping[str, Any]:
    """The object at the end of a path."""
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder if isinstance(holder, dict) else _NOTHING


def rows(holder: object, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a list; what else stands in it is passed over."""
    found = holder.get(name) if isinstance(holder, dict) else None
    # A pod that a hook wrote may hold tuples; they go out as lists.
    if isinstance(found, (list, tuple)):
        yield from (row for row in found if isinstance(row, dict))


def text(holder: object, name: str) -> str:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, str) else ""


def number(holder: object, name: str) -> int:
    """A whole number from 0; 0 for anything else."""
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if type(found) is int and found >= 0 else 0


def decimal(written: object) -> int | None:
    """The whole number from 0 that a text says in digits, of which it has at most nine."""
    if isinstance(written, str) and written.isascii() and written.isdigit() and len(written) < 10:
        return int(written)
    return None


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


def whole_number(quantity: object) -> int | None:
    """A quantity as a whole number from 0, rounded up as the API server rounds; or None."""
    if isinstance(quantity, str):
        if quantity.isascii() and quantity.isdigit() and len(quantity) <= 18:
            return int(quantity)
        found = _QUANTITY.fullmatch(quantity)
        if found is None:
            return None
        number, suffix, exponent = found["number"], found["suffix"], found["exponent"]
        if suffix in _BINARY:
            number = Decimal(number) * (1 << _BINARY[suffix])
        else:
            number = Decimal(number).scaleb(int(exponent or _DECIMAL.get(suffix or "", 0)))
        return int(number.to_integral_value("ROUND_CEILING")) if number >= 0 else None
    return quantity if type(quantity) is int and quantity >= 0 else None
