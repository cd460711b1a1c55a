"""DRA: the GPUs of a node from its ResourceSlices, and what claims hold of them.

Pure. Drivers publish cards and MIG instances as devices; which a claim got stands in its
status. So everything is known by name, and by UUID where the driver tells it.

NVIDIA's driver publishes instances that exist (with a UUID), or, with its feature DynamicMIG,
all that it can make beside the whole card (without).

Sources: as in ``dra_facts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from aliquot.discovery.kubernetes.dra_facts import (
    HAMI_DRIVER,
    NVIDIA_DRIVER,
    ClaimFacts,
    Device,
    DeviceUse,
    SliceFacts,
)
from aliquot.discovery.kubernetes.offer import (
    MOST_GPUS,
    HeldBy,
    Offer,
    in_order,
    known_geometry,
    parts_of,
)
from aliquot.discovery.nvml_reading import profile_of
from aliquot.discovery.products import short_model
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import BlocksBy, Gpu, HeldPiece, MigDevice
from aliquot.domain.kubernetes_values import MIB
from aliquot.domain.mig_geometry import Geometry, Profile

# The device classes that the drivers' charts install.
GPU_CLASS = {NVIDIA_DRIVER: "gpu.nvidia.com", HAMI_DRIVER: "hami-core-gpu.project-hami.io"}
MIG_CLASS = "mig.nvidia.com"

_NUMBER = re.compile(r"gpu-(\d{1,4})(?:-mig-.*)?$")
_COMPUTE = re.compile(r"(\d)g\.")


class Seat(NamedTuple):
    """Where a device of a pool lies."""

    gpu_uuid: str
    mig_uuid: str | None


def current(slices: Iterable[SliceFacts]) -> tuple[list[SliceFacts], list[str]]:
    """The slices of each pool's newest generation, and notes on pools that are not whole:
    the driver is writing them, or has failed at it."""
    pools: dict[tuple[str, str], list[SliceFacts]] = {}
    for facts in slices:
        pools.setdefault((facts.driver, facts.pool), []).append(facts)
    found: list[SliceFacts] = []
    notes: list[str] = []
    for (driver, pool), members in sorted(pools.items()):
        newest = max(facts.generation for facts in members)
        members = [facts for facts in members if facts.generation == newest]
        expected = max(facts.slices_in_pool for facts in members)
        if len(members) < expected:
            notes.append(
                f"Pool {pool} of {driver} is left out: {len(members)} of its {expected} "
                "ResourceSlices are there. If that lasts, restart the driver on its node."
            )
            continue
        found += sorted(members, key=lambda facts: facts.name)
    return found, notes


def dra_offer(node: str, slices: Iterable[SliceFacts], classes: Collection[str]) -> Offer:
    """What drivers offer on a node, through the device classes that exist."""
    whole, notes = current(slices)
    cards = _Cards(node, classes)
    for facts in whole:
        for device in facts.devices:
            cards.add(facts, device)
    gpus, standing = cards.made()
    return Offer(gpus, HeldBy.CLAIMS, tuple(dict.fromkeys([*notes, *cards.notes])), tuple(standing))


class _Cards:
    """Devices by the card that they are, or are a part of."""

    def __init__(self, node: str, classes: Collection[str]) -> None:
        self._node = node
        self._classes = classes
        self._whole: dict[str, tuple[SliceFacts, Device]] = {}
        self._parts: dict[str, list[tuple[SliceFacts, Device]]] = {}
        self.notes: list[str] = []

    def add(self, facts: SliceFacts, device: Device) -> None:
        if device.kind in ("gpu", "hami-gpu"):
            self._whole.setdefault(gpu_uuid(facts, device), (facts, device))
        elif device.kind == "mig" and device.parent_uuid:
            self._parts.setdefault(device.parent_uuid, []).append((facts, device))
        elif device.kind != "vfio":
            self._leave_out(device.name, "its type or its parent is not told. Update the driver.")

    def made(self) -> tuple[tuple[Gpu, ...], list[HeldPiece]]:
        gpus: list[Gpu] = []
        standing: list[HeldPiece] = []
        for uuid in sorted({*self._whole, *self._parts})[:MOST_GPUS]:
            gpu = self._card(uuid)
            if gpu is None:
                continue
            gpus.append(gpu)
            for facts, device in [*self._whole_of(uuid), *self._parts.get(uuid, [])]:
                if device.taint:
                    why = f"Device {device.name} of node {self._node} is tainted: {device.taint}."
                    seat = seat_of(facts, device)
                    blocks = 0 if seat.mig_uuid else BLOCKS_PER_GPU
                    standing.append(HeldPiece(uuid, why, blocks, seat.mig_uuid))
        return in_order(gpus), standing

    def _whole_of(self, uuid: str) -> list[tuple[SliceFacts, Device]]:
        return [self._whole[uuid]] if uuid in self._whole else []

    def _card(self, uuid: str) -> Gpu | None:
        parts = self._parts.get(uuid, [])
        facts, device = (self._whole_of(uuid) or parts)[0]
        is_whole = device.kind != "mig"
        geometry = known_geometry(device.product)
        driver_class = GPU_CLASS[facts.driver]
        if not device.product:
            return self._leave_out(device.name, "it tells no productName. Update the driver.")
        if is_whole and driver_class not in self._classes:
            return self._leave_out(device.name, _no_class(driver_class))
        blocks_by = None
        if is_whole and device.shareable:
            blocks_by = BlocksBy.HAMI if facts.driver == HAMI_DRIVER else BlocksBy.SHARES
            if device.shares != BLOCKS_PER_GPU:
                return self._leave_out(
                    device.name,
                    f"it is shared in {device.shares or 'no'} parts and a block is 1 of 100. Start "
                    "the driver with --consumable-shares=100.",
                )
        instances = self._instances(uuid, parts, geometry)
        memory_mib = device.memory_mib if is_whole else _largest_mib(geometry, device.memory_mib)
        if not memory_mib:
            return self._leave_out(device.name, "it tells no memory. Update the driver.")
        return Gpu(
            uuid=uuid,
            index=_index(device.name),
            product=device.product,
            model=short_model(device.product, geometry),
            memory_mib=memory_mib,
            node=self._node,
            # A card that the driver publishes beside its partitions can also be given whole.
            mig_enabled=not is_whole,
            mig_devices=instances,
            compute_slots=geometry.compute_slots if geometry else 7,
            memory_slots=geometry.memory_slots if geometry else 8,
            blocks_by=blocks_by,
            engine=Engine.DRA_HAMI if facts.driver == HAMI_DRIVER else Engine.DRA_NVIDIA,
            offered_as=driver_class,
            makes_instances=any(part.makeable for _, part in parts),
        )

    def _instances(
        self, parent: str, parts: list[tuple[SliceFacts, Device]], geometry: Geometry | None
    ) -> tuple[MigDevice, ...]:
        found: dict[str, MigDevice] = {}
        for facts, device in parts:
            profile = _profile(geometry, device)
            if MIG_CLASS not in self._classes:
                self._leave_out(device.name, _no_class(MIG_CLASS))
            elif profile is None:
                self._leave_out(
                    device.name,
                    f"the MIG geometry of {device.product or 'its card'} has no profile "
                    f"{device.profile}, as far as it is known here. Report it with "
                    "'nvidia-smi mig -lgip'.",
                )
            elif device.makeable and (
                device.start not in profile.starts or profile.name != device.profile
            ):
                self._leave_out(device.name, "where it would lie is not told. Update the driver.")
            else:
                uuid = seat_of(facts, device).mig_uuid or ""
                found[uuid] = MigDevice(
                    uuid=uuid,
                    profile=device.profile,
                    compute_slices=profile.compute_slices,
                    memory_slices=profile.memory_slices,
                    memory_mib=device.memory_mib or profile.memory_mib or 0,
                    start=device.start,
                    offered_as=MIG_CLASS,
                )
        return tuple(sorted(found.values(), key=lambda d: (d.start or 0, d.profile, d.uuid)))

    def _leave_out(self, device: str, why: str) -> None:
        self.notes.append(f"Device {device} of node {self._node} is left out: {why}")


def _no_class(name: str) -> str:
    return f"there is no DeviceClass {name}. Install those of the driver's chart."


def gpu_uuid(facts: SliceFacts, device: Device) -> str:
    return device.uuid or f"{facts.node}/{facts.pool}/{device.name}"


def seat_of(facts: SliceFacts, device: Device) -> Seat:
    if device.kind != "mig":
        return Seat(gpu_uuid(facts, device), None)
    return Seat(device.parent_uuid, gpu_uuid(facts, device))


def _index(name: str) -> int:
    found = _NUMBER.search(name)
    return int(found[1]) if found else 0


def _profile(geometry: Geometry | None, device: Device) -> Profile | None:
    written = _COMPUTE.match(device.profile)
    if geometry is None or written is None:
        return None
    memory_mib = device.memory_mib or 1
    return profile_of(geometry, device.profile, int(written[1]), memory_mib, memory_mib)


def _largest_mib(geometry: Geometry | None, instance_mib: int) -> int:
    """The memory of a card that is not published itself: at least its largest profile's."""
    known = [p.memory_mib for p in geometry.profiles.values() if p.memory_mib] if geometry else []
    return max([*known, instance_mib])


def held_by_claims(
    offer: Offer,
    slices: Iterable[SliceFacts],
    claims: Sequence[ClaimFacts],
    lease_of: Callable[[ClaimFacts], str | None],
) -> list[HeldPiece]:
    """What claims hold of a node's devices. A claim holds as long as it is allocated, whether
    its pod runs or not."""
    gpus = {gpu.uuid: gpu for gpu in offer.gpus}
    seats = {
        (facts.driver, facts.pool, device.name): seat_of(facts, device)
        for facts in slices
        for device in facts.devices
    }
    held: list[HeldPiece] = []
    for claim in claims:
        holder = claim.pods[0] if claim.pods else claim.name
        for use in claim.uses:
            seat = seats.get((use.driver, use.pool, use.device))
            if seat is not None and seat.gpu_uuid in gpus:
                blocks = 0 if seat.mig_uuid else _blocks(use, gpus[seat.gpu_uuid])
                piece = HeldPiece(seat.gpu_uuid, holder, blocks, seat.mig_uuid, lease_of(claim))
                held.append(piece)
    return held


def _blocks(use: DeviceUse, gpu: Gpu) -> int:
    """The larger of compute and memory: neither may be promised twice."""
    consumed = dict(use.consumed)
    if not consumed or gpu.blocks_by is None:
        return BLOCKS_PER_GPU
    counted = max(consumed.get("cores", 0), consumed.get("shares", 0))
    memory_mib = -(-consumed.get("memory", 0) // MIB)
    by_memory = parts_of(memory_mib, gpu.memory_mib) if memory_mib else 0
    return min(BLOCKS_PER_GPU, max(counted, by_memory, 1))
