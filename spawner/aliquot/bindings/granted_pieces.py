"""Granted pieces: the form that each engine's word is brought into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aliquot.domain.currency import BLOCKS_PER_GPU, UNITS_PER_BLOCK, UNITS_PER_GPU, Cost
from aliquot.domain.inventory import Gpu, Inventory
from aliquot.domain.leases import Piece
from aliquot.domain.pieces import blocks_piece


class Unreadable(Exception):
    """The engine's word is not of its form. The text says which part."""


@dataclass(frozen=True, slots=True)
class Given:
    """``pieces`` is None where the engine does not tell devices; ``blocks`` what it tells
    instead, ``counts`` numbers of resources as (name, booked, given). ``is_final`` says that
    nothing more will be told."""

    pieces: tuple[Piece, ...] | None = None
    blocks: int | None = None
    counts: tuple[tuple[str, int, int], ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    is_final: bool = True


def gpu_named(uuid: str, inventory: Inventory) -> Gpu:
    gpu = inventory.by_uuid.get(uuid)
    if gpu is None:
        raise Unreadable(f"GPU {uuid[:80]} is not in the inventory")
    return gpu


def part_of(gpu: Gpu, cores: int, memory_mib: int) -> Piece:
    """So many percent of a GPU's compute, and so much of its memory. What is not in proportion
    costs what it is; ``blocks`` is then the larger part."""
    if not 1 <= cores <= BLOCKS_PER_GPU or not 0 <= memory_mib <= gpu.memory_mib:
        raise Unreadable(f"{cores} cores and {memory_mib} MiB are no part of GPU {gpu.uuid[:80]}")
    if memory_mib == gpu.memory_of_blocks(cores):
        return blocks_piece(gpu, cores)
    cost = Cost(cores * UNITS_PER_BLOCK, -(-memory_mib * UNITS_PER_GPU // gpu.memory_mib))
    return Piece(gpu.uuid, gpu.model, cost.blocks, memory_mib, cost)
