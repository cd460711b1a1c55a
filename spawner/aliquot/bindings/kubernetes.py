"""Which binding a lease takes on a cluster."""

from __future__ import annotations

from aliquot.bindings.patches import NotBindable
from aliquot.bindings.pods import PodPatch, PodPolicy
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease


def bind_pod(lease: Lease, inventory: Inventory, policy: PodPolicy) -> PodPatch:
    """Translate a lease into what its pod must ask for.

    Raises NotBindable when a GPU or a MIG instance of the placement is gone, or its node has
    changed its engine.
    """
    raise NotBindable("No engine of the cluster can be bound yet.")
