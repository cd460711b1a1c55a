"""Dynamic resource allocation: requests of a claim on NVIDIA's and HAMi's drivers.

One claim holds the whole share: a request of the whole GPUs, one of the part, or one of the
MIG slice. A request is held to the ledger's devices by CEL on their UUIDs where the driver
tells them (``GPU-…``, ``MIG-…``), and to the node by the pod's affinity in any case.

NVIDIA's driver counts ``shares`` of a GPU and enforces nothing, HAMi's gives ``cores`` and
``memory`` to HAMi-core, which throttles always: the monitor that would let a lone notebook use
all of the card belongs to HAMi's device plugin. HAMi's driver numbers the limits of a claim
with several devices in no fixed order, so that a whole GPU could be given the part's limit: it
never gets both.

A driver hands devices to the container runtime by name (CDI). The legacy runtime could add
what an image's ``NVIDIA_VISIBLE_DEVICES=all`` asks for, so that is set to ``void``.

Sources: dra-driver-nvidia-gpu 9593204, cmd/gpu-kubelet-plugin/{deviceinfo,consumable_shares}.go;
HAMi k8s-dra-driver ebeaad9, cmd/hami-kubelet-plugin/hami_core.go (GetCDIContainerEdits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aliquot.bindings.counted_resources import resource_of
from aliquot.bindings.patches import Enforcement, NotBindable, Strength
from aliquot.bindings.pod_env import COMPUTE_POLICY
from aliquot.bindings.pods import (
    MIG,
    WHOLE,
    DeviceRequest,
    Held,
    PodOrder,
    PodPatch,
    pod_patch,
)
from aliquot.domain.inventory import BlocksBy

WHOLES, PART, SLICE = "whole", "part", "slice"

_NVIDIA = "device.attributes['gpu.nvidia.com']"
_HAMI = "device.attributes['hami-core-gpu.project-hami.io']"
_VOID: Mapping[str, str] = {"NVIDIA_VISIBLE_DEVICES": "void"}
_COUNTED = Enforcement(Strength.NONE, Strength.NONE, "shares")
_SOFT = Enforcement(Strength.SOFT, Strength.SOFT, "hami")


def bind_dra_nvidia(order: PodOrder) -> PodPatch:
    if order.slice is not None:
        return pod_patch(order, MIG, env=_VOID, claims=(_slice_request(order.slice),))
    part = order.part
    if part is not None and part.gpu.blocks_by is not BlocksBy.SHARES:
        raise NotBindable(
            f"GPU {part.piece.gpu_uuid} no longer has shares. Try again; the next decision knows."
        )
    requests = _whole_requests(order.wholes, _NVIDIA, _shares)
    if part is None:
        return pod_patch(order, WHOLE, env=_VOID, claims=requests)
    requests += (_request(PART, [part], _NVIDIA, _shares(part)),)
    return pod_patch(order, _COUNTED, env=_VOID, notes=("note.shares_counted",), claims=requests)


def bind_dra_hami(order: PodOrder) -> PodPatch:
    if order.slice is not None:
        raise NotBindable("HAMi's DRA driver gives no MIG instances.")
    part = order.part
    if part is not None and order.wholes:
        raise NotBindable(
            "HAMi's DRA driver mixes up the limits of several GPUs in one claim: whole GPUs and "
            "a part cannot share a pod."
        )
    if part is not None and part.gpu.blocks_by is not BlocksBy.HAMI:
        raise NotBindable(
            f"GPU {part.piece.gpu_uuid} no longer has parts. Try again; the next decision knows."
        )
    env = {**_VOID, COMPUTE_POLICY: "force"} if order.policy.strict_compute else _VOID
    if part is None:
        claims = _whole_requests(order.wholes, _HAMI, _cores_and_memory)
        return pod_patch(order, WHOLE, env=env, claims=claims)
    claims = (_request(PART, [part], _HAMI, _cores_and_memory(part)),)
    return pod_patch(order, _SOFT, env=env, notes=("note.hami_soft",), claims=claims)


def _shares(held: Held) -> dict[str, str]:
    """Nothing where the driver publishes no shares: the device is then given whole. With
    shares a request that names none gets one, so all 100 are named for a whole GPU."""
    if held.gpu.blocks_by is not BlocksBy.SHARES:
        return {}
    return {"shares": str(held.piece.blocks)}


def _cores_and_memory(held: Held) -> dict[str, str]:
    return {"cores": str(held.piece.blocks), "memory": f"{held.piece.memory_mib}Mi"}


def _whole_requests(
    wholes: Sequence[Held], attributes: str, capacity_of
) -> tuple[DeviceRequest, ...]:
    """One request for all, or one for each where their capacities differ."""
    alike: dict[tuple[tuple[str, str], ...], list[Held]] = {}
    for held in wholes:
        alike.setdefault(tuple(sorted(capacity_of(held).items())), []).append(held)
    return tuple(
        _request(WHOLES if number == 0 else f"{WHOLES}-{number}", group, attributes, dict(capacity))
        for number, (capacity, group) in enumerate(alike.items())
    )


def _request(
    name: str, held: Sequence[Held], attributes: str, capacity: Mapping[str, str]
) -> DeviceRequest:
    uuids = [one.piece.gpu_uuid for one in held]
    selectors = ()
    if all(uuid.startswith("GPU-") for uuid in uuids):
        selectors = (_is_one_of(attributes, "uuid", uuids),)
    return DeviceRequest(name, resource_of(held[0]), len(held), capacity, selectors)


def _slice_request(held: Held) -> DeviceRequest:
    """By profile, and by the instance's or the parent's UUID where the driver tells it.

    An instance that is made on demand has no UUID yet: the ledger's name for it is not the
    driver's.
    """
    piece = held.piece
    assert piece.mig_uuid is not None
    assert piece.profile is not None
    selectors = [_is_one_of(_NVIDIA, "profile", [piece.profile])]
    if piece.gpu_uuid.startswith("GPU-"):
        selectors.append(_is_one_of(_NVIDIA, "parentUUID", [piece.gpu_uuid]))
    if piece.mig_uuid.startswith("MIG-") and not held.gpu.makes_instances:
        selectors.append(_is_one_of(_NVIDIA, "uuid", [piece.mig_uuid]))
    return DeviceRequest(SLICE, resource_of(held), selectors=tuple(selectors))


def _is_one_of(attributes: str, name: str, values: Sequence[str]) -> str:
    """``has`` first: an attribute that a device lacks would end the whole allocation."""
    for value in values:
        if "'" in value or "\\" in value:
            raise NotBindable(f"The driver's name {value!r} cannot be asked for.")
    listed = ", ".join(f"'{value}'" for value in values)
    test = f"== {listed}" if len(values) == 1 else f"in [{listed}]"
    return f"has({attributes}.{name}) && {attributes}.{name} {test}"
