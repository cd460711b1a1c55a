"""HAMi: the GPUs of a node as its plugin registers them, and what its scheduler gave of them.

Pure. HAMi tells identities: cards by UUID, and for MIG the place of each instance.

In its mode ``mig`` the plugin makes instances for the pod that asks, at any of the places that
it registers; all that HAMi can be asked for are then on offer, and exclude each other where they
overlap.

Source: HAMi 4707fb0, pkg/device/devices.go (MarshalNodeDevices; Go leaves out zeros and
``false``), pkg/device-plugin/nvidiadevice/nvinternal/plugin/register.go and migmgr.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aliquot.discovery.kubernetes.node_facts import GPU, HAMI_CORDON, NodeFacts
from aliquot.discovery.kubernetes.offer import (
    MOST_GPUS,
    HeldBy,
    Offer,
    in_order,
    known_geometry,
    nothing,
    parts_of,
)
from aliquot.discovery.kubernetes.pod_facts import PodFacts
from aliquot.discovery.products import short_model
from aliquot.domain.currency import BLOCKS_PER_GPU
from aliquot.domain.engines import Engine
from aliquot.domain.hami_annotations import HamiDevice
from aliquot.domain.hami_mig import Cut, taken_for
from aliquot.domain.inventory import BlocksBy, Gpu, HeldPiece, MigDevice
from aliquot.domain.kubernetes_values import array, number, rows, text
from aliquot.domain.mig_geometry import Geometry, Profile


def hami_offer(node: NodeFacts) -> Offer:
    listed = array(node.hami_register or "")
    if listed is None:
        return nothing(
            f"Node {node.name} is left out: HAMi's registration there cannot be read as a list. "
            "Update HAMi's device plugin to 2.6 or newer, or restart it."
        )
    gpus: dict[str, Gpu] = {}
    standing, notes = [], []
    for row in listed[:MOST_GPUS]:
        made = _gpu(node.name, row) if isinstance(row, dict) else "it is no object"
        if isinstance(made, str):
            notes.append(f"A GPU that HAMi registers on node {node.name} is left out: {made}.")
            continue
        if made.uuid in gpus:
            continue
        gpus[made.uuid] = made
        if made.makes_instances:
            notes += _left_out(node.name, made, row)
        # A healthy card says so; an unhealthy one says nothing.
        if row.get("health") is not True:
            standing.append(_closed(made, f"HAMi calls GPU {made.uuid} of {node.name} unhealthy."))
        elif made.uuid in node.hami_cordoned:
            standing.append(_closed(made, f"Node {node.name} cordons it by {HAMI_CORDON}."))
    told = tuple(dict.fromkeys(notes))
    return Offer(in_order(gpus.values()), HeldBy.HAMI, told, tuple(standing))


def _closed(gpu: Gpu, why: str) -> HeldPiece:
    return HeldPiece(gpu.uuid, why, BLOCKS_PER_GPU)


def _gpu(node: str, row: Mapping[str, Any]) -> Gpu | str:
    """The GPU, or why it is left out."""
    uuid, memory_mib = text(row, "id"), number(row, "devmem")
    written = text(row, "type")
    if not uuid or not memory_mib or not written:
        return "its id, devmem or type is missing"
    # Names without the vendor get one (register.go): "NVIDIA-Tesla P4".
    product = written.removeprefix("NVIDIA-")
    geometry = known_geometry(product)
    mode = text(row, "mode") or "hami-core"
    shared: dict[str, Any] = {
        "uuid": uuid,
        "index": number(row, "index"),
        "product": product,
        "model": short_model(product, geometry),
        "memory_mib": memory_mib,
        "node": node,
        "compute_slots": geometry.compute_slots if geometry else 7,
        "memory_slots": geometry.memory_slots if geometry else 8,
        "offered_as": GPU,
    }
    if mode == "hami-core":
        if number(row, "devcore") < BLOCKS_PER_GPU:
            return f"it has {number(row, 'devcore')} of 100 cores. Set deviceCoreScaling to 1"
        return Gpu(
            **shared,
            blocks_by=BlocksBy.HAMI,
            max_sharers=number(row, "count") or 1,
            engine=Engine.HAMI,
        )
    if mode != "mig":
        return f"its mode '{mode}' is not known; 'hami-core' and 'mig' are. Set operatingmode"
    if geometry is None:
        return f"the MIG geometry of {product} is not known. Report it with 'nvidia-smi mig -lgip'"
    return Gpu(
        **shared,
        mig_enabled=True,
        mig_devices=_makeable(uuid, row, geometry),
        engine=Engine.HAMI_MIG,
        makes_instances=True,
    )


def _cuts(row: Mapping[str, Any]) -> list[Cut]:
    return [
        Cut(text(cut, "name"), number(cut, "sliceCount"), number(cut, "memoryMB"))
        for cut in rows(row, "migProfiles")
    ]


def _makeable(gpu_uuid: str, row: Mapping[str, Any], geometry: Geometry) -> tuple[MigDevice, ...]:
    """All that can be had, in the order in which HAMi registers it."""
    devices: dict[str, MigDevice] = {}
    cuts = _cuts(row)
    for cut, written in zip(cuts, rows(row, "migProfiles"), strict=True):
        if not cut.memory_mib or taken_for(cut.memory_mib, cuts) != cut.profile:
            continue
        for place in rows(written, "placements"):
            start = number(place, "start")
            profile = _known(cut, number(place, "size"), geometry)
            if profile is not None and start in profile.starts:
                uuid = instance_uuid(gpu_uuid, cut.profile, start)
                devices[uuid] = MigDevice(
                    uuid=uuid,
                    profile=cut.profile,
                    compute_slices=profile.compute_slices,
                    memory_slices=profile.memory_slices,
                    memory_mib=cut.memory_mib,
                    start=start,
                    offered_as=GPU,
                )
    return tuple(devices.values())


def _known(cut: Cut, slots: int, geometry: Geometry) -> Profile | None:
    """The profile of the model that HAMi makes for the name in its list.

    HAMi looks at the name up to the dot alone, and makes the plain profile of that many
    slices: its chart's ``7g.79gb`` is NVIDIA's ``7g.80gb``. A name that belongs to a profile
    of another size would promise what is not made.
    """
    named = geometry.profiles.get(cut.profile)
    alike = (named,) if named else geometry.profiles.values()
    size = (cut.compute_slices, slots)
    return next((p for p in alike if (p.compute_slices, p.memory_slices) == size), None)


def _left_out(node: str, gpu: Gpu, row: Mapping[str, Any]) -> list[str]:
    cuts = _cuts(row)
    offered = {device.profile for device in gpu.mig_devices}
    notes = []
    for profile in dict.fromkeys(cut.profile for cut in cuts if cut.profile not in offered):
        memory_mib = next(cut.memory_mib for cut in cuts if cut.profile == profile)
        taken = taken_for(memory_mib, cuts)
        if memory_mib and taken != profile:
            notes.append(
                f"Profile {profile[:40]} of HAMi on node {node} is left out: HAMi chooses by "
                f"memory, and takes {taken} for {memory_mib} MiB. Take one of the two out of "
                "HAMi's migProfileAllowlist."
            )
        else:
            notes.append(
                f"Profile {profile[:40]} of HAMi on node {node} is left out: {gpu.product} has no "
                "such MIG instance. Check HAMi's migProfileAllowlist."
            )
    return notes


def instance_uuid(gpu_uuid: str, profile: str, start: int) -> str:
    """What an instance is called before it is made."""
    return f"{gpu_uuid}/{profile}/{start}"


def held_by_hami(
    node: str, offer: Offer, pods: Sequence[PodFacts]
) -> tuple[list[HeldPiece], list[str]]:
    """What HAMi's scheduler gave to the pods of a node.

    A pod that asks for GPUs there and that HAMi has not placed may sit on any: as many whole
    ones as it asks for count as held, from the end.
    """
    gpus = {gpu.uuid: gpu for gpu in offer.gpus}
    instances = {device.uuid for gpu in offer.gpus for device in gpu.mig_devices}
    held: list[HeldPiece] = []
    unplaced: list[PodFacts] = []
    leases: set[str] = set()
    notes: list[str] = []
    for pod in pods:
        lease_id = pod.own.lease_id if pod.own else None
        if lease_id in leases:
            notes.append(
                f"Pod {pod.name} on node {node} carries the lease of another pod, {lease_id}. It "
                "is counted as foreign; delete it if nobody knows it."
            )
            lease_id = None
        elif lease_id is not None:
            leases.add(lease_id)
        if pod.hami is None:
            if pod.node:
                unplaced.append(pod)
            continue
        places = list(pod.hami_instances)
        for device in pod.hami:
            gpu = gpus.get(device.gpu_uuid)
            if gpu is None:
                continue
            if gpu.makes_instances:
                place = next((p for p in places if p.gpu_uuid == gpu.uuid), None)
                if place is not None:
                    places.remove(place)
                if place is not None and place.start is not None:
                    uuid = instance_uuid(gpu.uuid, place.profile, place.start)
                    if uuid in instances:
                        held.append(HeldPiece(gpu.uuid, pod.name, 0, uuid, lease_id))
                        continue
                # Where it lies is not known, so nothing beside it can be promised.
                held.append(HeldPiece(gpu.uuid, pod.name, BLOCKS_PER_GPU, None, lease_id))
                continue
            held.append(HeldPiece(gpu.uuid, pod.name, _blocks(device, gpu), None, lease_id))
    held += _unplaced(node, offer, unplaced, notes)
    return held, notes


def _blocks(device: HamiDevice, gpu: Gpu) -> int:
    """The larger of both parts; all of the card where it cannot be read how much it is."""
    if device.cores is None or device.memory_mib is None:
        return BLOCKS_PER_GPU
    return min(max(device.cores, parts_of(device.memory_mib, gpu.memory_mib)), BLOCKS_PER_GPU)


def _unplaced(
    node: str, offer: Offer, pods: Sequence[PodFacts], notes: list[str]
) -> list[HeldPiece]:
    held: list[HeldPiece] = []
    left = list(offer.gpus)
    for pod in pods:
        wanted = sum(count for resource, count in pod.requests if resource == GPU)
        if not wanted or not offer.gpus:
            continue
        if pod.own and pod.own.pieces:
            known = {gpu.uuid for gpu in offer.gpus}
            held += [
                HeldPiece(
                    p.gpu_uuid,
                    pod.name,
                    0 if p.mig_uuid else p.blocks,
                    p.mig_uuid,
                    pod.own.lease_id,
                )
                for p in pod.own.pieces
                if p.gpu_uuid in known
            ]
            continue
        notes.append(
            f"Pod {pod.name} on node {node} asks for {wanted} {GPU} and was not placed by HAMi's "
            f"scheduler, so nobody knows which GPU it uses: {min(wanted, len(offer.gpus))} count "
            "as held. Delete it, and keep pods there from other schedulers."
        )
        for _ in range(min(wanted, len(offer.gpus))):
            gpu = left.pop() if left else offer.gpus[-1]
            held.append(HeldPiece(gpu.uuid, pod.name, BLOCKS_PER_GPU))
    return held
