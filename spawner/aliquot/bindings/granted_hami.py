"""What HAMi gave: its scheduler's annotations on the pod, as pieces of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aliquot.bindings.granted_pieces import Given, Unreadable, gpu_named, part_of
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.hami_annotations import (
    ALLOCATED,
    INSTANCES,
    HamiDevice,
    HamiInstance,
    devices_of,
    instances_of,
)
from aliquot.domain.inventory import Inventory
from aliquot.domain.kubernetes_values import mapping, text
from aliquot.domain.leases import Piece
from aliquot.domain.pieces import slice_piece

_MAX_DEVICES = 64


def cards(pod: Mapping[str, Any], inventory: Inventory) -> Given:
    written = text(mapping(pod, "metadata", "annotations"), ALLOCATED)
    devices = devices_of(written)
    if not devices:
        return Given(is_final=False)
    if len(devices) > _MAX_DEVICES:
        raise Unreadable(f"{ALLOCATED} has {len(devices)} devices")
    return Given(tuple(_card(device, inventory) for device in devices), said={ALLOCATED: written})


def _card(device: HamiDevice, inventory: Inventory) -> Piece:
    if device.cores is None or device.memory_mib is None:
        raise Unreadable(f"{ALLOCATED} does not tell how much of {device.gpu_uuid[:80]!r} it is")
    gpu = gpu_named(device.gpu_uuid, inventory)
    # 0 cores is no limit of compute: all of it can be used.
    return part_of(gpu, device.cores or BLOCKS_PER_GPU, device.memory_mib)


def instances(pod: Mapping[str, Any], inventory: Inventory) -> Given:
    written = text(mapping(pod, "metadata", "annotations"), INSTANCES)
    if not written:
        return Given(is_final=False)
    found = instances_of(written)
    if not found or len(found) > _MAX_DEVICES:
        raise Unreadable(f"{INSTANCES} is no list of instances")
    return Given(tuple(_instance(one, inventory) for one in found), said={INSTANCES: written})


def _instance(given: HamiInstance, inventory: Inventory) -> Piece:
    """The ledger's instance of that profile at that place; the driver's UUID is the engine's."""
    gpu = gpu_named(given.gpu_uuid, inventory)
    for device in gpu.mig_devices:
        at = (device.profile, device.start)
        if given.start is not None and at == (given.profile, given.start):
            return slice_piece(gpu, device)
    raise Unreadable(f"GPU {gpu.uuid} has no {given.profile[:40]!r} at {given.start}")
