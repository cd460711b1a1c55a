"""What each engine does with a finished pod, by its own documented arithmetic.

Stand-ins for the engines' schedulers on a pod that holds nothing but what is in its manifest:
they read the pod and its claim template alone, never the lease, and answer as the engine does
(annotation, label, claim status). Written from the sources, not from our bindings.

Sources: HAMi 4707fb0, pkg/device/nvidia/device.go (GenerateResourceRequests, Fit,
selectMigCandidate) and pkg/device/devices.go (EncodePodSingleDevice); KAI d5bc503,
gpu_resource_requirment.go; kubernetes 1.36, dynamic-resource-allocation/structured.
"""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Gpu, Inventory, MigDevice

NOTEBOOK = 0


@dataclass(frozen=True, slots=True)
class Given:
    """A device, with the percent of compute and the MiB that the engine counts as taken."""

    device: str
    cores: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Answer:
    pod: dict[str, Any]
    claims: list[dict[str, Any]]
    given: tuple[Given, ...]


def answer(pod: dict[str, Any], template: dict[str, Any] | None, inventory: Inventory) -> Answer:
    pod = copy.deepcopy(pod)
    nodes = _nodes(pod)
    gpus = [gpu for gpu in inventory.gpus if gpu.node in nodes]
    pod["spec"]["nodeName"] = gpus[0].node
    match gpus[0].engine:
        case Engine.HAMI:
            given = _hami(pod, gpus)
        case Engine.HAMI_MIG:
            given = _hami_mig(pod, gpus)
        case Engine.KAI if "gpu-fraction" in pod["metadata"]["annotations"]:
            given = _kai(pod, gpus)
        case Engine.DRA_NVIDIA | Engine.DRA_HAMI:
            assert template is not None
            results, given = _allocate(template, gpus)
            status = {"allocation": {"devices": {"results": results}}}
            return Answer(pod, [{"kind": "ResourceClaim", "status": status}], given)
        case _:
            given = _plugin(pod, gpus)
    return Answer(pod, [], given)


def _nodes(pod: dict[str, Any]) -> set[str]:
    required = pod["spec"]["affinity"]["nodeAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (node,) = {field["values"][0] for term in terms for field in term["matchFields"] if len(terms)}
    assert all(term["matchFields"] for term in terms)
    return {node}


def _limits(pod: dict[str, Any]) -> dict[str, int]:
    limits = pod["spec"]["containers"][NOTEBOOK]["resources"]["limits"]
    return {name: int(value) for name, value in limits.items() if "/" in name}


def _hami(pod: dict[str, Any], gpus: list[Gpu]) -> tuple[Given, ...]:
    limits, annotations = _limits(pod), pod["metadata"]["annotations"]
    assert pod["spec"]["schedulerName"] == "hami-scheduler"
    count, cores = limits["nvidia.com/gpu"], limits["nvidia.com/gpucores"]
    percentage = limits["nvidia.com/gpumem-percentage"]
    allowed = annotations["nvidia.com/use-gpuuuid"].split(",")
    fitting = [gpu for gpu in gpus if gpu.uuid in allowed][:count]
    assert len(fitting) == count
    given = tuple(Given(g.uuid, cores, g.memory_mib * percentage // 100) for g in fitting)
    annotations["hami.io/vgpu-devices-allocated"] = (
        "".join(f"{one.device},NVIDIA,{one.memory_mib},{one.cores}:" for one in given) + ";"
    )
    return given


def _hami_mig(pod: dict[str, Any], gpus: list[Gpu]) -> tuple[Given, ...]:
    limits, annotations = _limits(pod), pod["metadata"]["annotations"]
    assert limits["nvidia.com/gpu"] == 1
    assert annotations["nvidia.com/vgpu-mode"] == "mig"
    (gpu,) = (gpu for gpu in gpus if gpu.uuid == annotations["nvidia.com/use-gpuuuid"])
    by_size = sorted(gpu.mig_devices, key=lambda d: (d.memory_mib, d.compute_slices))
    device = next(d for d in by_size if d.memory_mib >= limits["nvidia.com/gpumem"])
    chosen = {
        "containerIndex": 0,
        "deviceIndex": 0,
        "gpuUUID": gpu.uuid,
        "profile": device.profile,
        "placement": {"start": device.start, "size": device.memory_slices},
    }
    annotations["hami.io/vgpu-mig-allocations"] = json.dumps([chosen])
    return (_instance(gpu, device),)


def _instance(gpu: Gpu, device: MigDevice) -> Given:
    """Compute as the ledger writes it: slices of the card, in 1/1400."""
    return Given(
        device.profile, 1400 * device.compute_slices // gpu.compute_slots, device.memory_mib
    )


def _kai(pod: dict[str, Any], gpus: list[Gpu]) -> tuple[Given, ...]:
    annotations = pod["metadata"]["annotations"]
    assert pod["spec"]["schedulerName"] == "kai-scheduler"
    assert not _limits(pod)
    fraction = math.floor(float(annotations["gpu-fraction"]) * 100 + 0.5) / 100
    assert 0 < fraction < 1
    pod["metadata"]["labels"]["runai-gpu-group"] = "5f1c"
    blocks = round(fraction * 100)
    return (Given("", blocks, gpus[0].memory_mib * blocks // 100),)


def _plugin(pod: dict[str, Any], gpus: list[Gpu]) -> tuple[Given, ...]:
    given: list[Given] = []
    for resource, count in _limits(pod).items():
        devices = [(gpu, d) for gpu in gpus for d in gpu.mig_devices if d.offered_as == resource]
        if devices:
            given += [_instance(*pair) for pair in devices[:count]]
            continue
        cards = [gpu for gpu in gpus if gpu.offered_as == resource][:count]
        assert len(cards) == count
        for gpu in cards:
            blocks = gpu.replica_blocks or 100
            given.append(Given("", blocks, gpu.memory_mib * blocks // 100))
    return tuple(given)


def _allocate(
    template: dict[str, Any], gpus: list[Gpu]
) -> tuple[list[dict[str, Any]], tuple[Given, ...]]:
    results, given, taken = [], [], set()
    for request in template["spec"]["spec"]["devices"]["requests"]:
        exactly = request["exactly"]
        for _ in range(exactly["count"]):
            name, one, consumed = _fit(exactly, gpus, taken)
            taken.add(name)
            given.append(one)
            result = {"request": request["name"], "driver": "d", "pool": gpus[0].node}
            result["device"] = name
            results.append(result | ({"consumedCapacity": consumed} if consumed else {}))
    return results, tuple(given)


def _fit(exactly: dict[str, Any], gpus: list[Gpu], taken: set[str]) -> tuple[str, Given, dict]:
    """The first device of the class that meets every selector, in the driver's order."""
    wanted = _wanted(exactly)
    for gpu in gpus:
        if exactly["deviceClassName"] == "mig.nvidia.com":
            for device in gpu.mig_devices:
                name = f"gpu-0-mig-{re.sub('[.+]', '', device.profile)}-19-{device.start}"
                made = gpu.makes_instances
                attributes = {"profile": device.profile, "parentUUID": gpu.uuid}
                attributes |= {} if made else {"uuid": device.uuid}
                if name not in taken and all(attributes[k] in v for k, v in wanted.items()):
                    return name, _instance(gpu, device), {}
            continue
        name = f"gpu-{gpu.index}"
        if name in taken or gpu.uuid not in wanted.get("uuid", [gpu.uuid]):
            continue
        asked = exactly.get("capacity", {}).get("requests", {})
        if not asked:
            return name, Given(gpu.uuid, 100, gpu.memory_mib), {}
        if "shares" in asked:
            shares = int(asked["shares"])
            memory = gpu.memory_mib * shares // 100
            return name, Given(gpu.uuid, shares, memory), {"shares": str(shares), "memory": "0"}
        memory = re.fullmatch(r"(\d+)Mi", asked["memory"])
        assert memory is not None
        return name, Given(gpu.uuid, int(asked["cores"]), int(memory[1])), dict(asked)
    raise AssertionError("no device meets the request")


_SELECTOR = re.compile(
    r"has\((?P<a>device\.attributes\['[a-z0-9.-]+'\]\.(?P<name>\w+))\) && (?P=a) "
    r"(?:== '(?P<one>[^']+)'|in \[(?P<many>[^\]]+)\])"
)


def _wanted(exactly: dict[str, Any]) -> dict[str, list[str]]:
    wanted = {}
    for selector in exactly.get("selectors", []):
        read = _SELECTOR.fullmatch(selector["cel"]["expression"])
        assert read is not None, selector
        values = [read["one"]] if read["one"] else read["many"].replace("'", "").split(", ")
        wanted[read["name"]] = values
    return wanted
