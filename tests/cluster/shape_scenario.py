"""A node's shape as an NVML scenario: what a driver would say on that node.

Pure. UUIDs are those of ``gpu_models.gpu_uuid`` and ``mig_uuid``, so the node's labels, its
devices and what a notebook reads inside agree. The scenario's grammar is told in
tests/nvml_standin/README.md.
"""

from __future__ import annotations

from tests.cluster.gpu_models import GpuModel, Layout, gpu_uuid, mig_uuid
from tests.cluster.node_shapes import Kind, NodeShape

# Multiprocessors of a whole card: NVIDIA's data sheets and architecture white papers.
_MULTIPROCESSORS = {"A30": 56, "A100": 108, "H100": 132, "H200": 132, "PRO 6000": 188}
_MEASURES_INSTANCES = ("Hopper", "Blackwell")  # by GPM


def scenario_of(shape: NodeShape, node: str) -> str:
    """The scenario's text for the cards of a node of this name.

    For shapes of NVIDIA's device plugin and of HAMi's DRA driver, whose cards are whole. Other
    engines make or hand out devices that the plugin would not, so there is no such text.

    Raises:
        ValueError: The shape is of another engine.
    """
    served = (Kind.PLUGIN, Kind.PLUGIN_MIG_MIXED, Kind.PLUGIN_MIG_SINGLE, Kind.PLUGIN_TIME_SLICED)
    if shape.kind not in (*served, Kind.DRA_HAMI) or shape.model is None:
        raise ValueError(f"{shape.name} is not served by NVIDIA's device plugin")
    lines = [f"# {shape.what}", "driver 580.82.07", "nvml 13.580.82.07", "cuda 13000"]
    for index in range(shape.gpus):
        layout = shape.layouts[index] if index < len(shape.layouts) else ()
        lines += _card(shape.model, node, index, layout)
        for number, (profile, start) in enumerate(layout):
            lines += _instance(shape.model, node, index, number, profile, start)
    return "\n".join(lines) + "\n"


def _card(model: GpuModel, node: str, index: int, layout: Layout) -> list[str]:
    major, minor = model.compute_capability
    (cores,) = (n for name, n in _MULTIPROCESSORS.items() if name in model.product)
    # The most instances of the smallest profile: 7, or 4 of an RTX PRO 6000.
    most = max((len(cut.starts) for cut in model.profiles.values()), default=7)
    return [
        f"gpu {gpu_uuid(node, index)}",
        f"name {model.product}",
        f"pci 0x20B210DE 00000000:{16 + index:02X}:00.0",
        f"capability {major}.{minor}",
        f"memory_mib {model.memory_mib}",
        "reserved_mib 574",
        f"mig {'on' if layout else 'off'} {most}",
        f"gpm {'yes' if model.architecture in _MEASURES_INSTANCES else 'no'}",
        "power_watts 60",
        "temperature_c 33",
        f"sm_count {cores}",
    ]


def _instance(
    model: GpuModel, node: str, index: int, number: int, profile: str, start: int
) -> list[str]:
    cut = model.profiles[profile]
    return [
        f"mig_device {mig_uuid(node, index, start)}",
        f"name {profile}",
        f"index {number}",
        f"gi {number + 1}",
        "ci 0",
        f"compute_slices {cut.compute_slices}",
        f"memory_mib {cut.memory_mib}",
        f"sm_count {cut.multiprocessors}",
        f"gi_profile {cut.profile_id}",
        f"start {start}",
        f"size {cut.slots}",
        "used_mib 37",
    ]
