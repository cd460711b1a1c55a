"""What HAMi gave: its scheduler's annotations on the pod.

``hami.io/vgpu-devices-allocated`` holds ``UUID,NVIDIA,MiB,cores`` with ``:`` after each device
and ``;`` after each container; ``hami.io/vgpu-mig-allocations`` a JSON array with the parent,
the profile and the placement of each instance. Both are there once the pod has a node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aliquot.bindings.granted_pieces import Given, Unreadable, gpu_named, part_of
from aliquot.bindings.pod_reading import mapping, text
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Piece
from aliquot.domain.pieces import slice_piece

ALLOCATED = "hami.io/vgpu-devices-allocated"
INSTANCES = "hami.io/vgpu-mig-allocations"

_MAX_DEVICES = 64


def cards(pod: Mapping[str, Any], inventory: Inventory) -> Given:
    written = text(mapping(pod, "metadata", "annotations"), ALLOCATED)
    entries = [entry for entry in written.replace(";", ":").split(":") if entry]
    if not entries:
        return Given(is_final=False)
    if len(entries) > _MAX_DEVICES:
        raise Unreadable(f"{ALLOCATED} has {len(entries)} devices")
    return Given(tuple(_card(entry, inventory) for entry in entries), said={ALLOCATED: written})


def _card(entry: str, inventory: Inventory) -> Piece:
    fields = entry.split(",")
    if len(fields) != 4 or not all(_is_count(field) for field in fields[2:]):
        raise Unreadable(f"{ALLOCATED} has {entry[:80]!r}")
    gpu = gpu_named(fields[0], inventory)
    # 0 cores is no limit of compute: all of it can be used.
    return part_of(gpu, int(fields[3]) or BLOCKS_PER_GPU, int(fields[2]))


def _is_count(written: str) -> bool:
    return written.isascii() and written.isdigit() and len(written) < 10


def instances(pod: Mapping[str, Any], inventory: Inventory) -> Given:
    written = text(mapping(pod, "metadata", "annotations"), INSTANCES)
    if not written:
        return Given(is_final=False)
    try:
        rows = json.loads(written)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not 0 < len(rows) <= _MAX_DEVICES:
        raise Unreadable(f"{INSTANCES} is no list of instances")
    return Given(tuple(_instance(row, inventory) for row in rows), said={INSTANCES: written})


def _instance(row: object, inventory: Inventory) -> Piece:
    """The ledger's instance of that profile at that place; the driver's UUID is the engine's."""
    gpu = gpu_named(text(row, "gpuUUID"), inventory)
    profile, start = text(row, "profile"), mapping(row, "placement").get("start")
    for device in gpu.mig_devices:
        if device.profile == profile and type(start) is int and device.start == start:
            return slice_piece(gpu, device)
    raise Unreadable(f"GPU {gpu.uuid} has no {profile[:40]!r} at {str(start)[:40]}")
