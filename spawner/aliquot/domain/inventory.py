"""Inventory: the GPUs that exist, as they were at one moment.

Values only. ``discovery`` makes an Inventory, ``placement`` reads it. It says what could be
given out, never what is: that is the ledger's word.

A *slot* is 1/4, 1/8 or 1/12 of a GPU's memory; MIG instances begin at fixed slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from aliquot.domain.currency import Cost, cost_of_slice
from aliquot.domain.engines import Engine

# The source of an inventory whose GPUs are bound to pods.
KUBERNETES = "kubernetes"


class BlocksBy(StrEnum):
    """Who holds a blocks share to its size on a GPU.

    KAI, NVIDIA's consumable shares (DRA) and time-slicing count only: they hold nobody.
    """

    MPS = "mps"
    ADVISORY = "advisory"
    SIMULATED = "simulated"
    HAMI = "hami"
    KAI = "kai"
    SHARES = "shares"
    TIME_SLICING = "time_slicing"


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG instance that exists, or that its engine can make.

    ``start`` is its first memory slot, None when unknown (NVML tells placements to root only,
    a device plugin to nobody). ``offered_as`` is what a pod asks for to get it: a resource's
    or a device class's name.
    """

    uuid: str
    profile: str
    compute_slices: int
    memory_slices: int
    memory_mib: int
    start: int | None = None
    offered_as: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU.

    ``product`` is the driver's name for it, ``model`` our short one (``H100-80GB``).
    ``blocks_by`` is None when the GPU cannot be given out in blocks; ``max_sharers`` the
    number of notebooks that the enforcer can serve at once on it (MPS: the driver's client
    limit), None for no limit.

    ``uuid`` is the driver's, or a name that is unique in the cluster where an engine tells
    none. ``offered_as`` is what a pod asks for to get a part of it or the whole: a resource's
    or a device class's name. ``replica_blocks`` is set where the GPU is handed out in equal
    replicas: a share takes one, and pays for it. ``makes_instances`` says that the engine cuts
    MIG instances on demand: ``mig_devices`` are then those that it can make, each with its
    start, and two that overlap exclude each other.
    """

    uuid: str
    index: int
    product: str
    model: str
    memory_mib: int
    node: str = ""
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()
    compute_slots: int = 7
    memory_slots: int = 8
    blocks_by: BlocksBy | None = None
    max_sharers: int | None = None
    engine: Engine = Engine.LOCAL
    offered_as: str = ""
    replica_blocks: int | None = None
    makes_instances: bool = False

    def cost_of(self, device: MigDevice) -> Cost:
        return cost_of_slice(
            device.compute_slices, self.compute_slots, device.memory_slices, self.memory_slots
        )

    def memory_of_blocks(self, blocks: int) -> int:
        """MiB that go with so many blocks of this GPU, rounded down as HAMi does."""
        return self.memory_mib * blocks // 100

    def blocks_for_memory(self, mib: int) -> int:
        """The fewest blocks that carry at least so much memory."""
        return -(-mib * 100 // self.memory_mib)


@dataclass(frozen=True, slots=True)
class HeldPiece:
    """A part of a GPU that is taken in the world, whatever the books say.

    By a pod, ours or not, or because its node takes nobody now (all 100 blocks). ``lease_id``
    is the lease that an own pod carries: while it is open in the books it counts there, and
    here only when the books do not know it. ``holder`` names it for an admin.
    """

    gpu_uuid: str
    holder: str
    blocks: int = 0
    mig_uuid: str | None = None
    lease_id: str | None = None


@dataclass(frozen=True)
class Inventory:
    """All GPUs that the source sees, in a fixed order (node, index).

    ``source`` is ``nvml``, ``simulated`` or ``kubernetes``; ``notes`` are sentences for
    the admin about what was seen and cannot be used, each with what to do.
    """

    gpus: tuple[Gpu, ...]
    source: str
    read_at: datetime
    simulated: bool = False
    driver_version: str | None = None
    notes: tuple[str, ...] = field(default=())
    held: tuple[HeldPiece, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.read_at.tzinfo is None:
            raise ValueError("read_at carries a zone")
        if len({gpu.uuid for gpu in self.gpus}) != len(self.gpus):
            raise ValueError("two GPUs with one UUID")

    @cached_property
    def by_uuid(self) -> dict[str, Gpu]:
        return {gpu.uuid: gpu for gpu in self.gpus}

    @cached_property
    def held_on(self) -> dict[str, tuple[HeldPiece, ...]]:
        """What is held in the world, by the GPU's UUID."""
        on: dict[str, list[HeldPiece]] = {}
        for piece in self.held:
            on.setdefault(piece.gpu_uuid, []).append(piece)
        return {uuid: tuple(pieces) for uuid, pieces in on.items()}

    @cached_property
    def emptied(self) -> Inventory:
        """The same GPUs with nobody on them: what could ever be given."""
        return replace(self, held=()) if self.held else self

    @cached_property
    def order(self) -> dict[str, int]:
        """Where each GPU stands, by UUID."""
        return {gpu.uuid: place for place, gpu in enumerate(self.gpus)}

    @cached_property
    def pools(self) -> tuple[tuple[Gpu, ...], ...]:
        """The GPUs that may be combined: of one model, on one node, not in MIG mode."""
        pools: dict[tuple[str, str], list[Gpu]] = {}
        for gpu in self.gpus:
            if not gpu.mig_enabled:
                pools.setdefault((gpu.node, gpu.model), []).append(gpu)
        return tuple(tuple(pools[key]) for key in sorted(pools))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The models present, in the order of their first GPU."""
        return tuple(dict.fromkeys(gpu.model for gpu in self.gpus))

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """The MIG profiles present, smallest first."""
        size = {
            device.profile: (gpu.cost_of(device).blocks, device.memory_mib, device.profile)
            for gpu in self.gpus
            for device in gpu.mig_devices
        }
        return tuple(sorted(size, key=size.__getitem__))

    @cached_property
    def profile_memory_mib(self) -> dict[str, int]:
        """The memory of each MIG profile present: of its smallest instance."""
        memory: dict[str, int] = {}
        for gpu in self.gpus:
            for device in gpu.mig_devices:
                known = memory.get(device.profile, device.memory_mib)
                memory[device.profile] = min(known, device.memory_mib)
        return memory
