"""What was really granted: read back from the pod and its claims, beside the lease.

Pure. Each engine tells differently: HAMi by annotations on the pod, DRA in the claim's status,
KAI by the fraction that it bound and a group id, NVIDIA's device plugin by the node alone. What
an engine does not tell is left open, and never guessed from the lease.

Everything here was written by somebody else: what cannot be read is said to be unreadable.

Sources: HAMi 4707fb0, pkg/device/devices.go (EncodePodSingleDevice) and
pkg/device/nvidia/mig_allocations.go; ``resource.k8s.io/v1``, DeviceRequestAllocationResult;
KAI-Scheduler d5bc503, pkg/common/constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aliquot.bindings import granted_dra, granted_hami, granted_plain
from aliquot.bindings.granted_pieces import Given, Unreadable
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Inventory
from aliquot.domain.kubernetes_values import mapping, text
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.uncertain import Doubt, GrantDoubt


class Told(StrEnum):
    """How much the engine tells. ``DEVICES``: the very GPU or instance, and how much of it.
    ``NODE``: that, but not which device. ``NOTHING``: not yet, or the GPUs are gone.
    ``UNREADABLE``: something that is not of the form that the engine writes."""

    DEVICES = "devices"
    NODE = "node"
    NOTHING = "nothing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Difference:
    """Both sides of one thing: ``node``, ``device``, ``profile``, ``blocks``, ``memory_mib`` or
    ``count`` (of pieces, or of a resource)."""

    what: str
    booked: str
    given: str


@dataclass(frozen=True, slots=True)
class Granted:
    """``placement`` is what the engine gave, as far as it tells devices; else None.

    ``said`` are the engine's own words, shortened, for an admin.
    """

    told: Told
    placement: Placement | None = None
    differences: tuple[Difference, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether nothing that is told contradicts the books."""
        return self.told in (Told.DEVICES, Told.NODE) and not self.differences


def granted(
    pod: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    lease: Lease,
    inventory: Inventory,
) -> Granted:
    """What the pod of a lease was given. ``claims`` are the ResourceClaims of the pod."""
    booked = lease.placement.pieces
    gpus = [inventory.by_uuid.get(piece.gpu_uuid) for piece in booked]
    first = gpus[0] if gpus else None
    if first is None or None in gpus:
        return Granted(Told.NOTHING)
    try:
        given = _given(first.engine, pod, claims, booked, inventory)
    except Unreadable as error:
        return Granted(Told.UNREADABLE, said={"unreadable": _short(str(error))})
    differences: list[Difference] = []
    node = text(mapping(pod, "spec"), "nodeName")
    if node and node != first.node:
        differences.append(Difference("node", first.node, node))
    said = {name: _short(value) for name, value in given.said.items()}
    for name, wanted, found in given.counts:
        if wanted != found:
            differences.append(Difference("count", f"{wanted} {name}", f"{found} {name}"))
    if given.blocks is not None:
        asked = sum(piece.blocks for piece in booked)
        if given.blocks != asked:
            differences.append(Difference("blocks", str(asked), str(given.blocks)))
    if given.pieces is None:
        told = Told.NODE if node and given.is_final else Told.NOTHING
        return Granted(told, None, tuple(differences), said)
    differences += _between(booked, given.pieces)
    placement = lease.placement if Counter(booked) == Counter(given.pieces) else None
    if placement is None:
        ordered = sorted(given.pieces, key=lambda piece: -piece.blocks)
        placement = Placement(tuple(ordered))
    return Granted(Told.DEVICES, placement, tuple(differences), said)


def doubt_of(found: Granted, booked: Placement) -> GrantDoubt | None:
    """What of a grant the books cannot follow; None where they agree, or follow the engine to
    the devices that it tells."""
    if found.told is Told.UNREADABLE:
        return GrantDoubt(Doubt.GRANT_UNREADABLE, found.said["unreadable"])
    if found.differences and found.placement in (None, booked):
        sides = "; ".join(f"{d.what}: {d.booked} → {d.given}" for d in found.differences)
        return GrantDoubt(Doubt.GRANT_CONTRADICTED, _short(sides))
    return GrantDoubt(Doubt.GRANT_UNTOLD) if found.told is Told.NOTHING else None


def _given(
    engine: Engine,
    pod: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    booked: tuple[Piece, ...],
    inventory: Inventory,
) -> Given:
    match engine:
        case Engine.HAMI:
            return granted_hami.cards(pod, inventory)
        case Engine.HAMI_MIG:
            return granted_hami.instances(pod, inventory)
        case Engine.KAI:
            return granted_plain.by_kai(pod, booked, inventory)
        case Engine.DRA_NVIDIA | Engine.DRA_HAMI:
            return granted_dra.by_claims(claims, booked, inventory)
        case _:
            return granted_plain.by_plugin(pod, booked, inventory)


def _between(booked: Iterable[Piece], given: Iterable[Piece]) -> list[Difference]:
    """Piece by piece: those of as much face each other where the ledger could not name the
    GPU, those of one GPU where it could, then the rest in order."""
    asked, got = Counter(booked), Counter(given)
    left, right = list((asked - got).elements()), list((got - asked).elements())
    pairs: list[tuple[Piece, Piece]] = []
    for piece in [*left]:
        facing = next((other for other in right if _face(piece, other)), None)
        if facing is not None:
            pairs.append((piece, facing))
            left.remove(piece)
            right.remove(facing)
    pairs += zip(left, right, strict=False)
    found = [difference for pair in pairs for difference in _sides(*pair)]
    if len(left) != len(right):
        found.append(Difference("count", f"{asked.total()} pieces", f"{got.total()} pieces"))
    return found


def _face(booked: Piece, given: Piece) -> bool:
    if _is_named(booked):
        return booked.gpu_uuid == given.gpu_uuid
    return (booked.profile, booked.cost) == (given.profile, given.cost)


def _is_named(piece: Piece) -> bool:
    """Whether the GPU's UUID is its driver's, so that it could be asked for."""
    return piece.gpu_uuid.startswith("GPU-")


def _sides(booked: Piece, given: Piece) -> list[Difference]:
    """A device that the ledger had only its own name for could not be asked for: another of
    the same kind is then no difference, and the placement follows the engine."""
    device = booked.gpu_uuid, given.gpu_uuid
    if booked.mig_uuid is not None and booked.mig_uuid.startswith("MIG-"):
        device = booked.mig_uuid, given.mig_uuid or given.gpu_uuid
    elif not _is_named(booked):
        device = "", ""
    sides = (
        ("device", *device),
        ("profile", booked.profile or "none", given.profile or "none"),
        ("blocks", str(booked.blocks), str(given.blocks)),
        ("memory_mib", str(booked.memory_mib), str(given.memory_mib)),
    )
    return [Difference(*side) for side in sides if side[1] != side[2]]


def _short(said: str) -> str:
    return said if len(said) <= 200 else said[:199] + "…"
