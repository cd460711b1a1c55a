"""Values that go into the ledger and come out of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aliquot.domain.books import Books
from aliquot.domain.judging import Grant
from aliquot.domain.leases import Lease, LeaseState, Person, Server
from aliquot.domain.quota import GroupTree
from aliquot.domain.shares import Share


@dataclass(frozen=True)
class Ledger:
    """What a decision is made from, as it was at one version.

    Two ledgers of one database with the same ``version`` say the same. ``weights`` names
    only models that count as other than one GPU.
    """

    tree: GroupTree
    books: Books
    weights: Mapping[str, int]
    presets: tuple[Share, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """One attempt to start a server. ``lease_id`` is the attempt's key and never used again;
    ``options`` are the accepted ones, small; ``until`` is None without a time limit."""

    lease_id: str
    person: Person
    server: Server
    options: Mapping[str, str]
    at: datetime
    until: datetime | None = None

    def lease(self, grant: Grant) -> Lease:
        """The lease that a grant with pieces makes of this attempt."""
        assert grant.group is not None
        return Lease(
            id=self.lease_id,
            user_id=self.person.user_id,
            user_name=self.person.name,
            server=self.server,
            group=grant.group,
            charge=grant.charge,
            placement=grant.placement,
            state=LeaseState.RESERVED,
            reserved_at=self.at,
            until=self.until,
            options=self.options,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the audit: who did what to which object. Never changed, never removed.

    ``kind`` is ``lease.reserved``, ``lease.activated``, ``lease.granted``, ``lease.released``,
    ``lease.readopted``, ``groups.saved`` or ``presets.saved``; ``object`` the lease's id, or
    ``groups``, ``presets``. ``before`` is None for what did not exist.
    """

    id: int
    at: datetime
    actor: str
    kind: str
    object: str
    before: Any
    after: Any
    why: str
