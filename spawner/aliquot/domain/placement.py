"""Placement: which GPUs a share goes to.

Pure. Takes an Inventory, the Books and a share, returns a Placement or a NoRoom.

Best fit: of the GPUs with room, the one left with the fewest free blocks wins, so that whole
GPUs stay whole for those who need one; ties go to the earlier GPU. The same input always
gives the same placement.

A combination (310 blocks) takes free whole GPUs and the rest on one more, all of one model on
one node. MIG instances never join others: a CUDA process sees only one of them (NVIDIA MIG
User Guide, device enumeration).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

from aliquot.domain.books import Books
from aliquot.domain.currency import BLOCKS_PER_GPU, ONE_GPU, cost_of_blocks
from aliquot.domain.inventory import Gpu, Inventory, MigDevice
from aliquot.domain.leases import Piece, Placement
from aliquot.domain.shares import Blocks, CpuOnly, Memory, Share, Slice


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The share has no place now. ``free_blocks`` counts everything free of that sort,
    ``largest_blocks`` the largest share of that sort that has a place."""

    free_blocks: int = 0
    largest_blocks: int = 0
    free_slices: int = 0
    all_slices: int = 0


def place(
    share: Share, inventory: Inventory, books: Books, *, model: str | None, isolated: bool
) -> Placement | NoRoom:
    """Find the pieces of a share.

    ``model`` restricts the GPUs; ``isolated`` asks for hardware isolation, that is a MIG
    instance or whole GPUs. CpuOnly has an empty placement.
    """
    gpus = tuple(gpu for gpu in inventory.gpus if model is None or gpu.model == model)
    match share:
        case CpuOnly():
            return Placement(())
        case Slice(profile):
            return _place_slice(gpus, books, lambda _gpu, device: device.profile == profile)
        case Blocks() if isolated and share.count < BLOCKS_PER_GPU:
            return _place_isolated_blocks(gpus, books, share.count)
        case Blocks():
            return _place_blocks(gpus, books, lambda _gpu: share.count, isolated)
        case Memory():
            return _place_memory(gpus, books, share.mib, isolated)
        case _:
            assert_never(share)


def free_blocks_of(gpu: Gpu, books: Books) -> int:
    """Blocks that can still be given out of a GPU, 0 for one in MIG mode."""
    return 0 if gpu.mig_enabled else max(0, BLOCKS_PER_GPU - books.use_of(gpu.uuid).blocks)


def _room_for_rest(gpu: Gpu, books: Books) -> int:
    """Blocks free for a share of less than a GPU."""
    if gpu.blocks_by is None:
        return 0
    if gpu.max_sharers is not None and books.use_of(gpu.uuid).sharers >= gpu.max_sharers:
        return 0
    return free_blocks_of(gpu, books)


def _is_wholly_free(gpu: Gpu, books: Books) -> bool:
    return not gpu.mig_enabled and books.use_of(gpu.uuid).is_free


def _pools(gpus: Iterable[Gpu]) -> Iterator[tuple[Gpu, ...]]:
    """GPUs that may be combined: one model on one node."""

    def key(gpu: Gpu) -> tuple[str, str]:
        return gpu.node, gpu.model

    for _, pool in groupby(sorted(gpus, key=key), key=key):
        yield tuple(pool)


def _place_blocks(
    gpus: tuple[Gpu, ...], books: Books, blocks_on: Callable[[Gpu], int], isolated: bool
) -> Placement | NoRoom:
    """``blocks_on`` tells how many blocks the share is on a GPU: memory differs by model."""
    best: tuple[tuple[int, int, int], Placement] | None = None
    for pool in _pools(gpus):
        wanted = blocks_on(pool[0])
        wholes, rest = divmod(wanted, BLOCKS_PER_GPU)
        if rest and isolated:
            wholes, rest = wholes + 1, 0
        free = [gpu for gpu in pool if _is_wholly_free(gpu, books)]
        free_uuids = {gpu.uuid for gpu in free}
        host: Gpu | None = None
        if rest:
            room = [
                (left, gpu.index, gpu)
                for gpu in pool
                if (left := _room_for_rest(gpu, books) - rest) >= 0
            ]
            # A free GPU hosts the rest only if enough others stay for the whole ones.
            room = [
                entry for entry in room if len(free) - (entry[2].uuid in free_uuids) >= wholes
            ]
            if not room:
                continue
            left, _, host = min(room, key=lambda entry: entry[:2])
        elif len(free) < wholes:
            continue
        else:
            left = 0
        chosen = [gpu for gpu in free if gpu is not host][:wholes]
        pieces = [_blocks_piece(gpu, BLOCKS_PER_GPU) for gpu in chosen]
        if host is not None:
            pieces.append(_blocks_piece(host, rest))
        first = (*chosen, *([host] if host is not None else ()))[0]
        rank = (wanted, left, _order_of(gpus, first))
        if best is None or rank < best[0]:
            best = rank, Placement(tuple(pieces))
    if best is not None:
        return best[1]
    return _no_blocks(gpus, books)


def _order_of(gpus: tuple[Gpu, ...], gpu: Gpu) -> int:
    return next(place for place, other in enumerate(gpus) if other is gpu)


def _no_blocks(gpus: tuple[Gpu, ...], books: Books) -> NoRoom:
    free, largest = 0, 0
    for pool in _pools(gpus):
        wholes = sum(_is_wholly_free(gpu, books) for gpu in pool)
        parts = [
            room
            for gpu in pool
            if not _is_wholly_free(gpu, books) and (room := _room_for_rest(gpu, books))
        ]
        free += wholes * BLOCKS_PER_GPU + sum(parts)
        largest = max(largest, wholes * BLOCKS_PER_GPU + max(parts, default=0))
    return NoRoom(free_blocks=free, largest_blocks=largest)


def _blocks_piece(gpu: Gpu, blocks: int) -> Piece:
    cost = ONE_GPU if blocks == BLOCKS_PER_GPU else cost_of_blocks(blocks)
    return Piece(gpu.uuid, gpu.model, blocks, gpu.memory_of_blocks(blocks), cost)


def _slice_piece(gpu: Gpu, device: MigDevice) -> Piece:
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


def _place_slice(
    gpus: tuple[Gpu, ...], books: Books, wanted: Callable[[Gpu, MigDevice], bool]
) -> Placement | NoRoom:
    """The cheapest free instance that is wanted; then on the GPU with the fewest left free."""
    best: tuple[tuple[int, int, int, int, int, str], Placement] | None = None
    found = free_count = 0
    for order, gpu in enumerate(gpus):
        devices = [device for device in gpu.mig_devices if wanted(gpu, device)]
        found += len(devices)
        used = books.use_of(gpu.uuid).mig_uuids
        free = [device for device in devices if device.uuid not in used]
        free_count += len(free)
        left = sum(device.uuid not in used for device in gpu.mig_devices)
        for device in free:
            cost = gpu.cost_of(device)
            start = -1 if device.start is None else device.start
            rank = (cost.blocks, device.memory_mib, left, order, start, device.uuid)
            if best is None or rank < best[0]:
                best = rank, Placement((_slice_piece(gpu, device),))
    if best is not None:
        return best[1]
    return NoRoom(free_slices=free_count, all_slices=found)


def _place_isolated_blocks(gpus: tuple[Gpu, ...], books: Books, count: int) -> Placement | NoRoom:
    """Blocks with hardware isolation: the smallest instance that is at least as large."""
    cost = cost_of_blocks(count)
    return _place_slice(gpus, books, lambda gpu, device: cost.fits_in(gpu.cost_of(device)))


def _place_memory(
    gpus: tuple[Gpu, ...], books: Books, mib: int, isolated: bool
) -> Placement | NoRoom:
    """The cheapest piece that carries the memory; on a tie the isolated one."""
    slices = _place_slice(gpus, books, lambda _gpu, device: device.memory_mib >= mib)
    blocks = _place_blocks(gpus, books, lambda gpu: gpu.blocks_for_memory(mib), isolated)
    found = [option for option in (slices, blocks) if isinstance(option, Placement)]
    if found:
        return min(found, key=lambda placement: placement.cost.blocks)
    assert isinstance(slices, NoRoom) and isinstance(blocks, NoRoom)
    return NoRoom(
        free_blocks=blocks.free_blocks,
        largest_blocks=blocks.largest_blocks,
        free_slices=slices.free_slices,
        all_slices=slices.all_slices,
    )
