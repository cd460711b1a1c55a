"""Offer: what one node has to give, before anybody holds any of it.

Values, and what all engines need to make them.

A *seat* is what one pod takes of a counted resource: a GPU, a replica of one, or a MIG
instance. Where the engine tells nobody which, the seats of a node are numbered by us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cache

from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Gpu, HeldPiece
from aliquot.domain.mig_geometry import Geometry, geometry_for

# No node is built with more; larger numbers are an error in what is read.
MOST_GPUS = 64


class HeldBy(Enum):
    """Where it is written who holds a node's GPUs."""

    REQUESTS = auto()
    HAMI = auto()
    CLAIMS = auto()


@dataclass(frozen=True, slots=True)
class Offer:
    """``standing`` are pieces that nobody can have whoever asks: unhealthy or cordoned GPUs.
    ``unhealthy`` counts those of which only the number is known, by resource."""

    gpus: tuple[Gpu, ...] = ()
    held_by: HeldBy = HeldBy.REQUESTS
    notes: tuple[str, ...] = ()
    standing: tuple[HeldPiece, ...] = ()
    unhealthy: Mapping[str, int] = field(default_factory=dict)

    def only(self, engine: Engine | None) -> Offer:
        """The part of it that an engine gives; all of it for None."""
        if engine is None or all(gpu.engine is engine for gpu in self.gpus):
            return self
        gpus = tuple(gpu for gpu in self.gpus if gpu.engine is engine)
        kept = {gpu.uuid for gpu in gpus}
        standing = tuple(piece for piece in self.standing if piece.gpu_uuid in kept)
        return Offer(gpus, self.held_by, self.notes, standing, self.unhealthy)


def nothing(*notes: str) -> Offer:
    return Offer(notes=notes)


@cache
def known_geometry(product: str) -> Geometry | None:
    """``geometry_for``, remembered: a cluster has few products and many GPUs."""
    return geometry_for(product)


def parts_of(count: int, of: int) -> int:
    """Blocks that so much of a whole is, rounded up; at least 1, at most a GPU."""
    if of <= 0:
        return BLOCKS_PER_GPU
    return max(1, min(BLOCKS_PER_GPU, -(-count * BLOCKS_PER_GPU // of)))


def in_order(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    return tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid)))
