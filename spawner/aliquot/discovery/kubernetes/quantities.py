"""Quantities: Kubernetes' way to write numbers, ``7``, ``80Gi``, ``1k``, ``500m``.

Pure. What is no quantity, or is too large to be a count of anything here, is None.

Source: k8s.io/apimachinery, pkg/api/resource/quantity.go.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?\d{1,2}))?",
    re.ASCII,
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
MIB = 1 << 20


def whole_number(value: object) -> int | None:
    """The quantity as a whole number from 0, rounded up as the API server rounds; or None."""
    if isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
        found = _QUANTITY.fullmatch(value)
        if found is None:
            return None
        number, suffix, exponent = found["number"], found["suffix"], found["exponent"]
        if suffix in _BINARY:
            number = Decimal(number) * (1 << _BINARY[suffix])
        else:
            number = Decimal(number).scaleb(int(exponent or _DECIMAL.get(suffix or "", 0)))
        return int(number.to_integral_value("ROUND_CEILING")) if number >= 0 else None
    return value if type(value) is int and value >= 0 else None
