"""Fields of JSON objects, read strictly: the type that was written, or a ValueError.

JSON that comes back from a file or a database was written by us, but perhaps by another
version, or was edited; a wrong type is found here and not where it does harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is not text")
    return value


def text_or_none(row: Mapping[str, Any], name: str) -> str | None:
    return None if row[name] is None else text(row, name)


def number(row: Mapping[str, Any], name: str, *, least: int) -> int:
    value = row[name]
    # JSON's true is Python's 1, and 1.0 equals it: neither is a count.
    if type(value) is not int or value < least:
        raise ValueError(f"'{name}' is not a whole number from {least}")
    return value


def numbers(row: Mapping[str, Any], name: str) -> list[int]:
    values = row[name]
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise ValueError(f"'{name}' is not a list of whole numbers")
    return values
