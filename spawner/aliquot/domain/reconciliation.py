"""Reconciliation: do the books, the Hub's servers and the world still agree?

Pure. Takes the open leases, the servers that live and what the GPUs' source sees, returns
what to do. The caller reads the leases first, the servers after and the world last, so that a
lease made in between is not judged.

A lease without a server is *missing*; it is released only when it was missing in the pass
before too, since a Hub that has just started needs a moment to find its servers again. A
server whose lease the books have lost (restored from an old backup, say) gets it back from
the copy that the server carries: what runs is the truth.

A pod that outlives its lease is ended once two passes have seen it: the id of a lease is
never used again, so nobody can still want it. A pod whose lease the books never had is not
touched; see ``uncertain``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from aliquot.domain import uncertain
from aliquot.domain.inventory import Inventory
from aliquot.domain.judging import Unreadable
from aliquot.domain.leases import Lease, LeaseState, Placement
from aliquot.domain.uncertain import IN_THE_BOOKS, Doubt, GrantDoubt, Uncertain


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that the Hub says is starting, running or stopping, and the lease that it
    carries; None for a server without a GPU."""

    user_name: str
    server_name: str
    lease: Lease | None
    is_ready: bool


@dataclass(frozen=True, slots=True)
class World:
    """What is seen beside books and Hub.

    ``inventory`` is None where it was not looked at. ``must_be_read`` says that leases are
    held by things that only the inventory shows (pods): nothing is released without it.
    ``over`` are those of the pods' leases that the books know as released, ``grants`` the two
    sides of differing grants by lease id, ``doubts`` those grants that could not be booked.
    """

    inventory: Inventory | Unreadable | None = None
    must_be_read: bool = False
    over: frozenset[str] = frozenset()
    grants: Mapping[str, tuple[Placement, Placement]] = field(default_factory=dict)
    doubts: Mapping[str, GrantDoubt] = field(default_factory=dict)

    @property
    def trouble(self) -> str | None:
        """Why nothing may be released, for the admin; None where that may be."""
        if self.must_be_read and not isinstance(self.inventory, Inventory):
            return "no inventory" if self.inventory is None else self.inventory.why
        return None


@dataclass(frozen=True, slots=True)
class Corrections:
    """``missing`` and ``suspected`` are to be handed to the next pass. ``end`` are the ids of
    leases that are over and whose pods are to be ended; ``trouble`` says why nothing was
    released that might have been. Without ``saw_world``, what was uncertain still is."""

    release: tuple[Lease, ...]
    readopt: tuple[Lease, ...]
    activate: tuple[Lease, ...]
    missing: frozenset[str]
    end: tuple[str, ...] = ()
    uncertain: tuple[Uncertain, ...] = ()
    suspected: frozenset[tuple[Doubt, str]] = frozenset()
    trouble: str | None = None
    saw_world: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.release or self.readopt or self.activate or self.end)


def reconcile(
    open_leases: Iterable[Lease],
    servers: Iterable[LiveServer],
    missing_before: Collection[str],
    world: World = World(),
    suspected_before: Collection[tuple[Doubt, str]] = (),
) -> Corrections:
    open_by_id = {lease.id: lease for lease in open_leases}
    carried = {server.lease.id: server for server in servers if server.lease is not None}
    missing = [lease for lease_id, lease in open_by_id.items() if lease_id not in carried]
    ready = [server.lease for server in carried.values() if server.is_ready and server.lease]
    if world.trouble is None:
        release = tuple(lease for lease in missing if lease.id in missing_before)
        missing_now = frozenset(lease.id for lease in missing if lease.id not in missing_before)
    else:
        # Kept, not counted on: the next pass that can see is the second of these.
        release = ()
        missing_now = frozenset(lease.id for lease in missing if lease.id in missing_before)
    served = [open_by_id[lease.id] for lease in ready if lease.id in open_by_id]
    doubted = tuple(_doubted(open_by_id, carried, served, world))
    seen_twice = tuple(one for one in doubted if _is_certain(one, suspected_before))
    return Corrections(
        release=release,
        readopt=tuple(lease for lease in ready if lease.id not in open_by_id),
        activate=tuple(lease for lease in served if lease.state is LeaseState.RESERVED),
        missing=missing_now,
        end=tuple(one.about for one in seen_twice if one.kind is Doubt.POD_LEFT_OVER),
        uncertain=seen_twice,
        suspected=frozenset((one.kind, one.about) for one in doubted),
        trouble=world.trouble,
        saw_world=isinstance(world.inventory, Inventory),
    )


def _doubted(
    open_by_id: Mapping[str, Lease],
    carried: Collection[str],
    served: Iterable[Lease],
    world: World,
) -> Iterable[Uncertain]:
    yield from uncertain.differing(open_by_id.values(), world.grants)
    yield from uncertain.doubted(open_by_id.values(), world.doubts)
    if isinstance(world.inventory, Inventory):
        yield from uncertain.gone(open_by_id.values(), world.inventory)
        yield from uncertain.without_pod(served, world.inventory)
        found = uncertain.strays(world.inventory, open_by_id.keys(), carried)
        yield from uncertain.of_strays(found, world.over)


def _is_certain(one: Uncertain, suspected_before: Collection[tuple[Doubt, str]]) -> bool:
    """Whether it can be told: a pod takes seconds to come and to go, and a look at the world
    is never of the same moment as one at the Hub. What the books say themselves is told at
    once."""
    return one.kind in IN_THE_BOOKS or (one.kind, one.about) in suspected_before
