"""Books: the open leases, added up in the three ways that a decision asks for.

By resource group (with all below it), by person within a group, and by GPU. Built once from
the leases; ``without`` and ``with_lease`` answer "what if" in the time of what they change,
since the remedies of one refusal ask it many times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from aliquot.domain.currency import NOTHING, Cost
from aliquot.domain.leases import Lease
from aliquot.domain.quota import GroupTree


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What is given out of one GPU. ``sharers`` counts the leases on its blocks."""

    blocks: int = 0
    sharers: int = 0
    mig_uuids: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_free(self) -> bool:
        return not self.blocks and not self.mig_uuids

    def with_held(self, blocks: int, mig_uuid: str | None) -> GpuUse:
        """The use with one more holder, of blocks or of a MIG instance."""
        if mig_uuid is None:
            return GpuUse(self.blocks + blocks, self.sharers + 1, self.mig_uuids)
        return GpuUse(self.blocks, self.sharers, self.mig_uuids | {mig_uuid})


_UNUSED = GpuUse()


class Books:
    """Sums over open leases. Never changed once it is built."""

    def __init__(self, leases: Iterable[Lease], tree: GroupTree) -> None:
        self._tree = tree
        self._leases: dict[str, Lease] = {}
        self._by_group: dict[str, Cost] = {}
        self._by_person: dict[tuple[str, int], Cost] = {}
        self._by_gpu: dict[str, GpuUse] = {}
        # MIG instances that more than one lease names, with how many more: two pods that an
        # engine has swapped do, while only one of them has been read back.
        self._named_again: dict[str, int] = {}
        for lease in leases:
            if lease.is_open:
                self._enter(lease)

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    def held_by_group(self, group: str) -> Cost:
        return self._by_group.get(group, NOTHING)

    def held_by_person(self, group: str, user_id: int) -> Cost:
        """What a person holds in a group and below it."""
        return self._by_person.get((group, user_id), NOTHING)

    def use_of(self, gpu_uuid: str) -> GpuUse:
        return self._by_gpu.get(gpu_uuid, _UNUSED)

    def has_open(self, lease_id: str | None) -> bool:
        return lease_id in self._leases

    def without(self, lease_ids: Collection[str]) -> Books:
        """The books as if these leases had been released."""
        books = self._copy()
        for lease_id in lease_ids:
            if (lease := books._leases.pop(lease_id, None)) is not None:
                books._count(lease, -1)
        return books

    def with_lease(self, lease: Lease) -> Books:
        """The books with one more open lease."""
        books = self._copy()
        books._enter(lease)
        return books

    def _enter(self, lease: Lease) -> None:
        """Count a lease, once however often it is entered."""
        if lease.id not in self._leases:
            self._leases[lease.id] = lease
            self._count(lease, 1)

    def _copy(self) -> Books:
        books = object.__new__(Books)
        books._tree = self._tree
        books._leases = self._leases.copy()
        books._by_group = self._by_group.copy()
        books._by_person = self._by_person.copy()
        books._by_gpu = self._by_gpu.copy()
        books._named_again = self._named_again.copy()
        return books

    def _count(self, lease: Lease, sign: int) -> None:
        charge = lease.charge
        # A group that has lost its quota still holds: its own name stands for the path.
        for group in self._tree.path(lease.group) or (lease.group,):
            person = (group, lease.user_id)
            self._by_group[group] = _sum(self._by_group.get(group, NOTHING), charge, sign)
            self._by_person[person] = _sum(self._by_person.get(person, NOTHING), charge, sign)
        for piece in lease.placement.pieces:
            use = self._by_gpu.get(piece.gpu_uuid, _UNUSED)
            if piece.mig_uuid is None:
                use = GpuUse(use.blocks + sign * piece.blocks, use.sharers + sign, use.mig_uuids)
            elif sign > 0:
                if piece.mig_uuid in use.mig_uuids:
                    again = self._named_again.get(piece.mig_uuid, 0)
                    self._named_again[piece.mig_uuid] = again + 1
                use = GpuUse(use.blocks, use.sharers, use.mig_uuids | {piece.mig_uuid})
            elif again := self._named_again.pop(piece.mig_uuid, 0):
                if again > 1:
                    self._named_again[piece.mig_uuid] = again - 1
            else:
                use = GpuUse(use.blocks, use.sharers, use.mig_uuids - {piece.mig_uuid})
            self._by_gpu[piece.gpu_uuid] = use


def _sum(held: Cost, charge: Cost, sign: int) -> Cost:
    return Cost(held.compute + sign * charge.compute, held.memory + sign * charge.memory)
