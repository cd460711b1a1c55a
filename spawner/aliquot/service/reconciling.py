"""Reconciling: the loop that keeps the books and the Hub's servers in step.

A pass reads the open leases first and the servers after, then lets the allocator correct.
At start a second pass follows after a few seconds, since a lease is released only when it was
missing twice; from then on there is one every minute, or as often as the admin has set.

When a side cannot be read nothing is released: that is told by ``/health``, and tried again
after a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from aliquot.allocator import Allocator
from aliquot.domain.leases import Lease
from aliquot.domain.reconciliation import Corrections, LiveServer
from aliquot.domain.uncertain import Doubt, Uncertain
from aliquot.service.hub_servers import HubUnreadable
from aliquot.service.models import utc_now
from aliquot.settings import Settings
from aliquot.storage import LedgerUnavailable

log = logging.getLogger(__name__)

SOON_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How reconciliation stands. ``owners`` maps lease ids to the Hub's present name of the
    server's user, which after a rename differs from the name on the lease. ``uncertain`` is
    what the last pass left to the admin, ``doubts`` counts what came up since the start."""

    checked_at: datetime | None = None
    trouble: str | None = "no pass has ended yet"
    released: int = 0
    readopted: int = 0
    activated: int = 0
    passes: int = 0
    missing: frozenset[str] = frozenset()
    suspected: frozenset[tuple[Doubt, str]] = frozenset()
    uncertain: tuple[Uncertain, ...] = ()
    doubts: Mapping[Doubt, int] = field(default_factory=lambda: MappingProxyType({}))
    owners: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def owner_of(self, lease: Lease) -> str:
        return self.owners.get(lease.id, lease.user_name)


class Reconciler:
    """One a service. ``standing`` is replaced as a whole after each pass."""

    def __init__(
        self,
        allocator: Allocator,
        list_servers: Callable[[], Awaitable[tuple[LiveServer, ...]]],
        every_seconds: float = Settings.reconcile_seconds,
    ) -> None:
        self._allocator = allocator
        self._list_servers = list_servers
        self._every_seconds = every_seconds
        self.standing = Standing()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.one_pass()
            # At its start the Hub may not answer yet; the minute begins with two good passes.
            settled = self.standing.trouble is None and self.standing.passes >= 2
            soon_seconds = min(SOON_SECONDS, self._every_seconds)
            await asyncio.sleep(self._every_seconds if settled else soon_seconds)

    async def one_pass(self) -> None:
        """One comparison. Faults become ``standing.trouble``, told once while they last."""
        before = self.standing
        try:
            leases = await asyncio.to_thread(self._open_leases)
            servers = await self._list_servers()
            corrections = await asyncio.to_thread(
                self._allocator.reconcile, leases, servers, before.missing, before.suspected
            )
        except (HubUnreadable, LedgerUnavailable) as error:
            self._in_trouble(str(error))
            return
        except Exception as error:
            log.exception("a pass of reconciliation failed")
            self._in_trouble(f"unexpected {type(error).__name__}")
            return
        if corrections.trouble is not None:
            self._in_trouble(corrections.trouble)
        elif before.trouble is not None and before.passes:
            log.info("reconciliation works again")
        if not corrections.saw_world:
            corrections = replace(
                corrections, uncertain=before.uncertain, suspected=before.suspected
            )
        new = _told(before.uncertain, corrections)
        self.standing = Standing(
            checked_at=utc_now() if corrections.trouble is None else before.checked_at,
            trouble=corrections.trouble,
            released=before.released + len(corrections.release),
            readopted=before.readopted + len(corrections.readopt),
            activated=before.activated + len(corrections.activate),
            passes=before.passes + 1,
            missing=corrections.missing,
            suspected=corrections.suspected,
            uncertain=corrections.uncertain,
            doubts=MappingProxyType(Counter(before.doubts) + Counter(one.kind for one in new)),
            owners=MappingProxyType({s.lease.id: s.user_name for s in servers if s.lease}),
        )

    def _open_leases(self) -> tuple[Lease, ...]:
        return tuple(self._allocator.store.ledger().books.leases)

    def _in_trouble(self, trouble: str) -> None:
        if trouble != self.standing.trouble:
            log.warning("reconciliation waits, nothing is released: %s", trouble)
        # ``missing`` is kept: a lease that was missing before a short fault of the Hub is
        # still only once missing, and the next good pass is its second.
        self.standing = replace(self.standing, trouble=trouble)


def _told(before: tuple[Uncertain, ...], corrections: Corrections) -> list[Uncertain]:
    """What was not uncertain in the pass before; each is logged once."""
    new = [one for one in corrections.uncertain if one not in before]
    for one in new:
        log.warning("uncertain: %s", one.sentence())
    for kind, about in {(one.kind, one.about) for one in before} - {
        (one.kind, one.about) for one in corrections.uncertain
    }:
        log.info("certain again: %s of lease %s", kind.value, about)
    return new
