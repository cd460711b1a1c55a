"""Leases: what one server holds, and since when.

A lease is reserved before the notebook exists, becomes active when it answers, and is
released once. Only open leases (reserved or active) count as held.

A *piece* is a part of one GPU; a *placement* is the pieces that a share was given. A *server*
is known by ids of the Hub that survive renames: the user's and the spawner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aliquot.domain.currency import BLOCKS_PER_GPU, NOTHING, Cost
from aliquot.domain.json_fields import number, numbers, text, text_or_none
from aliquot.domain.shares import Kind


class LeaseState(StrEnum):
    RESERVED = "reserved"
    ACTIVE = "active"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one GPU: a MIG instance, some blocks, or the whole of it (100 blocks)."""

    gpu_uuid: str
    gpu_model: str
    blocks: int
    memory_mib: int
    cost: Cost
    mig_uuid: str | None = None
    profile: str | None = None

    @property
    def kind(self) -> Kind:
        if self.mig_uuid is not None:
            return Kind.SLICE
        return Kind.WHOLE if self.blocks == BLOCKS_PER_GPU else Kind.BLOCKS

    def to_json(self) -> dict[str, Any]:
        return {
            "gpu_uuid": self.gpu_uuid,
            "gpu_model": self.gpu_model,
            "blocks": self.blocks,
            "memory_mib": self.memory_mib,
            "cost": [self.cost.compute, self.cost.memory],
            "mig_uuid": self.mig_uuid,
            "profile": self.profile,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Piece:
        """The inverse of ``to_json``. Raises KeyError, TypeError or ValueError otherwise."""
        compute, memory = numbers(row, "cost")
        return cls(
            gpu_uuid=text(row, "gpu_uuid"),
            gpu_model=text(row, "gpu_model"),
            blocks=number(row, "blocks", least=1),
            memory_mib=number(row, "memory_mib", least=0),
            cost=Cost(compute, memory),
            mig_uuid=text_or_none(row, "mig_uuid"),
            profile=text_or_none(row, "profile"),
        )


@dataclass(frozen=True, slots=True)
class Placement:
    """The pieces of one share, whole GPUs first."""

    pieces: tuple[Piece, ...]

    @property
    def cost(self) -> Cost:
        """Unweighted: parts of physical GPUs."""
        return sum((piece.cost for piece in self.pieces), NOTHING)

    def charge(self, weights: Mapping[str, int]) -> Cost:
        """The cost times its models' weights, 1 where none is named: what quotas count."""
        costs = (piece.cost * weights.get(piece.gpu_model, 1) for piece in self.pieces)
        return sum(costs, NOTHING)

    @property
    def memory_mib(self) -> int:
        return sum(piece.memory_mib for piece in self.pieces)

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(piece.kind for piece in self.pieces)

    @property
    def words(self) -> str:
        """``1g.10gb`` or ``310 blocks``: the placement as a share's text."""
        profile = self.pieces[0].profile
        if profile is not None:
            return profile
        blocks = sum(piece.blocks for piece in self.pieces)
        return f"{blocks} block{'' if blocks == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the Hub, with the names of the Hub groups that they are in."""

    user_id: int
    name: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Server:
    """Which server a lease is for: the Hub's spawner id, and its name for people."""

    spawner_id: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """An entry of the books. ``charge`` is the placement's cost times the models' weights,
    what quotas count; ``id`` is the spawn attempt that it was made for."""

    id: str
    user_id: int
    user_name: str
    server: Server
    group: str
    charge: Cost
    placement: Placement
    state: LeaseState
    reserved_at: datetime
    active_at: datetime | None = None
    until: datetime | None = None
    options: Mapping[str, str] | None = None

    @property
    def is_open(self) -> bool:
        return self.state is not LeaseState.RELEASED
