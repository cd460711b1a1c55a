"""State: what the handlers of one service share."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.allocator import Allocator
from aliquot.service.reconciling import Reconciler


@dataclass(frozen=True, slots=True)
class ServiceState:
    """``open_metrics_on_loopback``: a scraper on this machine needs no token, as long as it
    does not come through the proxy."""

    allocator: Allocator
    reconciler: Reconciler
    open_metrics_on_loopback: bool = False
