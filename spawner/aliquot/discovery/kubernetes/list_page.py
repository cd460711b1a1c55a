"""List page: the objects of a list, one after the other.

Pure. Python's collector walks a tree of JSON again and again while it grows, which takes
longer than the parsing; a page parsed object by object never has more than one of them, and
needs no memory for the others either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_page(body: bytes, take: Callable[[Any], None]) -> dict[str, Any]:
    """Call ``take`` with each of a list's ``items``; returns the list's other fields.

    Raises ValueError, or RecursionError, for what is no JSON object.
    """
    page = body.decode("utf-8")
    fields: dict[str, Any] = {}
    at = _after(page, 0, "{")
    if page[at : at + 1] == "}":
        return fields
    while True:
        name, at = _DECODER.raw_decode(page, at)
        at = _after(page, at, ":")
        if name == "items" and page[at : at + 1] == "[":
            at = _items(page, at, take)
        else:
            fields[name], at = _DECODER.raw_decode(page, at)
        at = _skip(page, at)
        if page[at : at + 1] == "}":
            return fields
        at = _after(page, at, ",")


def _items(page: str, at: int, take: Callable[[Any], None]) -> int:
    at = _after(page, at, "[")
    if page[at : at + 1] == "]":
        return at + 1
    while True:
        item, at = _DECODER.raw_decode(page, at)
        take(item)
        at = _skip(page, at)
        if page[at : at + 1] == "]":
            return at + 1
        at = _after(page, at, ",")


def _skip(page: str, at: int) -> int:
    found = _SPACE.match(page, at)
    return found.end() if found else at


def _after(page: str, at: int, expected: str) -> int:
    """Where what follows the character begins."""
    at = _skip(page, at)
    if page[at : at + 1] != expected:
        raise ValueError(f"expected {expected!r} at {at}")
    return _skip(page, at + 1)
