"""Uncertain: where ledger, world and Hub disagree and nobody may guess who is right.

Pure. Each is a value for the admin: a kind, what it is about and the numbers of its sentence
(``uncertain.*`` in the wording). Nothing is released and no pod is deleted because of one;
whatever it is about goes on counting as held.

A *stray* is a pod of ours whose lease is not open in the books and whose server the Hub does
not know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aliquot.domain.inventory import KUBERNETES, Inventory
from aliquot.domain.leases import Lease, Piece, Placement
from aliquot.domain.refusals import Number
from aliquot.domain.wording import say


class Doubt(StrEnum):
    """What is uncertain. ``grant_differs``: an engine gave another amount than was placed;
    ``grant_contradicted``: a pod runs on another node, or with another number of devices, than
    was placed; ``grant_unreadable``: what an engine wrote of a grant is not of its form;
    ``grant_untold``: it wrote nothing; ``gpu_gone``: a lease is on a GPU or slice that is not
    seen any more; ``pod_unknown``: a stray that the books never had; ``pod_left_over``: one
    whose lease is over; and ``server_without_pod``: the Hub has a server running and the
    cluster no pod of it."""

    GRANT_DIFFERS = "grant_differs"
    GRANT_CONTRADICTED = "grant_contradicted"
    GRANT_UNREADABLE = "grant_unreadable"
    GRANT_UNTOLD = "grant_untold"
    GPU_GONE = "gpu_gone"
    POD_UNKNOWN = "pod_unknown"
    POD_LEFT_OVER = "pod_left_over"
    SERVER_WITHOUT_POD = "server_without_pod"


# What the books themselves hold, so that one look is enough.
IN_THE_BOOKS = frozenset(
    {Doubt.GRANT_DIFFERS, Doubt.GRANT_CONTRADICTED, Doubt.GRANT_UNREADABLE, Doubt.GRANT_UNTOLD}
)


@dataclass(frozen=True, slots=True)
class GrantDoubt:
    """Why a grant could not be booked: one of the ``grant_`` kinds but ``grant_differs``, which
    is booked. ``said`` is what was found, both sides of it or an engine's words; empty where
    nothing was told."""

    kind: Doubt
    said: str = ""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """``about`` is the lease's id."""

    kind: Doubt
    about: str
    numbers: Mapping[str, Number] = field(default_factory=dict, hash=False)

    def sentence(self, language: str = "en") -> str:
        """What is known, what counts meanwhile, and what to do."""
        return say(f"uncertain.{self.kind.value}", language, **self.numbers)


def differing(
    leases: Iterable[Lease], grants: Mapping[str, tuple[Placement, Placement]]
) -> Iterator[Uncertain]:
    """``grants`` has the two sides by lease id: as placed, and as the engine gave it."""
    for lease in leases:
        if lease.id in grants:
            placed, given = grants[lease.id]
            yield Uncertain(
                Doubt.GRANT_DIFFERS,
                lease.id,
                {
                    "person": lease.user_name,
                    "lease": lease.id,
                    "placed_blocks": placed.cost.blocks,
                    "given_blocks": given.cost.blocks,
                    "charged_blocks": lease.charge.blocks,
                },
            )


def doubted(leases: Iterable[Lease], doubts: Mapping[str, GrantDoubt]) -> Iterator[Uncertain]:
    """Leases whose grant could not be booked, by lease id."""
    for lease in leases:
        if lease.id in doubts:
            doubt = doubts[lease.id]
            numbers = {"person": lease.user_name, "share": lease.placement.words}
            about = {"lease": lease.id, "said": doubt.said}
            yield Uncertain(doubt.kind, lease.id, numbers | about)


def gone(leases: Iterable[Lease], inventory: Inventory) -> Iterator[Uncertain]:
    """Leases on what the inventory does not have."""
    for lease in leases:
        missing = [piece for piece in lease.placement.pieces if not _is_seen(piece, inventory)]
        if missing:
            names = ", ".join(piece.mig_uuid or piece.gpu_uuid for piece in missing)
            numbers = {"person": lease.user_name, "share": lease.placement.words, "gpus": names}
            yield Uncertain(Doubt.GPU_GONE, lease.id, {"lease": lease.id, **numbers})


def without_pod(leases: Iterable[Lease], inventory: Inventory) -> Iterator[Uncertain]:
    """Of leases whose servers run: those that no pod in the cluster carries."""
    if inventory.source != KUBERNETES:
        return
    carried = {piece.lease_id for piece in inventory.held}
    for lease in leases:
        if lease.id not in carried:
            numbers = {"person": lease.user_name, "share": lease.placement.words}
            yield Uncertain(Doubt.SERVER_WITHOUT_POD, lease.id, {"lease": lease.id, **numbers})


def strays(
    inventory: Inventory, open_ids: Collection[str], carried_ids: Collection[str]
) -> dict[str, str]:
    """The lease id that each stray pod carries, and the pod's name for an admin."""
    return {
        piece.lease_id: piece.holder
        for piece in inventory.held
        if piece.lease_id is not None
        and piece.lease_id not in open_ids
        and piece.lease_id not in carried_ids
    }


def of_strays(found: Mapping[str, str], over: Collection[str]) -> Iterator[Uncertain]:
    """``over`` are the leases that the books know, as released."""
    for lease_id, holder in found.items():
        kind = Doubt.POD_LEFT_OVER if lease_id in over else Doubt.POD_UNKNOWN
        yield Uncertain(kind, lease_id, {"holder": holder, "lease": lease_id})


def _is_seen(piece: Piece, inventory: Inventory) -> bool:
    gpu = inventory.by_uuid.get(piece.gpu_uuid)
    if gpu is None:
        return False
    return piece.mig_uuid is None or any(d.uuid == piece.mig_uuid for d in gpu.mig_devices)
