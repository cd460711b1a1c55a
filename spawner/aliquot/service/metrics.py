"""Metrics: the books for Prometheus, read at each scrape.

Names follow JupyterHub's: its prefix (``JUPYTERHUB_METRICS_PREFIX``, default ``jupyterhub``),
then ``aliquot``, base units, ``_total`` on counters only. Labels ``usergroup`` and
``username`` join with the Hub's own metrics.

What cannot be read is left out, never 0; ``…_ledger_readable`` and ``…_gpu_state_readable``
say which.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aliquot.domain.currency import NOTHING, Cost
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import LeaseState
from aliquot.domain.receipts import Verdict, judge_receipt
from aliquot.domain.uncertain import Doubt
from aliquot.service.models import utc_now
from aliquot.service.state import ServiceState
from aliquot.storage import LedgerUnavailable


def exposition(state: ServiceState) -> bytes:
    """The text that Prometheus scrapes. Blocks on the database and the driver."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Books(state, os.environ.get("JUPYTERHUB_METRICS_PREFIX", "jupyterhub")))
    return generate_latest(registry)


class Books(Collector):
    """One scrape."""

    def __init__(self, state: ServiceState, prefix: str) -> None:
        self._state = state
        self._prefix = f"{prefix}_aliquot" if prefix else "aliquot"

    def describe(self) -> Iterator[Metric]:
        # Registering must not read the database.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._ledger()
        yield from self._gpus()
        yield from self._reconciliation()

    def _gauge(
        self, name: str, text: str, rows: dict[tuple[str, ...], float], labels: tuple[str, ...] = ()
    ) -> Metric:
        family = GaugeMetricFamily(f"{self._prefix}_{name}", text, labels=labels)
        for values, number in rows.items():
            family.add_metric(values, number)
        return family

    def _counter(
        self, name: str, text: str, rows: dict[tuple[str, ...], float], labels: tuple[str, ...]
    ) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=labels)
        for values, number in rows.items():
            family.add_metric(values, number)
        return family

    def _ledger(self) -> Iterator[Metric]:
        try:
            ledger = self._state.allocator.store.ledger()
            receipts = self._state.allocator.store.open_receipts()
        except LedgerUnavailable:
            yield self._gauge("ledger_readable", "1 when the ledger can be read", {(): 0})
            return
        yield self._gauge("ledger_readable", "1 when the ledger can be read", {(): 1})
        groups = ledger.tree.groups
        yield self._gauge(
            "held_blocks",
            "Blocks charged to a group and those below it by open leases",
            {(name,): ledger.books.held_by_group(name).blocks for name in groups},
            ("usergroup",),
        )
        yield self._gauge(
            "nominal_blocks",
            "Blocks that a group may hold",
            {(name,): groups[name].quota.nominal.whole_blocks_within for name in groups},
            ("usergroup",),
        )
        mine: dict[tuple[str, ...], Cost] = {}
        states = Counter({state.value: 0 for state in (LeaseState.RESERVED, LeaseState.ACTIVE)})
        for lease in ledger.books.leases:
            owner = self._state.reconciler.standing.owner_of(lease)
            key = (lease.group, owner)
            mine[key] = mine.get(key, NOTHING) + lease.charge
            states[lease.state.value] += 1
        yield self._gauge(
            "user_held_blocks",
            "Blocks charged to a group by one person's open leases",
            {key: cost.blocks for key, cost in mine.items()},
            ("usergroup", "username"),
        )
        yield self._gauge(
            "leases",
            "Open leases by state",
            {(state,): count for state, count in states.items()},
            ("state",),
        )
        inventory = self._state.allocator.inventory()
        verdicts = Counter(
            judge_receipt(lease, inventory, receipts[lease.id]).verdict.value
            if lease.id in receipts
            else "none"
            for lease in ledger.books.leases
        )
        yield self._gauge(
            "receipts",
            "Open leases by what their notebook saw of them; 'none' has not told yet",
            {(verdict,): verdicts[verdict] for verdict in (*map(str, Verdict), "none")},
            ("verdict",),
        )

    def _gpus(self) -> Iterator[Metric]:
        inventory = self._state.allocator.inventory()
        readable = isinstance(inventory, Inventory)
        yield self._gauge(
            "gpu_state_readable", "1 when GPUs can be read; GPU starts pause at 0", {(): readable}
        )
        if not isinstance(inventory, Inventory):
            return
        models = Counter(gpu.model for gpu in inventory.gpus)
        yield self._gauge(
            "gpus",
            "GPUs that are seen, by model",
            {(model,): count for model, count in models.items()},
            ("gpu_model",),
        )
        age = max(0.0, (utc_now() - inventory.read_at).total_seconds())
        yield self._gauge("inventory_age_seconds", "Age of the list of GPUs", {(): age})
        yield self._gauge("simulated", "1 when the GPUs are simulated", {(): inventory.simulated})

    def _reconciliation(self) -> Iterator[Metric]:
        standing = self._state.reconciler.standing
        yield self._counter(
            "reconciliation_corrections",
            "Corrections since the service started, by what was done",
            {
                ("released",): standing.released,
                ("readopted",): standing.readopted,
                ("activated",): standing.activated,
            },
            ("action",),
        )
        now = Counter(one.kind for one in standing.uncertain)
        yield self._gauge(
            "findings",
            "What the admin has to look at now, see api/findings",
            {(kind.value,): now[kind] for kind in Doubt},
            ("kind",),
        )
        yield self._counter(
            "uncertain",
            "What came to be uncertain since the service started",
            {(kind.value,): standing.doubts.get(kind, 0) for kind in Doubt},
            ("kind",),
        )
        yield self._gauge(
            "reconciliation_ok",
            "1 when the last pass could compare books and servers",
            {(): standing.trouble is None},
        )
        if standing.checked_at is not None:
            age = max(0.0, (utc_now() - standing.checked_at).total_seconds())
            yield self._gauge(
                "reconciliation_age_seconds",
                "Time since books and servers were last compared",
                {(): age},
            )
