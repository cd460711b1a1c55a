"""Rows: leases, groups and events as the tables hold them, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aliquot.domain.currency import Cost
from aliquot.domain.leases import Lease, LeaseState, Piece, Placement, Server
from aliquot.domain.quota import GroupTree, Quota, ResourceGroup
from aliquot.domain.shares import Kind
from aliquot.domain.uncertain import Doubt, GrantDoubt
from aliquot.storage.values import Event

_LIMITS = ("ceiling", "per_person", "per_notebook", "approval_above")

# Why a grant is in no doubt any more.
AGREES = "agrees"


def lease_to_row(lease: Lease) -> dict[str, Any]:
    return {
        "id": lease.id,
        "user_id": lease.user_id,
        "user_name": lease.user_name,
        "spawner_id": lease.server.spawner_id,
        "server_name": lease.server.name,
        "group_name": lease.group,
        "charge_compute": lease.charge.compute,
        "charge_memory": lease.charge.memory,
        "pieces": [piece.to_json() for piece in lease.placement.pieces],
        "state": lease.state.value,
        "reserved_at": lease.reserved_at,
        "active_at": lease.active_at,
        "until": lease.until,
        "released_at": None,
        "released_why": None,
        "options": None if lease.options is None else dict(lease.options),
    }


def lease_from_row(row: Any) -> Lease:
    return Lease(
        id=row.id,
        user_id=row.user_id,
        user_name=row.user_name,
        server=Server(row.spawner_id, row.server_name),
        group=row.group_name,
        charge=Cost(row.charge_compute, row.charge_memory),
        placement=Placement(tuple(Piece.from_json(piece) for piece in row.pieces)),
        state=LeaseState(row.state),
        reserved_at=row.reserved_at,
        active_at=row.active_at,
        until=row.until,
        options=row.options,
    )


def lease_summary(lease: Lease) -> dict[str, Any]:
    """What an event keeps of a lease; the rest stands in its row, which is never removed."""
    return {
        "user": lease.user_name,
        "server": lease.server.name,
        "group": lease.group,
        "share": lease.placement.words,
        "charge": [lease.charge.compute, lease.charge.memory],
        "state": lease.state.value,
    }


def grant_summary(lease: Lease) -> dict[str, Any]:
    """What an event keeps of one side of a grant: the devices are what it is about."""
    pieces = [piece.to_json() for piece in lease.placement.pieces]
    return {**lease_summary(lease), "pieces": pieces}


def grant_from_event(row: Any) -> tuple[Placement, Placement]:
    """The two sides of an event of ``lease.granted``: before and after."""
    before, after = (
        Placement(tuple(Piece.from_json(piece) for piece in side["pieces"]))
        for side in (row.before, row.after)
    )
    return before, after


def doubt_from_event(row: Any) -> GrantDoubt | None:
    """What an event of ``lease.grant_judged`` says; None where it agrees with the books."""
    if row.why == AGREES:
        return None
    return GrantDoubt(Doubt(row.why), row.after["said"])


def group_to_row(group: ResourceGroup) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": group.name,
        "parent": group.parent,
        "nominal_compute": group.quota.nominal.compute,
        "nominal_memory": group.quota.nominal.memory,
        "kinds": sorted(kind.value for kind in group.quota.kinds),
    }
    for limit in _LIMITS:
        cost: Cost | None = getattr(group.quota, limit)
        row[f"{limit}_compute"] = None if cost is None else cost.compute
        row[f"{limit}_memory"] = None if cost is None else cost.memory
    return row


def group_rows_of(groups: Sequence[ResourceGroup]) -> list[dict[str, Any]]:
    """The rows of a whole tree. Raises ValueError for what is none."""
    GroupTree.of(groups)
    names = [group.name for group in groups]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"group '{twice[0]}' comes twice")
    return [group_to_row(group) for group in groups]


def weight_rows_of(weights: Mapping[str, int]) -> list[dict[str, Any]]:
    for model, weight in weights.items():
        if weight < 1:
            raise ValueError(f"the weight of '{model}' is at least 1, got {weight}")
    return [{"gpu_model": model, "weight": weight} for model, weight in weights.items()]


def groups_to_json(groups: Iterable[ResourceGroup], weights: Mapping[str, int]) -> dict[str, Any]:
    """What the audit keeps of them."""
    return {"groups": [group_to_row(group) for group in groups], "weights": dict(weights)}


def group_from_row(row: Mapping[Any, Any]) -> ResourceGroup:
    limits = {
        limit: None
        if row[f"{limit}_compute"] is None
        else Cost(row[f"{limit}_compute"], row[f"{limit}_memory"])
        for limit in _LIMITS
    }
    quota = Quota(
        nominal=Cost(row["nominal_compute"], row["nominal_memory"]),
        kinds=frozenset(Kind(kind) for kind in row["kinds"]),
        **limits,
    )
    return ResourceGroup(row["name"], quota, row["parent"])


def event_to_row(
    at: datetime, actor: str, kind: str, about: str, before: Any, after: Any, why: str
) -> dict[str, Any]:
    return {
        "at": at,
        "actor": actor,
        "kind": kind,
        "object": about,
        "before": before,
        "after": after,
        "why": why,
    }


def event_from_row(row: Any) -> Event:
    return Event(row.id, row.at, row.actor, row.kind, row.object, row.before, row.after, row.why)


def refuse_large(value: Mapping[str, Any], limit: int, name: str) -> None:
    """Raise ValueError for what came from outside and is too much for its column."""
    size = len(json.dumps(dict(value)).encode())
    if size > limit:
        raise ValueError(f"{name} of {size} bytes: at most {limit} are kept")
