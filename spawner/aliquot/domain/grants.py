"""Grants: what the books say of a lease once an engine has told what it really gave.

Pure. An engine may choose another device than the ledger did (DRA among equal ones, HAMi when
its card was taken), or, by a fault, another amount. The pieces then follow the engine, since
what is held in the world is the truth. The charge follows only upwards: who was given more
pays for it, and who was given less keeps the higher charge until an admin has looked, because
a fault must never make room on paper that a GPU may not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aliquot.domain.currency import Cost
from aliquot.domain.leases import Lease, Placement


@dataclass(frozen=True, slots=True)
class Settled:
    """The lease as it is from now on. ``costs_differ`` marks what an admin is shown."""

    lease: Lease
    costs_differ: bool


def settle(lease: Lease, granted: Placement, weights: Mapping[str, int]) -> Settled | None:
    """What to book for a lease whose engine gave ``granted``; None when that stands already.

    Both sides are weighed alike, so that a weight which an admin has changed since the start
    is no difference.
    """
    if not granted.pieces or granted == lease.placement:
        return None
    charge = granted.charge(weights)
    if charge == lease.placement.charge(weights):
        return Settled(replace(lease, placement=granted), costs_differ=False)
    higher = Cost(
        max(lease.charge.compute, charge.compute), max(lease.charge.memory, charge.memory)
    )
    return Settled(replace(lease, placement=granted, charge=higher), costs_differ=True)
