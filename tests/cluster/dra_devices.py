"""DRA devices: the ResourceSlices and DeviceClasses that GPU drivers publish.

Written as the drivers' own code writes them, `resource.k8s.io/v1`.

Sources, read at these commits:
    kubernetes-sigs/dra-driver-nvidia-gpu 9593204: cmd/gpu-kubelet-plugin/deviceinfo.go, mig.go,
        consumable_shares.go; deployments/helm/…/templates/deviceclass-{gpu,mig}.yaml
    Project-HAMi/k8s-dra-driver ebeaad9: cmd/hami-kubelet-plugin/hami_core.go;
        chart/hami-dra-driver/templates/deviceclass-hami-gpu.yaml
"""

from __future__ import annotations

from typing import Any

from tests.cluster.gpu_models import GpuModel, Layout, gpu_uuid, mig_uuid

NVIDIA = "gpu.nvidia.com"
HAMI = "hami-core-gpu.project-hami.io"
SHARES = 100


def device_classes() -> list[dict[str, Any]]:
    """gpu.nvidia.com, mig.nvidia.com and HAMi's, as their charts install them."""

    def made(name: str, driver: str, kind: str, extended: str | None) -> dict[str, Any]:
        expression = (
            f"device.driver == '{driver}' && device.attributes['{driver}'].type == '{kind}'"
        )
        spec: dict[str, Any] = {"selectors": [{"cel": {"expression": expression}}]}
        if extended:
            spec["extendedResourceName"] = extended
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": name},
            "spec": spec,
        }

    return [
        made(NVIDIA, NVIDIA, "gpu", "nvidia.com/gpu"),
        made("mig.nvidia.com", NVIDIA, "mig", None),
        made(HAMI, HAMI, "hami-gpu", "nvidia.com/gpu"),
    ]


def nvidia_slices(
    node: str, model: GpuModel, gpus: int, layouts: tuple[Layout, ...]
) -> list[dict[str, Any]]:
    """Static MIG: cards in MIG mode are not published themselves, their instances are."""
    devices = []
    for index, layout in enumerate(layouts):
        devices += [_nvidia_mig(model, node, index, profile, at) for profile, at in layout]
    devices += [_nvidia_gpu(model, node, index) for index in range(len(layouts), gpus)]
    return _slices(node, NVIDIA, devices)


def nvidia_shares_slices(node: str, model: GpuModel, gpus: int) -> list[dict[str, Any]]:
    devices = [_with_shares(_nvidia_gpu(model, node, index)) for index in range(gpus)]
    return _slices(node, NVIDIA, devices)


def hami_slices(node: str, model: GpuModel, gpus: int) -> list[dict[str, Any]]:
    return _slices(node, HAMI, [_hami_gpu(model, node, index) for index in range(gpus)])


def _slices(node: str, driver: str, devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One slice, in a pool with the node's name, as all of these drivers publish."""
    return [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-{driver}"},
            "spec": {
                "driver": driver,
                "nodeName": node,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                "devices": devices,
            },
        }
    ]


def _card(model: GpuModel) -> dict[str, Any]:
    major, minor = model.compute_capability
    return {
        "productName": {"string": model.product},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": model.architecture},
        "cudaComputeCapability": {"version": f"{major}.{minor}.0"},
        "driverVersion": {"version": "580.82.7"},
        "cudaDriverVersion": {"version": "13.0.0"},
    }


def _place(index: int) -> dict[str, Any]:
    return {
        "resource.kubernetes.io/pciBusID": {"string": f"0000:{16 + index:02x}:00.0"},
        "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{16 + index:02x}"},
    }


def _nvidia_gpu(model: GpuModel, node: str, index: int) -> dict[str, Any]:
    return {
        "name": f"gpu-{index}",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": gpu_uuid(node, index)},
            **_card(model),
            **_place(index),
        },
        "capacity": {"memory": {"value": f"{model.memory_mib}Mi"}},
    }


def _nvidia_mig(
    model: GpuModel, node: str, index: int, profile: str, start: int
) -> dict[str, Any]:
    cut = model.profiles[profile]
    name = profile.replace(".", "").replace("+", "-")
    capacity = {
        "memory": f"{cut.memory_mib}Mi",
        "multiprocessors": str(cut.multiprocessors),
        "copyEngines": str(cut.compute_slices),
        "decoders": str(cut.compute_slices // 2),
        "encoders": "0",
        "jpegEngines": "0",
        "ofaEngines": "0",
    }
    capacity |= {f"memorySlice{slot}": "1" for slot in range(start, start + cut.slots)}
    return {
        "name": f"gpu-{index}-mig-{name}-{cut.profile_id}-{start}",
        "attributes": {
            "type": {"string": "mig"},
            "uuid": {"string": mig_uuid(node, index, start)},
            "parentUUID": {"string": gpu_uuid(node, index)},
            "profile": {"string": profile},
            **_card(model),
            **_place(index),
        },
        "capacity": {key: {"value": value} for key, value in capacity.items()},
    }


def _with_shares(device: dict[str, Any]) -> dict[str, Any]:
    """applyConsumableShares with 100: a share is 1 unless named, memory 0 unless named."""
    memory = device["capacity"]["memory"]["value"]
    device["allowMultipleAllocations"] = True
    device["capacity"] = {
        "memory": _consumable(memory, default="0", lowest="0", step="1Mi"),
        "shares": _consumable(str(SHARES), default="1", lowest="1", step="1"),
    }
    return device


def _hami_gpu(model: GpuModel, node: str, index: int) -> dict[str, Any]:
    """Asking for nothing takes the whole card: both defaults are the maximum."""
    memory = f"{model.memory_mib}Mi"
    return {
        "name": f"hami-gpu-{index}",
        "allowMultipleAllocations": True,
        "attributes": {
            "type": {"string": "hami-gpu"},
            "uuid": {"string": gpu_uuid(node, index)},
            "minor": {"int": index},
            **_card(model),
            "pcieBusID": {"string": f"0000:{16 + index:02x}:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": f"pci0000:{16 + index:02x}"},
        },
        "capacity": {
            "cores": _consumable("100", default="100", lowest="0", step="1"),
            "memory": _consumable(memory, default=memory, lowest="1Mi", step="1Mi"),
        },
    }


def _consumable(value: str, *, default: str, lowest: str, step: str) -> dict[str, Any]:
    return {
        "value": value,
        "requestPolicy": {
            "default": default,
            "validRange": {"min": lowest, "max": value, "step": step},
        },
    }
