"""The allocator: reserve, activate, release, reconcile.

It brings together what the other rooms know: discovery says what exists, storage what is
held, the domain decides, a binding translates. It decides nothing itself.

Everything here blocks (a database, a driver) and is safe to call from several threads; the
spawners and the service call it off their event loops.

A GPU that cannot be accounted for is not given: when the books or the GPUs cannot be read,
the answer is a refusal that says so. Servers without a GPU never come here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from aliquot.bindings.kubernetes import bind_pod
from aliquot.bindings.local import bind_local
from aliquot.bindings.patches import NotBindable, ProcessPatch
from aliquot.discovery import GpuStateUnreadable, InventorySource, source_for
from aliquot.discovery.leftovers import Leftovers, leftovers_for
from aliquot.discovery.marked_processes import deployment_mark
from aliquot.domain.admission import explain
from aliquot.domain.availability import Availability, availability
from aliquot.domain.inventory import KUBERNETES, Inventory
from aliquot.domain.judging import Grant, No, Situation, Unreadable, judge
from aliquot.domain.leases import Lease, Person, Placement, Server
from aliquot.domain.reconciliation import Corrections, LiveServer, World, reconcile
from aliquot.domain.refusals import WITHOUT_GPU, Ask, Reason, Refusal, Remedy, RemedyKind
from aliquot.domain.shares import Share
from aliquot.domain.uncertain import Doubt, GrantDoubt, strays
from aliquot.settings import Settings
from aliquot.storage import Ledger, LedgerUnavailable, Reservation, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reserved:
    """A lease that is held, and how it reaches the notebook."""

    lease: Lease
    patch: ProcessPatch
    simulated: bool


class Allocator:
    """One a process. The database is opened at the first use, so that a hub starts without."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        source: InventorySource,
        settings: Settings,
        leftovers: Leftovers | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._open_store = open_store
        self._source = source
        self._settings = settings
        self._leftovers = leftovers or leftovers_for(settings.gpu_source, settings.database_url)
        self._now = now
        self._store: Store | None = None
        self._store_lock = threading.Lock()
        self._inventory: Inventory | Unreadable | None = None
        self._inventory_lock = threading.Lock()

    @classmethod
    @lru_cache(maxsize=8)
    def from_settings(cls, settings: Settings) -> Allocator:
        """The process's allocator for these settings, always the same one."""
        return cls(
            lambda: Store.open(
                settings.database_url, busy_wait_seconds=settings.database_wait_seconds
            ),
            source_for(
                settings.gpu_source,
                simulated_machine=settings.simulated_machine,
                mps_pipe_directory=settings.mps_pipe_directory,
                allow_advisory_blocks=settings.allow_advisory_blocks,
                binding=settings.binding,
                ledger_mark=deployment_mark(settings.database_url),
            ),
            settings,
        )

    @property
    def store(self) -> Store:
        """Raises LedgerUnavailable while the database cannot be opened."""
        with self._store_lock:
            if self._store is None:
                self._store = self._open_store()
            return self._store

    def inventory(self, *, max_age_seconds: float | None = None) -> Inventory | Unreadable:
        """What exists, at most so old; by default as old as the settings allow."""
        limit = self._settings.inventory_max_age_seconds
        limit = limit if max_age_seconds is None else max_age_seconds
        with self._inventory_lock:
            known = self._inventory
            if isinstance(known, Inventory):
                age = (self._now() - known.read_at).total_seconds()
                if 0 <= age <= limit:
                    return known
            self._inventory = self._read_inventory(known)
            return self._inventory

    def _read_inventory(self, known: Inventory | Unreadable | None) -> Inventory | Unreadable:
        try:
            return self._source.read()
        except GpuStateUnreadable as error:
            why = str(error)
            if known != Unreadable(why):
                log.warning("GPU launches pause: %s", why)
            return Unreadable(why)

    def situation(
        self, ledger: Ledger, inventory: Inventory | Unreadable | None = None
    ) -> Situation:
        """What decisions on this ledger depend on; the inventory as it is known, if not given."""
        if inventory is None:
            inventory = self.inventory()
        return Situation(ledger.tree, ledger.books, inventory, ledger.weights)

    def availability(
        self, person: Person, asked: Ask, also: Sequence[Share] = ()
    ) -> Availability | Refusal:
        """What the person may start, of the presets, the slices and the shares in ``also``.

        The Refusal says that the books cannot be read.
        """
        try:
            ledger = self.store.ledger()
        except LedgerUnavailable as error:
            return self._ledger_refusal(error)
        presets = (*ledger.presets, *also)
        return availability(asked, person, self.situation(ledger), presets)

    def reserve(
        self, ask: Ask, person: Person, server: Server, lease_id: str, options: Mapping[str, str]
    ) -> Reserved | No:
        """Hold a piece for a server that is about to start, or say why not.

        A lease that the same server still holds is replaced: it belongs to an attempt that
        is over. The GPUs are read anew, outside of the transaction, so that a slow driver
        keeps no lock.
        """
        inventory = self.inventory(max_age_seconds=0)
        reservation = Reservation(lease_id, person, server, options, at=self._now())

        try:
            decision = self.store.reserve(
                reservation, lambda ledger: judge(ask, person, self.situation(ledger, inventory))
            )
            if not isinstance(decision, Grant):
                # After the transaction: finding remedies takes long enough to hold up others.
                return explain(
                    decision, ask, person, self.situation(self.store.ledger(), inventory)
                )
        except LedgerUnavailable as error:
            return self._ledger_refusal(error)
        assert isinstance(inventory, Inventory)
        try:
            lease = reservation.lease(decision)
            patch = self.bind(lease, inventory)
        except NotBindable as error:
            log.error("lease %s given back: %s", lease_id, error)
            self.release(lease_id, "not_bindable")
            return Refusal(Reason.GPU_STATE_UNREADABLE, {"detail": str(error)}, (WITHOUT_GPU,))
        return Reserved(lease, patch, inventory.simulated)

    def bind(self, lease: Lease, inventory: Inventory) -> ProcessPatch:
        """The patch of a lease: a PodPatch where the GPUs are a cluster's."""
        if inventory.source == KUBERNETES:
            return bind_pod(lease, inventory, self._settings.pod_policy)
        return bind_local(lease.placement, inventory, self._settings.mps_pipe_directory)

    def activate(self, lease_id: str) -> bool:
        """The server answers. Raises LedgerUnavailable; the reconciler then does it later."""
        return self.store.activate(lease_id, self._now())

    def granted(
        self, lease_id: str, placement: Placement | None, doubt: GrantDoubt | None = None
    ) -> Lease | None:
        """Write what an engine really gave, as far as it tells, and what is in doubt of it; the
        lease as it is then, for its server to carry, or None when it is not open any more.
        Raises LedgerUnavailable."""
        store = self.store
        if not store.put_granted(lease_id, placement, self._now(), doubt):
            return None
        if (sides := store.differing_grants().get(lease_id)) is not None:
            placed, given = (side.words for side in sides)
            log.warning("lease %s: placed %s, the engine gave %s", lease_id, placed, given)
        return store.lease(lease_id)

    def release(self, lease_id: str, why: str) -> bool:
        """Give a lease back; False when it was not open. Raises LedgerUnavailable, and the
        reconciler then finds the lease without a server."""
        return self.store.release(lease_id, why, self._now())

    def release_server(self, spawner_id: int, why: str) -> list[str]:
        """Give back all that a server holds, whatever the attempt."""
        return self.store.release_server(spawner_id, why, self._now())

    def reconcile(
        self,
        open_leases: Iterable[Lease],
        servers: Iterable[LiveServer],
        missing_before: Collection[str],
        suspected_before: Collection[tuple[Doubt, str]] = (),
    ) -> Corrections:
        """Bring books, servers and pods together; see ``domain.reconciliation`` for the rules.

        ``open_leases`` must have been read before ``servers`` were listed.
        """
        leases, servers = tuple(open_leases), tuple(servers)
        world = self.world(leases, servers)
        corrections = reconcile(leases, servers, missing_before, world, suspected_before)
        for lease in corrections.release:
            # The hub that would have ended what still runs under it is gone.
            self._leftovers.end(lease.id, lease.server.spawner_id)
            if self.release(lease.id, "server_gone"):
                log.warning("lease %s of %s released: no such server", lease.id, lease.user_name)
        for lease in corrections.readopt:
            if self.store.readopt(lease, "server_lives"):
                log.warning("lease %s of %s taken back: it lives", lease.id, lease.user_name)
        for lease in corrections.activate:
            self.activate(lease.id)
        for lease_id in corrections.end:
            self._leftovers.end(lease_id)
        return corrections

    def world(self, leases: Collection[Lease], servers: Iterable[LiveServer]) -> World:
        """What reconciliation looks at beside these open leases and servers."""
        inventory = self.inventory()
        over: frozenset[str] = frozenset()
        if isinstance(inventory, Inventory):
            carried = {server.lease.id for server in servers if server.lease is not None}
            found = strays(inventory, {lease.id for lease in leases}, carried)
            known = [self.store.lease(lease_id) for lease_id in found]
            over = frozenset(lease.id for lease in known if lease and not lease.is_open)
        return World(
            inventory,
            must_be_read=self._settings.gpu_source == KUBERNETES,
            over=over,
            grants=self.store.differing_grants(),
            doubts=self.store.grant_doubts(),
        )

    def _ledger_refusal(self, error: LedgerUnavailable) -> Refusal:
        log.error("GPU launches pause: %s", error)
        remedies = (Remedy(RemedyKind.ASK_ADMIN), WITHOUT_GPU)
        return Refusal(Reason.LEDGER_UNAVAILABLE, {"detail": str(error)}, remedies)
