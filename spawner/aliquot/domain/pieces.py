"""Pieces of a GPU, as what they are and cost: whoever places one, or reads one back."""

from __future__ import annotations

from aliquot.domain.currency import BLOCKS_PER_GPU, ONE_GPU, cost_of_blocks
from aliquot.domain.inventory import Gpu, MigDevice
from aliquot.domain.leases import Piece


def blocks_piece(gpu: Gpu, blocks: int) -> Piece:
    """Some blocks, or with all 100 the whole GPU."""
    cost = ONE_GPU if blocks == BLOCKS_PER_GPU else cost_of_blocks(blocks)
    return Piece(gpu.uuid, gpu.model, blocks, gpu.memory_of_blocks(blocks), cost)


def slice_piece(gpu: Gpu, device: MigDevice) -> Piece:
    cost = gpu.cost_of(device)
    return Piece(
        gpu.uuid,
        gpu.model,
        cost.blocks,
        device.memory_mib,
        cost,
        mig_uuid=device.uuid,
        profile=device.profile,
    )
