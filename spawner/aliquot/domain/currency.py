"""Currency: what a piece of GPU costs, exactly.

A GPU is worth 1400 units of compute and 1400 of memory. 1400 divides by 7, 8, 4 and 100,
so every block count and every MIG profile is a pair of integers and nothing is rounded.
Limits hold for each component; pages show the larger one as blocks, rounded up.

A *block* is 1/100 of one GPU. A *weight* says how many reference GPUs one GPU of a model
counts as, so that one quota can span models; it is a whole number, which keeps costs exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

UNITS_PER_GPU = 1400
BLOCKS_PER_GPU = 100
UNITS_PER_BLOCK = UNITS_PER_GPU // BLOCKS_PER_GPU


@dataclass(frozen=True, slots=True)
class Cost:
    """What a share is charged, in units of 1/1400 GPU."""

    compute: int
    memory: int

    def __post_init__(self) -> None:
        if self.compute < 0 or self.memory < 0:
            raise ValueError(f"a cost is never negative, got {self.compute}, {self.memory}")

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.compute + other.compute, self.memory + other.memory)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.compute * times, self.memory * times)

    def left_of(self, limit: Cost) -> Cost:
        """What remains of ``limit`` after this cost; a component that is over counts as 0."""
        return Cost(max(0, limit.compute - self.compute), max(0, limit.memory - self.memory))

    def fits_in(self, limit: Cost) -> bool:
        return self.compute <= limit.compute and self.memory <= limit.memory

    @property
    def blocks(self) -> int:
        """The larger component as blocks, rounded up: what pages show."""
        return -(-max(self.compute, self.memory) // UNITS_PER_BLOCK)

    @property
    def whole_blocks_within(self) -> int:
        """The smaller component as blocks, rounded down: how many blocks surely fit in it."""
        return min(self.compute, self.memory) // UNITS_PER_BLOCK


NOTHING = Cost(0, 0)
ONE_GPU = Cost(UNITS_PER_GPU, UNITS_PER_GPU)


def cost_of_blocks(blocks: int) -> Cost:
    return Cost(UNITS_PER_BLOCK * blocks, UNITS_PER_BLOCK * blocks)


@cache
def cost_of_slice(
    compute_slices: int, compute_slots: int, memory_slices: int, memory_slots: int
) -> Cost:
    """A MIG instance's part of its GPU.

    Raises ValueError when the part is not a whole number of units. No published geometry
    does that (7 or 4 compute slots, 8, 12 or 4 memory slots); a new one would have to be
    taken into the unit before it can be charged.
    """
    compute, compute_rest = divmod(UNITS_PER_GPU * compute_slices, compute_slots)
    memory, memory_rest = divmod(UNITS_PER_GPU * memory_slices, memory_slots)
    if compute_rest or memory_rest:
        raise ValueError(
            f"{compute_slices}/{compute_slots} compute and {memory_slices}/{memory_slots} memory "
            f"are no whole number of 1/{UNITS_PER_GPU} GPU"
        )
    return Cost(compute, memory)
