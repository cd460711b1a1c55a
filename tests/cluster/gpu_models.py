"""GPU models: what a driver says of the cards that the tests' nodes carry.

Facts only, written here by hand and not read from the product's own tables, so that a wrong
number there shows. Memory is MiB; a MIG profile is (memory, multiprocessors, first slots,
slots, compute slices, GPU instance profile id).

Sources: stored `nvidia-smi mig -lgip/-lgipp` listings of A30, A100 and H100, NVIDIA/go-nvml's
mocks of a30 and a100 (2f9e261), NVIDIA's MIG user guide. Products are the names NVML prints.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import NamedTuple

# Instances of one GPU in MIG mode, in the order of their first slots: (profile, first slot).
Layout = tuple[tuple[str, int], ...]


def gpu_uuid(node: str, index: int) -> str:
    """As NVML prints it: "GPU-" and a UUID, made from the node's name and the card's index."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{node}/{index}')}"


def mig_uuid(node: str, index: int, start: int) -> str:
    return f"MIG-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{node}/{index}/{start}')}"


class Profile(NamedTuple):
    memory_mib: int
    multiprocessors: int
    starts: tuple[int, ...]
    slots: int
    compute_slices: int
    profile_id: int


@dataclass(frozen=True, slots=True)
class GpuModel:
    """One model. ``product`` is NVML's name; ``profiles`` is empty where no test cuts it."""

    product: str
    memory_mib: int
    architecture: str
    compute_capability: tuple[int, int]
    profiles: dict[str, Profile]

    @property
    def label(self) -> str:
        """The name as a label's value (k8s-device-plugin internal/lm/resource.go, sanitise)."""
        return "-".join(self.product.split())


_SEVEN, _EVEN = (0, 1, 2, 3, 4, 5, 6), (0, 2, 4, 6)

A30 = GpuModel("NVIDIA A30", 24576, "Ampere", (8, 0), {})
A100_40 = GpuModel("NVIDIA A100-SXM4-40GB", 40960, "Ampere", (8, 0), {
    "1g.5gb": Profile(4864, 14, _SEVEN, 1, 1, 19),
    "1g.5gb+me": Profile(4864, 14, _SEVEN, 1, 1, 20),
    "2g.10gb": Profile(9856, 28, (0, 2, 4), 2, 2, 14),
    "3g.20gb": Profile(19968, 42, (0, 4), 4, 3, 9),
    "7g.40gb": Profile(40192, 98, (0,), 8, 7, 0),
})
A100_80 = GpuModel("NVIDIA A100-SXM4-80GB", 81920, "Ampere", (8, 0), {
    "1g.10gb": Profile(9856, 14, _SEVEN, 1, 1, 19),
    "1g.20gb": Profile(19968, 14, _EVEN, 2, 1, 15),
    "2g.20gb": Profile(19968, 28, (0, 2, 4), 2, 2, 14),
    "3g.40gb": Profile(40192, 42, (0, 4), 4, 3, 9),
    "7g.80gb": Profile(80384, 98, (0,), 8, 7, 0),
})
H100_80 = GpuModel("NVIDIA H100 80GB HBM3", 81559, "Hopper", (9, 0), {
    "1g.10gb": Profile(9984, 16, _SEVEN, 1, 1, 19),
    "1g.10gb+me": Profile(9984, 16, _SEVEN, 1, 1, 20),
    "1g.20gb": Profile(20096, 26, _EVEN, 2, 1, 15),
    "2g.20gb": Profile(20096, 32, (0, 2, 4), 2, 2, 14),
    "3g.40gb": Profile(40448, 60, (0, 4), 4, 3, 9),
})
H200 = GpuModel("NVIDIA H200", 143771, "Hopper", (9, 0), {})
RTX_PRO_6000 = GpuModel(
    "NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "Blackwell", (12, 0), {
        "1g.24gb": Profile(24192, 46, (0, 3, 6, 9), 3, 1, 14),
        "1g.24gb+me": Profile(24192, 46, (0, 3, 6, 9), 3, 1, 21),
        "1g.24gb+gfx": Profile(24192, 46, (0, 3, 6, 9), 3, 1, 47),
        "1g.24gb+me.all": Profile(24192, 46, (0, 3, 6, 9), 3, 1, 65),
        "1g.24gb-me": Profile(24192, 46, (0, 3, 6, 9), 3, 1, 67),
        "2g.48gb": Profile(48512, 94, (0, 6), 6, 2, 5),
        "4g.96gb": Profile(97280, 188, (0,), 12, 4, 0),
    },
)
