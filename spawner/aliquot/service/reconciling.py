"""Reconciling: the loop that keeps the books and the Hub's servers in step.

A pass reads the open leases first and the servers after, then lets the allocator correct.
At start a second pass follows after a few seconds, since a lease is released only when it was
missing twice; from then on there is one every minute.

When either side cannot be read nothing is released: the pass is skipped, told by ``/health``
and tried again after a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from aliquot.allocator import Allocator
from aliquot.domain.leases import Lease
from aliquot.domain.reconciliation import LiveServer
from aliquot.service.hub_servers import HubUnreadable
from aliquot.service.models import utc_now
from aliquot.storage import LedgerUnavailable

log = logging.getLogger(__name__)

SOON_SECONDS = 5.0
EVERY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How reconciliation stands. ``owners`` maps lease ids to the Hub's present name of the
    server's user, which after a rename differs from the name on the lease."""

    checked_at: datetime | None = None
    trouble: str | None = "no pass has ended yet"
    released: int = 0
    readopted: int = 0
    activated: int = 0
    passes: int = 0
    missing: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def owner_of(self, lease: Lease) -> str:
        return self.owners.get(lease.id, lease.user_name)


class Reconciler:
    """One a service. ``standing`` is replaced as a whole after each pass."""

    def __init__(
        self,
        allocator: Allocator,
        list_servers: Callable[[], Awaitable[tuple[LiveServer, ...]]],
    ) -> None:
        self._allocator = allocator
        self._list_servers = list_servers
        self.standing = Standing()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.one_pass()
            # At its start the Hub may not answer yet; the minute begins with two good passes.
            settled = self.standing.trouble is None and self.standing.passes >= 2
            await asyncio.sleep(EVERY_SECONDS if settled else SOON_SECONDS)

    async def one_pass(self) -> None:
        """One comparison. Faults become ``standing.trouble``, told once while they last."""
        before = self.standing
        try:
            leases = await asyncio.to_thread(self._open_leases)
            servers = await self._list_servers()
            corrections = await asyncio.to_thread(
                self._allocator.reconcile, leases, servers, before.missing
            )
        except (HubUnreadable, LedgerUnavailable) as error:
            self._in_trouble(str(error))
            return
        except Exception as error:
            log.exception("a pass of reconciliation failed")
            self._in_trouble(f"unexpected {type(error).__name__}")
            return
        if before.trouble is not None and before.passes:
            log.info("reconciliation works again")
        self.standing = Standing(
            checked_at=utc_now(),
            trouble=None,
            released=before.released + len(corrections.release),
            readopted=before.readopted + len(corrections.readopt),
            activated=before.activated + len(corrections.activate),
            passes=before.passes + 1,
            missing=corrections.missing,
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
