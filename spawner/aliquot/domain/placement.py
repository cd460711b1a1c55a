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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

from aliquot.domain.books import Books, GpuUse
from aliquot.domain.currency import BLOCKS_PER_GPU, cost_of_blocks
from aliquot.domain.inventory import Gpu, Inventory, MigDevice
from aliquot.domain.leases import Placement
from aliquot.domain.mig_geometry import Placed, geometries
from aliquot.domain.pieces import blocks_piece, slice_piece
from aliquot.domain.shares import ALL_KINDS, Blocks, CpuOnly, Kind, Memory, Share, Slice


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The share has no place now. ``free_blocks`` counts everything free of that sort,
    ``largest_blocks`` the largest share of that sort that has a place."""

    free_blocks: int = 0
    largest_blocks: int = 0
    free_slices: int = 0
    all_slices: int = 0


def place(
    share: Share,
    inventory: Inventory,
    books: Books,
    *,
    model: str | None = None,
    isolated: bool = False,
    kinds: frozenset[Kind] = ALL_KINDS,
) -> Placement | NoRoom:
    """Find the pieces of a share.

    ``model`` restricts the GPUs, ``kinds`` the sorts of piece; ``isolated`` asks for hardware
    isolation, that is a MIG instance or whole GPUs. CpuOnly has an empty placement.
    """
    room = _Room(inventory, books, model, kinds)
    match share:
        case CpuOnly():
            return Placement(())
        case Slice(profile):
            return _place_slice(room, lambda _gpu, device: device.profile == profile)
        case Blocks() if isolated and share.count < BLOCKS_PER_GPU:
            return _place_isolated_blocks(room, share.count)
        case Blocks():
            return _place_blocks(room, lambda _gpu: share.count, isolated)
        case Memory():
            return _place_memory(room, share.mib, isolated)
        case _:
            assert_never(share)


@dataclass(frozen=True, slots=True)
class _Room:
    """What may be given: the machine, less what the books, the model and the kinds rule out."""

    inventory: Inventory
    books: Books
    model: str | None
    kinds: frozenset[Kind]

    def use_of(self, gpu: Gpu) -> GpuUse:
        """What is given out of a GPU: by the books, and in the world beside them."""
        use = self.books.use_of(gpu.uuid)
        for held in self.inventory.held_on.get(gpu.uuid, ()):
            if not self.books.has_open(held.lease_id):
                use = use.with_held(held.blocks, held.mig_uuid)
        return use

    def pools(self) -> Iterator[tuple[Gpu, ...]]:
        for pool in self.inventory.pools:
            if self.model in (None, pool[0].model):
                yield pool

    def free_in(self, pool: tuple[Gpu, ...]) -> tuple[list[Gpu], list[tuple[int, Gpu]]]:
        """The wholly free GPUs, and every GPU with the blocks that a share of less than a
        GPU could have there (free ones among them)."""
        free: list[Gpu] = []
        parts: list[tuple[int, Gpu]] = []
        blocks_allowed = Kind.BLOCKS in self.kinds
        for gpu in pool:
            use = self.use_of(gpu)
            if use.mig_uuids:
                # Out of MIG mode since these were leased: nothing is sold twice meanwhile.
                continue
            if use.is_free and gpu.replica_blocks is None:
                free.append(gpu)
            if not blocks_allowed or gpu.blocks_by is None or use.blocks >= BLOCKS_PER_GPU:
                continue
            if gpu.max_sharers is None or use.sharers < gpu.max_sharers:
                left = BLOCKS_PER_GPU - use.blocks
                if gpu.replica_blocks is None:
                    parts.append((left, gpu))
                elif left >= gpu.replica_blocks:
                    parts.append((gpu.replica_blocks, gpu))
        return free, parts


def _place_blocks(
    room: _Room, blocks_on: Callable[[Gpu], int], isolated: bool
) -> Placement | NoRoom:
    """``blocks_on`` tells how many blocks the share is on a GPU: memory differs by model."""
    best: tuple[tuple[int, int, int], Placement] | None = None
    for pool in room.pools():
        wanted = blocks_on(pool[0])
        wholes, rest = divmod(wanted, BLOCKS_PER_GPU)
        if rest and isolated:
            wholes, rest = wholes + 1, 0
        if wholes and rest and not pool[0].engine.combines:
            continue
        if wholes > len(pool) or (wholes and Kind.WHOLE not in room.kinds):
            continue
        free, parts = room.free_in(pool)
        left, host = 0, None
        if rest:
            # A free GPU hosts the rest only where no begun one can, since it is left with
            # more; it is then missing below if the whole ones need it.
            fitting = [(blocks - rest, gpu.index, gpu) for blocks, gpu in parts if blocks >= rest]
            if not fitting:
                continue
            left, _, host = min(fitting, key=lambda entry: entry[:2])
            rest = host.replica_blocks or rest
        chosen = [gpu for gpu in free if gpu is not host][:wholes]
        if len(chosen) < wholes:
            continue
        pieces = [blocks_piece(gpu, BLOCKS_PER_GPU) for gpu in chosen]
        if host is not None:
            pieces.append(blocks_piece(host, rest))
        rank = (wanted, left, room.inventory.order[pieces[0].gpu_uuid])
        if best is None or rank < best[0]:
            best = rank, Placement(tuple(pieces))
    return _no_blocks(room, isolated) if best is None else best[1]


def _no_blocks(room: _Room, isolated: bool) -> NoRoom:
    total, largest = 0, 0
    for pool in room.pools():
        free, parts = room.free_in(pool)
        if isolated:
            parts = []
        if Kind.WHOLE in room.kinds:
            wholes = len(free) * BLOCKS_PER_GPU
            rests = [blocks for blocks, gpu in parts if gpu not in free]
        else:
            wholes = 0
            rests = [min(blocks, BLOCKS_PER_GPU - 1) for blocks, _ in parts]
        total += wholes + sum(rests)
        part = max(rests, default=0)
        together = wholes + part if pool[0].engine.combines else max(wholes, part)
        largest = max(largest, together)
    return NoRoom(free_blocks=total, largest_blocks=largest)


def _place_slice(room: _Room, wanted: Callable[[Gpu, MigDevice], bool]) -> Placement | NoRoom:
    """The cheapest free instance that is wanted; then on the GPU with the fewest left free."""
    if Kind.SLICE not in room.kinds:
        return NoRoom()
    best: tuple[tuple[int, int, int, int, int, str], Gpu, MigDevice] | None = None
    found = free_count = 0
    for gpu in room.inventory.gpus:
        if not gpu.mig_devices or room.model not in (None, gpu.model):
            continue
        devices = [device for device in gpu.mig_devices if wanted(gpu, device)]
        found += len(devices)
        use = room.use_of(gpu)
        # Into MIG mode since its blocks were leased: nothing is sold twice meanwhile.
        free = [] if use.blocks else [d for d in devices if d.uuid not in use.mig_uuids]
        if gpu.makes_instances:
            free = _makeable(gpu, free, use)
        if not free:
            continue
        free_count += len(free)
        left = sum(device.uuid not in use.mig_uuids for device in gpu.mig_devices)
        order = room.inventory.order[gpu.uuid]
        for device in free:
            start = -1 if device.start is None else device.start
            blocks = gpu.cost_of(device).blocks
            rank = (blocks, device.memory_mib, left, order, start, device.uuid)
            if best is None or rank < best[0]:
                best = rank, gpu, device
    if best is None:
        return NoRoom(free_slices=free_count, all_slices=found)
    return Placement((slice_piece(best[1], best[2]),))


def _makeable(gpu: Gpu, wanted: list[MigDevice], use: GpuUse) -> list[MigDevice]:
    """Those of the wanted instances that can stand beside the ones in use."""
    geometry = geometries()[gpu.model]

    def placed(device: MigDevice) -> Placed:
        assert device.start is not None
        return Placed(device.profile, device.start)

    standing = [placed(device) for device in gpu.mig_devices if device.uuid in use.mig_uuids]
    return [d for d in wanted if geometry.why_illegal([*standing, placed(d)]) is None]


def _place_isolated_blocks(room: _Room, count: int) -> Placement | NoRoom:
    """Blocks with hardware isolation: the smallest instance that is at least as large."""
    cost = cost_of_blocks(count)
    return _place_slice(room, lambda gpu, device: cost.fits_in(gpu.cost_of(device)))


def _place_memory(room: _Room, mib: int, isolated: bool) -> Placement | NoRoom:
    """The cheapest piece that carries the memory; on a tie the isolated one."""
    slices = _place_slice(room, lambda _gpu, device: device.memory_mib >= mib)
    blocks = _place_blocks(room, lambda gpu: gpu.blocks_for_memory(mib), isolated)
    if isinstance(slices, NoRoom) and isinstance(blocks, NoRoom):
        return NoRoom(
            free_blocks=blocks.free_blocks,
            largest_blocks=blocks.largest_blocks,
            free_slices=slices.free_slices,
            all_slices=slices.all_slices,
        )
    found = [option for option in (slices, blocks) if isinstance(option, Placement)]
    return min(found, key=lambda placement: placement.cost.blocks)
