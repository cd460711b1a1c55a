"""A row of the table that `make bench` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` is what the promise is about (a ratio, or a figure with its unit); ``ours``
    and ``other`` are what it was made from, in words."""

    what: str
    value: float
    unit: str
    promise: Literal["at most", "at least"]
    target: float
    ours: str = ""
    other: str = ""

    @property
    def is_kept(self) -> bool:
        if self.promise == "at most":
            return self.value <= self.target
        return self.value >= self.target
