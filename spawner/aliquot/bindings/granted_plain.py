"""What NVIDIA's device plugin and KAI gave: how much, but not which device.

The plugin's choice is known to the kubelet alone. KAI writes a group id on the pod, and the
card's number on its reservation pod; neither is a UUID.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aliquot.bindings.granted_pieces import Given, Unreadable
from aliquot.bindings.kai import FRACTION
from aliquot.bindings.pod_reading import containers
from aliquot.domain.inventory import Inventory
from aliquot.domain.kubernetes_values import mapping, text, whole_number
from aliquot.domain.leases import Piece
from aliquot.domain.shares import Kind

GROUP = "runai-gpu-group"

_FRACTION = re.compile(r"0?\.(\d{1,2})0{0,8}")


def by_plugin(pod: Mapping[str, Any], booked: tuple[Piece, ...], inventory: Inventory) -> Given:
    wanted = Counter(_resource(piece, inventory) for piece in booked)
    found: Counter[str] = Counter()
    for _, container in containers(pod):
        for name, quantity in mapping(container, "resources", "limits").items():
            if name in wanted:
                found[name] += _count(quantity)
    counts = tuple((name, wanted[name], found[name]) for name in sorted(wanted))
    return Given(counts=counts, said={name: str(found[name]) for name in sorted(wanted)})


def by_kai(pod: Mapping[str, Any], booked: tuple[Piece, ...], inventory: Inventory) -> Given:
    if all(piece.kind is not Kind.BLOCKS for piece in booked):
        return by_plugin(pod, booked, inventory)
    fraction = text(mapping(pod, "metadata", "annotations"), FRACTION)
    read = _FRACTION.fullmatch(fraction)
    if read is None:
        raise Unreadable(f"{FRACTION} is {fraction[:40]!r}")
    group = text(mapping(pod, "metadata", "labels"), GROUP)
    said = {FRACTION: fraction} | ({GROUP: group} if group else {})
    # The group's label comes with the card; before that nothing is given yet.
    return Given(blocks=int(read[1].ljust(2, "0")), said=said, is_final=bool(group))


def _resource(piece: Piece, inventory: Inventory) -> str:
    gpu = inventory.by_uuid[piece.gpu_uuid]
    for device in gpu.mig_devices:
        if device.uuid == piece.mig_uuid:
            return device.offered_as
    return gpu.offered_as


def _count(quantity: object) -> int:
    read = whole_number(quantity)
    if read is None:
        raise Unreadable(f"a limit is {str(quantity)[:40]!r}")
    return read
