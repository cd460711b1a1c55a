"""Offered devices: what NVIDIA's device plugin makes of a machine, by resource.

Pure. A *resource* is what a pod asks for, such as nvidia.com/mig-1g.10gb; its devices have
ids. The machine is an NVML scenario (tests/nvml_standin/README.md), given as its text.

Source: NVIDIA/k8s-device-plugin 1b826ac, internal/rm (names of resources, ids of replicas).
"""

from __future__ import annotations


def devices_of(scenario: str, *, single: bool = False, replicas: int = 1) -> dict[str, list[str]]:
    """Ids by resource, in the order of the scenario's text.

    ``single`` is the plugin's MIG strategy of that name: instances are offered as GPUs. With
    ``replicas`` each GPU is offered so often as nvidia.com/gpu.shared, as `GPU-…::1`.

    nvidia.com/gpu is always there, as the real plugin registers it even without a device.
    A GPU in MIG mode is not offered itself.
    """
    whole = "nvidia.com/gpu" if replicas == 1 else "nvidia.com/gpu.shared"
    offered: dict[str, list[str]] = {whole: []}
    gpus: list[str] = []
    in_mig_mode: set[str] = set()
    device = ""
    for line in scenario.splitlines():
        key, _, value = line.split("#")[0].strip().partition(" ")
        value = value.strip()
        if key == "gpu":
            gpus.append(device := value)
        elif key == "mig_device":
            device = value
        elif key == "mig" and value.startswith("on"):
            in_mig_mode.add(device)
        elif key == "name" and device.startswith("MIG-"):
            resource = whole if single else f"nvidia.com/mig-{value.replace('+', '.')}"
            offered.setdefault(resource, []).append(device)
    offered[whole] += [gpu for gpu in gpus if gpu not in in_mig_mode]
    if replicas > 1:
        offered[whole] = [f"{gpu}::{n}" for gpu in offered[whole] for n in range(replicas)]
    return offered
