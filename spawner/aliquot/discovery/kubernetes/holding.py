"""Holding by requests: which seats of a node its pods take, where only numbers are known.

Pure. The pods of our ledger keep the seats that they were placed on. All others are put on
what is left, from the end, since the ledger places from the beginning. That is a fiction about
which, and exact about how many.

KAI puts several pods on one GPU and names it by a *group*; a pod of KAI's own reserves the GPU
from the plugin meanwhile, and is not counted beside those inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aliquot.discovery.kubernetes.offer import Offer, parts_of
from aliquot.discovery.kubernetes.pod_facts import KaiPart, PodFacts
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.inventory import Gpu, HeldPiece
from aliquot.domain.leases import Piece


@dataclass(frozen=True, slots=True)
class _Seat:
    gpu_uuid: str
    mig_uuid: str | None = None
    blocks: int = 0


def _seats_of(gpus: Iterable[Gpu]) -> dict[str, list[_Seat]]:
    """By resource, in the order of GPUs and instances."""
    seats: dict[str, list[_Seat]] = {}
    for gpu in gpus:
        if gpu.mig_enabled:
            for device in gpu.mig_devices:
                seats.setdefault(device.offered_as, []).append(_Seat(gpu.uuid, device.uuid))
        elif gpu.replica_blocks is not None:
            seat = _Seat(gpu.uuid, blocks=gpu.replica_blocks)
            seats.setdefault(gpu.offered_as, []).extend([seat] * (gpu.max_sharers or 1))
        else:
            seats.setdefault(gpu.offered_as, []).append(_Seat(gpu.uuid, blocks=BLOCKS_PER_GPU))
    return seats


def held_by_requests(
    node: str, offer: Offer, pods: Sequence[PodFacts]
) -> tuple[list[HeldPiece], list[str]]:
    """What is taken on a node, and notes on what does not add up. ``pods`` in a fixed order."""
    if not pods and not offer.unhealthy:
        return [], []
    holding = _Holding(node, offer)
    # First those that know their seat, bound ones before those on the way.
    own = sorted((pod for pod in pods if pod.own), key=lambda pod: not pod.node)
    for pod in own:
        holding.seat_own(pod)
    for resource, count in offer.unhealthy.items():
        holding.seat_anywhere(
            resource, count, f"{count} of {resource} on node {node} are not healthy."
        )
    for pod in pods:
        if not pod.own:
            holding.seat_foreign(pod)
    holding.seat_leftover_of_own()
    holding.seat_empty_reservations()
    return holding.held, holding.notes


class _Holding:
    def __init__(self, node: str, offer: Offer) -> None:
        self._node = node
        self._all = _seats_of(offer.gpus)
        self._free = {resource: list(seats) for resource, seats in self._all.items()}
        self._memory_mib = {gpu.uuid: gpu.memory_mib for gpu in offer.gpus}
        self._offered_as = {gpu.uuid: gpu.offered_as for gpu in offer.gpus}
        self._gpu_of_group: dict[str, str] = {}
        self._reservations: dict[str, PodFacts] = {}
        self._leases_seen: set[str] = set()
        self._postponed: list[tuple[PodFacts, str | None, dict[str, int], tuple[str, ...]]] = []
        self.held: list[HeldPiece] = []
        self.notes: list[str] = []

    def seat_own(self, pod: PodFacts) -> None:
        assert pod.own is not None
        lease_id: str | None = pod.own.lease_id
        if lease_id in self._leases_seen:
            # The books count a lease once, so a second pod must be counted here.
            self.notes.append(
                f"Pod {pod.name} on node {self._node} carries the lease of another pod, "
                f"{lease_id}. It is counted as foreign; delete it if nobody knows it."
            )
            lease_id = None
        else:
            self._leases_seen.add(pod.own.lease_id)
        demand = dict(pod.requests)
        groups = list(pod.kai.groups) if pod.kai else []
        for piece in pod.own.pieces or ():
            if piece.mig_uuid is None and piece.blocks < BLOCKS_PER_GPU and pod.kai:
                group = groups.pop(0) if groups else None
                if not self._seat_part(piece, group, pod.name, lease_id) and group:
                    groups.append(group)
                continue
            resource = self._take_seat_of(piece)
            if resource is None:
                continue
            self._hold(_Seat(piece.gpu_uuid, piece.mig_uuid, piece.blocks), pod.name, lease_id)
            demand[resource] = demand.get(resource, 0) - 1
        left = {resource: count for resource, count in demand.items() if count > 0}
        if pod.node and (left or groups):
            self._postponed.append((pod, lease_id, left, tuple(groups)))

    def seat_leftover_of_own(self) -> None:
        """What an own pod asks for beyond the pieces that it tells of."""
        for pod, lease_id, left, groups in self._postponed:
            known = pod.own.pieces if pod.own else None
            if known is not None and left:
                self.notes.append(
                    f"Pod {pod.name} on node {self._node} asks for more than its lease "
                    f"{lease_id or 'of another pod'} holds there. The rest is counted as foreign."
                )
                lease_id = None
            for resource, count in left.items():
                self.seat_anywhere(resource, count, pod.name, lease_id)
            if pod.kai:
                self._seat_groups(pod, pod.kai, groups, lease_id)

    def seat_foreign(self, pod: PodFacts) -> None:
        if pod.reserves:
            self._reservations[pod.reserves] = pod
            return
        if pod.kai:
            named = pod.kai.groups or tuple(f"{pod.name} {i}" for i in range(pod.kai.devices))
            self._seat_groups(pod, pod.kai, named, None)
        for resource, count in pod.requests:
            self.seat_anywhere(resource, count, pod.name)

    def seat_empty_reservations(self) -> None:
        """A GPU that KAI reserves and has nobody on yet, or nobody on any more."""
        for group, pod in sorted(self._reservations.items()):
            if group not in self._gpu_of_group:
                for resource, count in pod.requests:
                    self.seat_anywhere(resource, count, pod.name)

    def seat_anywhere(
        self, resource: str, count: int, holder: str, lease_id: str | None = None
    ) -> None:
        every = self._all.get(resource)
        if not every:
            return
        free = self._free[resource]
        for _ in range(min(count, len(every))):
            self._hold(free.pop() if free else every[-1], holder, lease_id)
        # Not an error by itself: pods of ours that are not bound yet keep their seats.

    def _seat_groups(
        self, pod: PodFacts, part: KaiPart, groups: Sequence[str], lease_id: str | None
    ) -> None:
        for group in groups:
            uuid = self._gpu_of_group.get(group) or self._gpu_for_new_group()
            if uuid is None:
                return
            self._gpu_of_group[group] = uuid
            blocks = part.blocks or parts_of(part.memory_mib, self._memory_mib[uuid])
            self._hold(_Seat(uuid, blocks=blocks), pod.name, lease_id)

    def _gpu_for_new_group(self) -> str | None:
        for resource, every in self._all.items():
            if every[0].mig_uuid is None:
                free = self._free[resource]
                return (free.pop() if free else every[-1]).gpu_uuid
        return None

    def _seat_part(self, piece: Piece, group: str | None, name: str, lease_id: str | None) -> bool:
        """A fraction that KAI gives. False when the group's card must be another one than the
        piece's: two groups never are one card."""
        uuid = piece.gpu_uuid
        if uuid not in self._memory_mib:
            return False
        if group is not None:
            known = self._gpu_of_group.get(group)
            if known is None and uuid in self._gpu_of_group.values():
                return False
            uuid = self._gpu_of_group.setdefault(group, known or uuid)
        self._take(self._offered_as[uuid], _Seat(uuid, blocks=BLOCKS_PER_GPU))
        self._hold(_Seat(uuid, blocks=piece.blocks), name, lease_id)
        return True

    def _take_seat_of(self, piece: Piece) -> str | None:
        """The resource of a piece's seat, which is then no longer free; None for no such."""
        for resource, every in self._all.items():
            for seat in every:
                if (seat.gpu_uuid, seat.mig_uuid) == (piece.gpu_uuid, piece.mig_uuid):
                    self._take(resource, seat)
                    return resource
        return None

    def _take(self, resource: str, seat: _Seat) -> None:
        if seat in self._free[resource]:
            self._free[resource].remove(seat)

    def _hold(self, seat: _Seat, holder: str, lease_id: str | None = None) -> None:
        blocks = 0 if seat.mig_uuid else seat.blocks
        self.held.append(HeldPiece(seat.gpu_uuid, holder, blocks, seat.mig_uuid, lease_id))
