"""Leases as JSON: the copy that a server carries, and REST's raw material.

A spawner keeps its lease in its saved state, so that books which have lost it can have it
back. ``lease_from_json`` reads what an earlier version of itself wrote, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aliquot.domain.currency import Cost
from aliquot.domain.json_fields import number, numbers, text
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement, Server


def lease_to_json(lease: Lease) -> dict[str, Any]:
    return {
        "version": 1,
        "id": lease.id,
        "user_id": lease.user_id,
        "user_name": lease.user_name,
        "spawner_id": lease.server.spawner_id,
        "server_name": lease.server.name,
        "group": lease.group,
        "charge": [lease.charge.compute, lease.charge.memory],
        "pieces": [piece.to_json() for piece in lease.placement.pieces],
        "state": lease.state.value,
        "reserved_at": utc_text(lease.reserved_at),
        "active_at": utc_text(lease.active_at),
        "until": utc_text(lease.until),
        "options": None if lease.options is None else dict(lease.options),
    }


def lease_from_json(row: Mapping[str, Any]) -> Lease:
    """Raises ValueError, KeyError or TypeError for what ``lease_to_json`` did not write."""
    if number(row, "version", least=1) != 1:
        raise ValueError(f"a lease of version {row['version']} is newer than this program")
    compute, memory = numbers(row, "charge")
    reserved_at = utc_from_text(row["reserved_at"])
    if reserved_at is None:
        raise ValueError("a lease has a time at which it was reserved")
    pieces = tuple(Piece.from_json(piece) for piece in row["pieces"])
    if not pieces:
        raise ValueError("a lease has at least one piece")
    return Lease(
        id=text(row, "id"),
        user_id=number(row, "user_id", least=0),
        user_name=text(row, "user_name"),
        server=Server(number(row, "spawner_id", least=0), text(row, "server_name")),
        group=text(row, "group"),
        charge=Cost(compute, memory),
        placement=Placement(pieces),
        state=LeaseState(row["state"]),
        reserved_at=reserved_at,
        active_at=utc_from_text(row["active_at"]),
        until=utc_from_text(row["until"]),
        options=_options(row["options"]),
    )


def _options(given: object) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError("'options' is not an object")
    return {name: text(given, name) for name in given}


def utc_text(moment: datetime | None) -> str | None:
    """``2026-11-23T05:00:00.25Z``, in UTC."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_from_text(written: str | None) -> datetime | None:
    """The inverse of ``utc_text``. Raises ValueError for a time without a zone."""
    if written is None:
        return None
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError(f"the time {written} has no zone")
    return moment
