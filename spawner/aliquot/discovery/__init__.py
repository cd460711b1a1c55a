"""Discovery: what GPUs exist, read from the world into an Inventory.

It touches drivers, files and sockets and decides nothing. What it cannot read it says, in a
GpuStateUnreadable or in the inventory's notes; it never fills in a guess.
"""

from aliquot.discovery.choosing import source_for
from aliquot.discovery.source import GpuStateUnreadable, InventorySource, NoDriver

__all__ = ["GpuStateUnreadable", "InventorySource", "NoDriver", "source_for"]
