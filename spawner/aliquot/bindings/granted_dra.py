"""What a DRA driver gave: the allocation in the claim's status.

A result names its request, its device and what it consumed of it, and not the device's UUID.
A request that was held to certain UUIDs can only have got those; else the device is found by
the name that discovery makes of node, pool and device, or by the place that NVIDIA's driver
writes into the name of an instance (``gpu-0-mig-1g10gb-19-3``: at slot 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aliquot.bindings.dra import PART, SLICE, WHOLES
from aliquot.bindings.granted_pieces import Given, Unreadable, gpu_named, part_of
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.kubernetes_values import MIB, mapping, rows, text, whole_number
from aliquot.domain.leases import Piece
from aliquot.domain.pieces import slice_piece
from aliquot.domain.shares import Kind

_AT_SLOT = re.compile(r"gpu-\d{1,4}-mig-[a-z0-9.-]+-\d{1,4}-(\d{1,2})")
_MAX_DEVICES = 64


def by_claims(
    claims: Sequence[Mapping[str, Any]], booked: tuple[Piece, ...], inventory: Inventory
) -> Given:
    results = [row for claim in claims for row in _results(claim)]
    if not results:
        return Given(is_final=False)
    if len(results) > _MAX_DEVICES:
        raise Unreadable(f"the claims hold {len(results)} devices")
    waiting = {
        WHOLES: [piece for piece in booked if piece.kind is Kind.WHOLE],
        PART: [piece for piece in booked if piece.kind is Kind.BLOCKS],
        SLICE: [piece for piece in booked if piece.kind is Kind.SLICE],
    }
    said = {_place(row): _words(row) for row in results}
    return Given(tuple(_piece(row, waiting, inventory) for row in results), said=said)


def _results(claim: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Without those of admin access, which look on and hold nothing."""
    devices = mapping(claim, "status", "allocation", "devices")
    return (row for row in rows(devices, "results") if row.get("adminAccess") is not True)


def _piece(
    row: Mapping[str, Any], waiting: Mapping[str, list[Piece]], inventory: Inventory
) -> Piece:
    # "whole-1" is a second request for whole GPUs; "name/subrequest" does not occur in ours.
    request = text(row, "request").partition("-")[0]
    booked = waiting.get(request)
    if not booked:
        raise Unreadable(f"a device was given for request {text(row, 'request')[:40]!r}")
    asked = booked[0]
    asked_gpu = gpu_named(asked.gpu_uuid, inventory)
    named = f"{asked_gpu.node}/{text(row, 'pool')}/{text(row, 'device')}"
    if request == SLICE:
        found = _instance(named, text(row, "device"), asked, asked_gpu, inventory)
        booked.pop(0)
        return slice_piece(*found)
    if asked.gpu_uuid.startswith("GPU-"):
        gpu = asked_gpu
        booked.pop(0)
    else:
        gpu = gpu_named(named, inventory)
        booked.remove(next((p for p in booked if p.gpu_uuid == gpu.uuid), asked))
    cores, memory_mib = _consumed(row, gpu)
    return part_of(gpu, cores, memory_mib)


def _instance(
    named: str, device_name: str, asked: Piece, gpu: Gpu, inventory: Inventory
) -> tuple[Gpu, MigDevice]:
    for other in inventory.gpus:
        for device in other.mig_devices:
            if device.uuid == named:
                return other, device
    if not gpu.makes_instances and (asked.mig_uuid or "").startswith("MIG-"):
        return gpu, next(d for d in gpu.mig_devices if d.uuid == asked.mig_uuid)
    at = _AT_SLOT.fullmatch(device_name)
    for device in gpu.mig_devices:
        if at and device.profile == asked.profile and device.start == int(at[1]):
            return gpu, device
    raise Unreadable(f"device {device_name[:80]!r} is no instance of GPU {gpu.uuid[:80]}")


def _consumed(row: Mapping[str, Any], gpu: Gpu) -> tuple[int, int]:
    """Percent of compute, and MiB. A device that is not shared is given whole; NVIDIA's shares
    stand for both, as the ledger counts them."""
    consumed = {
        name.rpartition("/")[2]: value for name, value in mapping(row, "consumedCapacity").items()
    }
    if not consumed:
        return BLOCKS_PER_GPU, gpu.memory_mib
    if gpu.blocks_by is BlocksBy.SHARES:
        shares = _number(consumed.get("shares"))
        return shares, gpu.memory_of_blocks(min(shares, BLOCKS_PER_GPU))
    return (
        _number(consumed.get("cores")) or BLOCKS_PER_GPU,
        _number(consumed.get("memory")) // MIB,
    )


def _number(quantity: object) -> int:
    read = whole_number(quantity)
    if read is None:
        raise Unreadable(f"a capacity is {str(quantity)[:40]!r}")
    return read


def _place(row: Mapping[str, Any]) -> str:
    return "/".join(text(row, name) for name in ("driver", "pool", "device", "shareID")).strip("/")


def _words(row: Mapping[str, Any]) -> str:
    consumed = mapping(row, "consumedCapacity")
    return ", ".join(f"{name} {consumed[name]}" for name in sorted(consumed, key=str)) or "whole"
