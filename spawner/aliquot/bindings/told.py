"""What a notebook process is told about its lease: the variable ``ALIQUOT_LEASE``.

The notebook's side reads it to know which devices are its own and what to call them. It is
information, not authority: the books are the hub's.
"""

from __future__ import annotations

import json
from typing import Any

from aliquot.bindings.patches import ProcessPatch
from aliquot.domain.lease_json import utc_text
from aliquot.domain.leases import Lease
from aliquot.domain.shares import Kind


def told(lease: Lease, patch: ProcessPatch, *, simulated: bool) -> str:
    """Compact JSON of at most a few KB."""
    placement = lease.placement
    message: dict[str, Any] = {
        "version": 1,
        "lease_id": lease.id,
        "group": lease.group,
        "kind": _kind(placement.kinds),
        "blocks": placement.cost.blocks,
        "memory_mib": placement.memory_mib,
        "pieces": [
            {
                "gpu_uuid": piece.gpu_uuid,
                "gpu_model": piece.gpu_model,
                "mig_uuid": piece.mig_uuid,
                "profile": piece.profile,
                "blocks": piece.blocks,
                "memory_mib": piece.memory_mib,
                "whole": piece.kind is Kind.WHOLE,
            }
            for piece in placement.pieces
        ],
        "enforcement": {
            "memory": patch.enforcement.memory.value,
            "compute": patch.enforcement.compute.value,
            "by": patch.enforcement.by,
        },
        "thread_percentage": patch.thread_percentage,
        "since": utc_text(lease.reserved_at),
        "until": utc_text(lease.until),
        "simulated": simulated,
        "notes": list(patch.notes),
    }
    return json.dumps(message, separators=(",", ":"))


def _kind(kinds: frozenset[Kind]) -> str:
    return "mixed" if len(kinds) > 1 else next(iter(kinds)).value
