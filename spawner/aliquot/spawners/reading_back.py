"""Reading back: what the engine really gave a running pod, written into the books.

Looks until the engine has told something that the books agree with, or can follow, and less
and less often: so what is told late, or cannot be read now, is not lost, and a doubt that ends
is taken back. The Hub that finds a server again after its own restart looks again too.

A look costs no request where the engine tells on the pod, which is watched anyway; where it
tells in claims, one for each claim.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aliquot.allocator import Allocator
from aliquot.bindings.granted import doubt_of, granted
from aliquot.domain.inventory import Inventory
from aliquot.domain.leases import Lease
from aliquot.domain.uncertain import Doubt

FIRST_SECONDS = 5.0
MOST_SECONDS = 300.0

Pod = dict[str, Any]


async def read_back(
    allocator: Allocator,
    lease: Lease,
    see: Callable[[], Awaitable[tuple[Pod, list[Pod]] | None]],
    keep: Callable[[Lease], None],
    log: logging.Logger | Any,
    first_seconds: float = FIRST_SECONDS,
) -> None:
    """Until it is certain, or cancelled: who gives the lease back does that.

    ``see`` gives the pod and its claims, None while there is no pod; ``keep`` takes the lease
    as it is booked after a look. Whatever goes wrong is told once and tried again.
    """
    wait_seconds, told, is_first = first_seconds, "", True
    while True:
        try:
            booked, certain = await _look(allocator, lease, see, is_first)
        except Exception as error:
            if told != repr(error):
                told = repr(error)
                log.warning("lease %s: what was granted is not known yet: %s", lease.id, told)
        else:
            if booked is not None:
                lease = booked
                keep(booked)
            if certain:
                return
        is_first = False
        await asyncio.sleep(wait_seconds)
        wait_seconds = min(wait_seconds * 3, MOST_SECONDS)


async def _look(
    allocator: Allocator,
    lease: Lease,
    see: Callable[[], Awaitable[tuple[Pod, list[Pod]] | None]],
    is_first: bool,
) -> tuple[Lease | None, bool]:
    """The lease as it is booked after it, None where nothing was booked; and whether that is
    certain."""
    seen = await see()
    inventory = await asyncio.to_thread(allocator.inventory)
    if not isinstance(inventory, Inventory):
        return None, False
    if inventory.simulated:
        return None, True
    if seen is None or any(p.gpu_uuid not in inventory.by_uuid for p in lease.placement.pieces):
        return None, False
    found = granted(*seen, lease, inventory)
    doubt = doubt_of(found, lease.placement)
    if is_first and doubt is not None and doubt.kind is Doubt.GRANT_UNTOLD:
        # The engine may be a moment behind the pod.
        return None, False
    # None: the books have lost the lease, and the reconciler puts it back from the server.
    booked = await asyncio.to_thread(allocator.granted, lease.id, found.placement, doubt)
    return booked, booked is not None and doubt is None
