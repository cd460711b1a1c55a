"""Pending room: who is where a waiting pod wants to go, in numbers for its sentence.

Pure. The ledger had room for the lease, so what a pod waits for was taken in the world since,
or is being given back. Where that cannot be told, nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from aliquot.domain.inventory import Gpu, Inventory
from aliquot.domain.leases import Lease, Piece
from aliquot.domain.refusals import Number


def room_around(
    lease: Lease, inventory: Inventory | None, open_leases: Iterable[Lease]
) -> Mapping[str, Number]:
    """What of the piece's kind exists on its node, and what others use of it.

    Always ``asked``; ``node`` where it is known. For a MIG slice ``used_count`` and
    ``all_count``, for blocks ``held_blocks``; ``ends_at`` when one of the others has an end.
    """
    piece = lease.placement.pieces[0]
    numbers: dict[str, Number] = {"asked": lease.placement.words}
    gpu = inventory.by_uuid.get(piece.gpu_uuid) if inventory is not None else None
    if inventory is None or gpu is None:
        return numbers
    numbers["node"] = gpu.node
    others = [other for other in open_leases if other.is_open and other.id != lease.id]
    if piece.mig_uuid is None:
        held, ends = _blocks_held(piece, lease, inventory, others)
        if held:
            numbers["held_blocks"] = min(held, 100)
    else:
        here = [one for one in inventory.gpus if one.node == gpu.node]
        # Instances that are cut on demand exclude each other: how many there are says little.
        if any(one.makes_instances for one in here):
            return numbers
        used, of_all, ends = _slices_used(piece, lease, inventory, here, others)
        if used:
            numbers |= {"used_count": used, "all_count": of_all}
    if ends:
        numbers["ends_at"] = min(ends)
    return numbers


def _slices_used(
    piece: Piece, lease: Lease, inventory: Inventory, here: list[Gpu], others: list[Lease]
) -> tuple[int, int, list[datetime]]:
    same = {
        device.uuid: gpu.uuid
        for gpu in here
        for device in gpu.mig_devices
        if device.profile == piece.profile
    }
    used: set[str] = set()
    ends: list[datetime] = []
    for other in others:
        mine = {p.mig_uuid for p in other.placement.pieces if p.mig_uuid in same}
        used |= {uuid for uuid in mine if uuid is not None}
        if mine and other.until is not None:
            ends.append(other.until)
    for held in inventory.held:
        if held.lease_id == lease.id:
            continue
        if held.mig_uuid is not None:
            used |= {held.mig_uuid} & same.keys()
        else:
            used |= {uuid for uuid, gpu_uuid in same.items() if gpu_uuid == held.gpu_uuid}
    mine = {p.mig_uuid for p in lease.placement.pieces}
    if used and not same.keys() - used - mine:
        # None is free, says the scheduler: so somebody is in the one that was booked, too.
        used |= same.keys()
    return len(used), len(same), ends


def _blocks_held(
    piece: Piece, lease: Lease, inventory: Inventory, others: list[Lease]
) -> tuple[int, list[datetime]]:
    blocks = 0
    ends: list[datetime] = []
    for other in others:
        mine = sum(p.blocks for p in other.placement.pieces if p.gpu_uuid == piece.gpu_uuid)
        blocks += mine
        if mine and other.until is not None:
            ends.append(other.until)
    # A pod of a lease that the books know counts there.
    in_books = {other.id for other in others} | {lease.id}
    blocks += sum(
        held.blocks
        for held in inventory.held_on.get(piece.gpu_uuid, ())
        if held.lease_id not in in_books
    )
    return blocks, ends
