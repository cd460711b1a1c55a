"""Shares: what a user asks for.

A share is one of four values: no GPU, a number of blocks (310 is three whole GPUs and ten
blocks of a fourth), an amount of GPU memory (the system picks the piece), or a MIG profile.
``read_share`` is the only reader of their text form and ``str(share)`` its exact inverse.

Memory is asked in GB of 10^9 bytes, as products are named, so that "20 GB" is met by a
``2g.20gb`` slice of 19,968 MiB; what a notebook gets is shown in GiB, as tools measure it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from aliquot.domain.currency import BLOCKS_PER_GPU

MAX_BLOCKS = 1_000_000
MAX_MEGABYTES = 1_000_000_000
MAX_TEXT = 64
_BYTES_PER_MIB = 1 << 20


class Kind(StrEnum):
    """The kinds of piece that a group may be allowed."""

    SLICE = "slice"
    BLOCKS = "blocks"
    WHOLE = "whole"


ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class CpuOnly:
    """No GPU: needs no quota, no lease and no ledger."""

    def __str__(self) -> str:
        return "cpu"


@dataclass(frozen=True, slots=True)
class Blocks:
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_BLOCKS:
            raise ValueError(f"a share has 1 to {MAX_BLOCKS} blocks, got {self.count}")

    @property
    def whole_gpus(self) -> int:
        return self.count // BLOCKS_PER_GPU

    @property
    def rest(self) -> int:
        """Blocks beyond the whole GPUs, 0 to 99."""
        return self.count % BLOCKS_PER_GPU

    def __str__(self) -> str:
        return f"{self.count} block{'' if self.count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Memory:
    """At least this much GPU memory, in MB of 10^6 bytes."""

    megabytes: int

    def __post_init__(self) -> None:
        if not 1 <= self.megabytes <= MAX_MEGABYTES:
            raise ValueError(f"a share has 1 to {MAX_MEGABYTES} MB, got {self.megabytes}")

    @property
    def mib(self) -> int:
        """The same in MiB, rounded up."""
        return -(-self.megabytes * 1_000_000 // _BYTES_PER_MIB)

    def __str__(self) -> str:
        return f"{Decimal(self.megabytes).scaleb(-3).normalize():f} GB"


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG instance of a profile, named as NVIDIA does: ``1g.10gb``, ``1g.10gb+me``."""

    profile: str

    def __post_init__(self) -> None:
        if not _PROFILE.fullmatch(self.profile):
            raise ValueError(f"not a MIG profile name: {self.profile[:MAX_TEXT]!r}")

    def __str__(self) -> str:
        return self.profile


Share = CpuOnly | Blocks | Memory | Slice

_PROFILE = re.compile(r"[1-9]g\.[1-9][0-9]{0,3}gb(?:[+-][a-z]{1,4}(?:\.all)?)?", re.ASCII)
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,3}))?\s*([a-z]*)", re.ASCII)
_CPU_WORDS = frozenset({"cpu", "none", "0 blocks"})
_UNITS = {
    "": "blocks",
    "block": "blocks",
    "blocks": "blocks",
    "gb": "gb",
    "gpu": "gpus",
    "gpus": "gpus",
}


def read_share(text: str) -> Share | None:
    """Read ``cpu``, ``30 blocks``, ``30``, ``3.1 gpus``, ``20 GB`` or ``1g.10gb``.

    Returns None for anything else; the caller, who knows the field, words the refusal.
    A fraction of a block is not rounded: ``0.305 gpus`` is unreadable.
    """
    word = text.strip().lower() if len(text) <= MAX_TEXT else ""
    if word in _CPU_WORDS:
        return CpuOnly()
    if _PROFILE.fullmatch(word):
        return Slice(word)
    match = _AMOUNT.fullmatch(word)
    unit = _UNITS.get(match[3]) if match else None
    if match is None or unit is None:
        return None
    thousandths = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0"))
    per_thousandths = {"blocks": 1000, "gpus": 1000 // BLOCKS_PER_GPU, "gb": 1}[unit]
    amount, rest = divmod(thousandths, per_thousandths)
    if rest or amount < 1:
        return None
    if unit == "gb":
        return Memory(amount) if amount <= MAX_MEGABYTES else None
    return Blocks(amount) if amount <= MAX_BLOCKS else None
