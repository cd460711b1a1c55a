"""What every source of an inventory owes, and how it says that it cannot."""

from __future__ import annotations

from typing import Protocol

from aliquot.domain.inventory import Inventory


class GpuStateUnreadable(Exception):
    """The GPUs cannot be read now. The text is a whole sentence for the admin: what, why and
    what to do. The allocator answers it: GPU launches pause, CPU launches go on."""


class NoDriver(GpuStateUnreadable):
    """No NVIDIA driver is installed or loaded, which on a machine without GPUs is no fault."""


class InventorySource(Protocol):
    """Where an inventory comes from.

    Every implementation owes: each ``read`` looks anew and carries its own ``read_at``;
    GPUs come in a fixed order; what exists but cannot be given out is left out and named in
    the notes, with what to do; the call returns or raises in bounded time.
    """

    def read(self) -> Inventory:
        """Blocks for as long as a driver or a file takes; call it off the event loop.

        Raises GpuStateUnreadable.
        """
        ...
