"""Leftovers: what still runs under a lease that is over.

The hub that started a server ends it. When that hub was killed in between, what it had
started is found by its marks, and ended here: processes on this machine, pods in a cluster.
"""

from __future__ import annotations

from typing import Protocol

from aliquot.discovery.marked_processes import deployment_mark, end_marked
from aliquot.domain.inventory import KUBERNETES


class Leftovers(Protocol):
    """One sort of things that servers run as.

    Every implementation owes: only what carries this deployment's mark and that lease's id is
    ever ended; what cannot be ended is logged and asked for again at the next call; the call
    returns in bounded time and never raises for what the world does.
    """

    def end(self, lease_id: str, spawner_id: int | None = None) -> int:
        """Returns how many were asked to end. ``spawner_id`` is None where the lease's row is
        not at hand; pods do not need it. Blocks."""
        ...


class LeftoverProcesses:
    """On this machine."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    def end(self, lease_id: str, spawner_id: int | None = None) -> int:
        if spawner_id is None:
            return 0
        return end_marked(self._database_url, spawner_id=spawner_id, attempt=lease_id)


def leftovers_for(gpu_source: str, database_url: str) -> Leftovers:
    """Those of what the admin has set as the source of GPUs."""
    if gpu_source == KUBERNETES:
        from aliquot.discovery.leftover_pods import LeftoverPods  # an extra of its own

        return LeftoverPods(deployment_mark(database_url))
    return LeftoverProcesses(database_url)
