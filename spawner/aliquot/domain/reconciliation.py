"""Reconciliation: do the books and the Hub's servers still agree?

Pure. Takes the open leases and the servers that live, returns what to do. The caller reads
the leases first and the servers after, so that a lease made in between is not judged.

A lease without a server is *missing*; it is released only when it was missing in the pass
before too, since a Hub that has just started needs a moment to find its servers again. A
server whose lease the books have lost (restored from an old backup, say) gets it back from
the copy that the server carries: what runs is the truth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from aliquot.domain.leases import Lease, LeaseState


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A server that the Hub says is starting, running or stopping, and the lease that it
    carries; None for a server without a GPU."""

    user_name: str
    server_name: str
    lease: Lease | None
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Corrections:
    """``missing`` is to be handed to the next pass."""

    release: tuple[Lease, ...]
    readopt: tuple[Lease, ...]
    activate: tuple[Lease, ...]
    missing: frozenset[str]

    @property
    def is_empty(self) -> bool:
        return not (self.release or self.readopt or self.activate)


def reconcile(
    open_leases: Iterable[Lease],
    servers: Iterable[LiveServer],
    missing_before: Collection[str],
) -> Corrections:
    open_by_id = {lease.id: lease for lease in open_leases}
    carried = {server.lease.id: server for server in servers if server.lease is not None}
    missing = [lease for lease_id, lease in open_by_id.items() if lease_id not in carried]
    ready = [server.lease for server in carried.values() if server.is_ready and server.lease]
    return Corrections(
        release=tuple(lease for lease in missing if lease.id in missing_before),
        readopt=tuple(lease for lease in ready if lease.id not in open_by_id),
        activate=tuple(
            open_by_id[lease.id]
            for lease in ready
            if lease.id in open_by_id and open_by_id[lease.id].state is LeaseState.RESERVED
        ),
        missing=frozenset(lease.id for lease in missing if lease.id not in missing_before),
    )
