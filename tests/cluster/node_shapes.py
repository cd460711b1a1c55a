"""Node shapes: what a node looks like to the API server, for each engine and kind of GPU.

Data, with one function that writes it as manifests: ``SHAPES["plugin-mig-a100-80"]`` gives
``.node("gpu-1")``, a Node with labels, annotations and status, and ``.slices("gpu-1")``, its
ResourceSlices. Nothing here talks to a cluster; ``tests/fixtures/nodes.py`` does.

A node carries what the named engine would have written on it and nothing of another. UUIDs
are made from the node's name and the GPU's index, so that two nodes never share one and a
test can compute them with ``gpu_models.gpu_uuid`` and ``mig_uuid``.

Sources, read at these commits:
    NVIDIA/k8s-device-plugin 1b826ac: internal/lm (labels), internal/rm (resource names)
    Project-HAMi/HAMi 4707fb0: pkg/device/devices.go (MarshalNodeDevices),
        pkg/device-plugin/nvidiadevice/nvinternal/plugin/register.go
    kai-scheduler/KAI-scheduler d5bc503: reads NVIDIA's labels, writes none of its own
    DRA drivers: see dra_devices.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.cluster import dra_devices
from tests.cluster.gpu_models import (
    A30,
    A100_40,
    A100_80,
    H100_80,
    H200,
    RTX_PRO_6000,
    GpuModel,
    Layout,
    gpu_uuid,
)


class Kind(StrEnum):
    """Who hands out the GPUs of a node, and how."""

    CPU = "cpu"
    PLUGIN = "plugin"
    PLUGIN_MIG_MIXED = "plugin-mig-mixed"
    PLUGIN_MIG_SINGLE = "plugin-mig-single"
    PLUGIN_TIME_SLICED = "plugin-time-sliced"
    HAMI = "hami"
    HAMI_MIG = "hami-mig"
    KAI = "kai"
    DRA_NVIDIA = "dra-nvidia"
    DRA_NVIDIA_SHARES = "dra-nvidia-shares"
    DRA_HAMI = "dra-hami"


def mig_resource(profile: str) -> str:
    """ "1g.10gb+me" is nvidia.com/mig-1g.10gb.me, and "-me" stays (internal/rm/rm.go)."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


@dataclass(frozen=True, slots=True)
class NodeShape:
    """One kind of node.

    ``gpus`` names the model of every card (None without any); ``layouts`` holds one Layout
    for each card in MIG mode, counted from card 0. ``replicas`` is the number of equal parts of
    a time-sliced card, or HAMi's deviceSplitCount.
    """

    name: str
    kind: Kind
    what: str
    model: GpuModel | None = None
    gpus: int = 0
    layouts: tuple[Layout, ...] = ()
    replicas: int = 1
    hami_profiles: tuple[str, ...] = ()

    def node(self, name: str) -> dict[str, Any]:
        """The Node with labels, annotations and status, for the cards of this shape."""
        resources = {"cpu": "64", "memory": "512Gi", "pods": "250", "ephemeral-storage": "1Ti"}
        resources |= {key: str(count) for key, count in self.resources().items()}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    **self.labels(),
                },
                "annotations": self.annotations(name),
            },
            "status": {"capacity": resources, "allocatable": dict(resources)},
        }

    def resources(self) -> dict[str, int]:
        """Extended resources in the node's status. DRA drivers publish none."""
        match self.kind:
            case Kind.PLUGIN | Kind.KAI:
                return {"nvidia.com/gpu": self.gpus}
            case Kind.PLUGIN_TIME_SLICED:
                return {"nvidia.com/gpu.shared": self.gpus * self.replicas}
            case Kind.PLUGIN_MIG_SINGLE:
                return {"nvidia.com/gpu": sum(self.instances().values())}
            case Kind.PLUGIN_MIG_MIXED:
                whole = self.gpus - len(self.layouts)
                mixed = {mig_resource(p): count for p, count in self.instances().items()}
                # The plugin registers this resource under `mixed` as well, with what is left.
                return {"nvidia.com/gpu": whole, **mixed}
            case Kind.HAMI:
                return {"nvidia.com/gpu": self.gpus * self.replicas}
            case Kind.HAMI_MIG:
                # One device for each of the most instances that a profile allows (register.go).
                return {"nvidia.com/gpu": self.gpus * self._most_instances()}
            case _:
                return {}

    def instances(self) -> dict[str, int]:
        """How many MIG instances of each profile exist on the node."""
        counted: dict[str, int] = {}
        for layout in self.layouts:
            for profile, _ in layout:
                counted[profile] = counted.get(profile, 0) + 1
        return counted

    def labels(self) -> dict[str, str]:
        """GPU feature discovery's labels, or HAMi's."""
        if self.model is None:
            return {}
        if self.kind in (Kind.HAMI, Kind.HAMI_MIG):
            return {"gpu": "on"}
        if self.kind in (Kind.DRA_NVIDIA, Kind.DRA_NVIDIA_SHARES, Kind.DRA_HAMI):
            return {}
        return self._feature_labels(self.model)

    def _feature_labels(self, model: GpuModel) -> dict[str, str]:
        in_mig_mode = bool(self.layouts)
        all_in_mig_mode = len(self.layouts) == self.gpus
        major, minor = model.compute_capability
        values: dict[str, Any] = {
            "gpu.product": model.label,
            "gpu.memory": model.memory_mib,
            "gpu.count": self.gpus,
            # Cards in MIG mode are labelled without sharing, which counts as 0 replicas
            # (NewGPUResourceLabelerWithoutSharing).
            "gpu.replicas": 0 if all_in_mig_mode else self.replicas,
            "gpu.sharing-strategy": "time-slicing" if self.replicas > 1 else "none",
            "gpu.family": model.architecture.lower(),
            "gpu.compute.major": major,
            "gpu.compute.minor": minor,
            "gpu.machine": "DGX",
            "gpu.mode": "compute",
            "mig.capable": "true",
            "mps.capable": str(not in_mig_mode).lower(),
            "cuda.driver-version.full": "580.82.07",
            "cuda.runtime-version.full": "13.0",
        }
        if self.kind is Kind.PLUGIN_MIG_SINGLE:
            profile, count = next(iter(self.instances().items()))
            values |= {"mig.strategy": "single", **self._mig_labels("gpu", profile, count)}
        if self.kind is Kind.PLUGIN_MIG_MIXED:
            values["mig.strategy"] = "mixed"
            for profile, count in self.instances().items():
                resource = mig_resource(profile).removeprefix("nvidia.com/")
                values |= self._mig_labels(resource, profile, count)
        return {f"nvidia.com/{key}": str(value) for key, value in values.items()}

    def _mig_labels(self, prefix: str, profile: str, count: int) -> dict[str, Any]:
        assert self.model is not None
        cut = self.model.profiles[profile]
        label = profile.replace("+", ".")
        return {
            f"{prefix}.product": f"{self.model.label}-MIG-{label}",
            f"{prefix}.count": count,
            f"{prefix}.replicas": 1,
            f"{prefix}.sharing-strategy": "none",
            f"{prefix}.memory": cut.memory_mib,
            f"{prefix}.multiprocessors": cut.multiprocessors,
            f"{prefix}.slices.gi": cut.compute_slices,
            f"{prefix}.slices.ci": cut.compute_slices,
            f"{prefix}.engines.copy": cut.compute_slices,
            f"{prefix}.engines.decoder": cut.compute_slices // 2,
            f"{prefix}.engines.encoder": 0,
            f"{prefix}.engines.jpeg": 0,
            f"{prefix}.engines.ofa": 0,
        }

    def annotations(self, name: str) -> dict[str, str]:
        """HAMi's registration: a JSON array (the CSV of docs/develop/protocol.md is stale)."""
        if self.kind not in (Kind.HAMI, Kind.HAMI_MIG) or self.model is None:
            return {}
        cards = [self._hami_card(self.model, name, index) for index in range(self.gpus)]
        return {
            "hami.io/node-nvidia-register": json.dumps(cards, separators=(",", ":")),
            "hami.io/node-handshake": "Reported 2026-11-23 22:51:00.000000000 +0000 UTC",
        }

    def _hami_card(self, model: GpuModel, name: str, index: int) -> dict[str, Any]:
        in_mig_mode = self.kind is Kind.HAMI_MIG
        card: dict[str, Any] = {
            "id": gpu_uuid(name, index),
            "index": index,
            "count": self._most_instances() if in_mig_mode else self.replicas,
            "devmem": model.memory_mib,
            "devcore": 100,
            "type": model.product,
            "numa": index * 2 // max(self.gpus, 1),
            "mode": "mig" if in_mig_mode else "hami-core",
            "health": True,
        }
        if in_mig_mode:
            card["migProfiles"] = [self._hami_profile(model, p) for p in self.hami_profiles]
        # Go's omitempty leaves out a zero: the first card has no "index" (devices.go).
        return {key: value for key, value in card.items() if value not in (0, "", [])}

    def _hami_profile(self, model: GpuModel, profile: str) -> dict[str, Any]:
        cut = model.profiles[profile]
        whole = max(p.multiprocessors for p in model.profiles.values())
        return {
            "name": profile,
            "memoryMB": cut.memory_mib,
            "core": -(-cut.multiprocessors * 100 // whole),
            "sliceCount": cut.compute_slices,
            "placements": [{"start": start, "size": cut.slots} for start in cut.starts],
        }

    def _most_instances(self) -> int:
        assert self.model is not None
        return max(len(self.model.profiles[profile].starts) for profile in self.hami_profiles)

    def slices(self, name: str) -> list[dict[str, Any]]:
        """The ResourceSlices of the node's driver; none unless the kind is one of DRA's."""
        if self.model is None:
            return []
        match self.kind:
            case Kind.DRA_NVIDIA:
                return dra_devices.nvidia_slices(name, self.model, self.gpus, self.layouts)
            case Kind.DRA_NVIDIA_SHARES:
                return dra_devices.nvidia_shares_slices(name, self.model, self.gpus)
            case Kind.DRA_HAMI:
                return dra_devices.hami_slices(name, self.model, self.gpus)
            case _:
                return []


def _times(profile: str, *starts: int) -> Layout:
    return tuple((profile, start) for start in starts)


_SEVEN_5GB = _times("1g.5gb", 0, 1, 2, 3, 4, 5, 6)
_SEVEN_10GB = _times("1g.10gb", 0, 1, 2, 3, 4, 5, 6)

_ALL = (
    NodeShape("cpu", Kind.CPU, "No GPU at all."),
    NodeShape("plugin-a100-80", Kind.PLUGIN, "Four whole A100 80GB.", A100_80, 4),
    NodeShape("plugin-h100-80", Kind.PLUGIN, "Eight whole H100.", H100_80, 8),
    NodeShape("plugin-a30", Kind.PLUGIN, "Two whole A30.", A30, 2),
    NodeShape("plugin-h200", Kind.PLUGIN, "Eight whole H200.", H200, 8),
    NodeShape(
        "plugin-mig-a100-40", Kind.PLUGIN_MIG_MIXED,
        "Three A100 40GB: seven small slices; two of 2g and one of 3g; one left whole.",
        A100_40, 3, (_SEVEN_5GB, (("2g.10gb", 0), ("2g.10gb", 2), ("3g.20gb", 4))),
    ),
    NodeShape(
        "plugin-mig-a100-80", Kind.PLUGIN_MIG_MIXED, "One A100 80GB as seven 1g.10gb.",
        A100_80, 1, (_SEVEN_10GB,),
    ),
    NodeShape(
        "plugin-mig-h100-80", Kind.PLUGIN_MIG_MIXED,
        "Two H100: six small slices and one with media engines; four wide ones.",
        H100_80, 2,
        (
            (("1g.10gb+me", 0), *_times("1g.10gb", 1, 2, 3, 4, 5, 6)),
            _times("1g.20gb", 0, 2, 4, 6),
        ),
    ),
    NodeShape(
        "plugin-mig-single-a100-40", Kind.PLUGIN_MIG_SINGLE,
        "Two A100 40GB, all alike: fourteen 1g.5gb that are called nvidia.com/gpu.",
        A100_40, 2, (_SEVEN_5GB, _SEVEN_5GB),
    ),
    NodeShape(
        "plugin-time-sliced-a30", Kind.PLUGIN_TIME_SLICED,
        "Two A30 in four equal replicas each, renamed to nvidia.com/gpu.shared.",
        A30, 2, replicas=4,
    ),
    NodeShape(
        "hami-a100-40", Kind.HAMI, "Two A100 40GB, up to 100 pods on each.",
        A100_40, 2, replicas=100,
    ),
    NodeShape(
        "hami-mig-a100-80", Kind.HAMI_MIG,
        "Two A100 80GB that HAMi cuts on demand. The chart's own list has no 4g.",
        A100_80, 2, hami_profiles=("1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"),
    ),
    NodeShape(
        "kai-a100-80", Kind.KAI,
        "Four A100 80GB with NVIDIA's plugin; KAI needs gpu.memory and gpu.count on them.",
        A100_80, 4,
    ),
    NodeShape(
        "dra-nvidia-h100", Kind.DRA_NVIDIA,
        "Three H100 by claims: one cut into seven 1g.10gb, two whole.",
        H100_80, 3, (_SEVEN_10GB,),
    ),
    NodeShape(
        "dra-nvidia-shares-a100-80", Kind.DRA_NVIDIA_SHARES,
        "Two A100 80GB with --consumable-shares=100: counted, held by nobody.",
        A100_80, 2,
    ),
    NodeShape(
        "dra-hami-a100-40", Kind.DRA_HAMI,
        "Two A100 40GB by claims on cores and memory, held by HAMi-core.",
        A100_40, 2,
    ),
    NodeShape(
        "plugin-mig-rtx-pro-6000", Kind.PLUGIN_MIG_MIXED,
        "Four RTX PRO 6000 whose profiles differ by a suffix alone.",
        RTX_PRO_6000, 4,
        (
            (("1g.24gb+gfx", 0), ("1g.24gb+gfx", 3), ("1g.24gb", 6), ("1g.24gb+me", 9)),
            (("1g.24gb+me.all", 0), ("1g.24gb-me", 3), ("1g.24gb-me", 6), ("1g.24gb-me", 9)),
            (("2g.48gb", 0), ("2g.48gb", 6)),
        ),
    ),
)

SHAPES: Mapping[str, NodeShape] = {shape.name: shape for shape in _ALL}
