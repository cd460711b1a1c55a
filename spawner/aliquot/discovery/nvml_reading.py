"""Reading one machine through NVML, between its init and its shutdown.

A GPU that fails by itself (lost, not permitted) is left out with a note, and the others
stay usable. A failure of the driver ends the reading: the NVMLError goes to the caller.

NVML tells where an instance lies (``GpuInstanceGetInfo``) to root only, so ``start`` is None
for most hubs. The parent of MIG instances may refuse its memory to others than root.

Source: NVML API reference; NVIDIA/nvidia-container-toolkit#842 for the refused memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import pynvml

from aliquot.discovery.mps import MpsState, clients_per_gpu
from aliquot.discovery.products import short_model
from aliquot.domain.inventory import BlocksBy, Gpu, Inventory, MigDevice
from aliquot.domain.mig_geometry import Geometry, Profile, geometry_for

MIB = 1024 * 1024
# The first architecture on which MPS can limit a client's threads.
VOLTA = (7, 0)

Handle = Any  # an opaque pointer of pynvml
Answer = TypeVar("Answer")

# What one GPU may answer while the driver is well.
OF_ONE_GPU = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_IRQ_ISSUE,
    pynvml.NVML_ERROR_INSUFFICIENT_POWER,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_UNKNOWN,
)


@dataclass
class _Machine:
    """What holds for all GPUs of a reading, and the notes it gathers."""

    mps: MpsState
    allow_advisory_blocks: bool
    cuda_version: int
    notes: list[str] = field(default_factory=list)


def read_machine(mps: MpsState, *, allow_advisory_blocks: bool) -> Inventory:
    """NVML is initialised. Raises NVMLError when the driver, or every GPU, does not answer."""
    read_at = datetime.now(UTC)
    cuda_version: int = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    machine = _Machine(mps, allow_advisory_blocks, cuda_version)
    count: int = pynvml.nvmlDeviceGetCount()
    gpus: list[Gpu] = []
    failures: list[pynvml.NVMLError] = []
    for index in range(count):
        try:
            gpu = _read_gpu(index, machine)
        except pynvml.NVMLError as error:
            if _code(error) not in OF_ONE_GPU:
                raise
            failures.append(error)
            machine.notes.append(
                f"GPU {index} is left out: it answered '{error}'. Look at "
                f"'nvidia-smi -i {index} -q' and the kernel log."
            )
        else:
            if gpu is not None:
                gpus.append(gpu)
    if failures and len(failures) == count:
        raise failures[0]
    if count == 0:
        machine.notes.append(
            "The NVIDIA driver is loaded and sees no GPU. Look at 'lspci' and the kernel log."
        )
    if not mps.is_reachable and any(not gpu.mig_enabled for gpu in gpus):
        instead = "are not enforced" if allow_advisory_blocks else "are not offered"
        machine.notes.append(f"Blocks {instead}. {mps.why_not}")
    return Inventory(
        gpus=tuple(gpus),
        source="nvml",
        read_at=read_at,
        driver_version=pynvml.nvmlSystemGetDriverVersion(),
        notes=tuple(machine.notes),
    )


def _read_gpu(index: int, machine: _Machine) -> Gpu | None:
    """One GPU; None, with a note, when it cannot be used for computing."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    product: str = pynvml.nvmlDeviceGetName(handle)
    called = f"GPU {index} ({product})"
    pci_device_id = f"0x{pynvml.nvmlDeviceGetPciInfo(handle).pciDeviceId:08X}"
    geometry = geometry_for(product, pci_device_id)
    compute_mode = _unless_refused(pynvml.nvmlDeviceGetComputeMode, handle)
    if compute_mode == pynvml.NVML_COMPUTEMODE_PROHIBITED:
        machine.notes.append(
            f"{called} is left out: its compute mode is Prohibited. Allow computing with "
            f"'nvidia-smi -i {index} -c DEFAULT'."
        )
        return None

    mig_mode = _unless_refused(pynvml.nvmlDeviceGetMigMode, handle)
    mig_enabled, mig_pending = map(bool, mig_mode or (0, 0))
    if mig_enabled != mig_pending:
        machine.notes.append(
            f"{called} has MIG mode {'on' if mig_enabled else 'off'} until its next reset, "
            f"then {'on' if mig_pending else 'off'}. Stop what uses it and reset it, or take "
            "the change back with 'nvidia-smi -mig'."
        )
    memory_mib = _memory_mib(handle, geometry if mig_enabled else None)
    devices: tuple[MigDevice, ...] = ()
    if mig_enabled:
        devices = _read_mig_devices(handle, called, geometry, memory_mib, machine)
    blocks_by, max_sharers = None, None
    if not mig_enabled:
        blocks_by, max_sharers = _blocks_on(handle, called, index, compute_mode, machine)
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        index=index,
        product=product,
        model=short_model(product, geometry),
        memory_mib=memory_mib,
        mig_enabled=mig_enabled,
        mig_devices=devices,
        compute_slots=geometry.compute_slots if geometry else 7,
        memory_slots=geometry.memory_slots if geometry else 8,
        blocks_by=blocks_by,
        max_sharers=max_sharers,
    )


def _memory_mib(handle: Handle, geometry: Geometry | None) -> int:
    """The card's memory. A card in MIG mode that refuses to tell has at least what its
    largest instance has; ``geometry`` is given for such a card only."""
    try:
        memory: Any = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return memory.total // MIB
    except pynvml.NVMLError_NoPermission:  # pyright: ignore[reportAttributeAccessIssue]
        known = (
            [p.memory_mib for p in geometry.profiles.values() if p.memory_mib] if geometry else []
        )
        if not known:
            raise
        return max(known)


def _blocks_on(
    handle: Handle, called: str, index: int, compute_mode: int | None, machine: _Machine
) -> tuple[BlocksBy | None, int | None]:
    """Who would hold blocks on this GPU, and for how many at once."""
    capability = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    if machine.mps.is_reachable and capability >= VOLTA:
        return BlocksBy.MPS, clients_per_gpu(machine.cuda_version, capability)
    if machine.mps.is_reachable:
        machine.notes.append(
            f"{called} is older than Volta, so MPS cannot limit anybody's part of it. It is "
            "given out whole."
        )
    elif compute_mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS:
        # A second process would be refused by the driver, so there is nothing to agree on.
        machine.notes.append(
            f"{called} serves one process at a time: its compute mode is Exclusive Process and "
            f"no MPS daemon runs. Start MPS, or run 'nvidia-smi -i {index} -c DEFAULT'."
        )
        return None, None
    return (BlocksBy.ADVISORY, None) if machine.allow_advisory_blocks else (None, None)


def _read_mig_devices(
    gpu: Handle, called: str, geometry: Geometry | None, gpu_memory_mib: int, machine: _Machine
) -> tuple[MigDevice, ...]:
    """The GPU's instances that can be given out, in NVML's order. Indices may have gaps."""
    devices: list[MigDevice] = []
    found = 0
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except pynvml.NVMLError_NotFound:  # pyright: ignore[reportAttributeAccessIssue]
            continue
        found += 1
        try:
            device = _read_mig_device(gpu, handle, geometry, gpu_memory_mib)
        except pynvml.NVMLError as error:
            if _code(error) not in OF_ONE_GPU or _code(error) == pynvml.NVML_ERROR_GPU_IS_LOST:
                raise
            device = f"it answered '{error}'. It may be new, or about to go."
        if isinstance(device, MigDevice):
            devices.append(device)
        else:
            machine.notes.append(f"MIG device {index} of {called} is not offered: {device}")
    if found == 0:
        machine.notes.append(
            f"{called} is in MIG mode and has no instances, so nobody can use it. Make some "
            "('nvidia-smi mig -cgi … -C'), or turn MIG mode off."
        )
    return tuple(devices)


def _read_mig_device(
    gpu: Handle, handle: Handle, geometry: Geometry | None, gpu_memory_mib: int
) -> MigDevice | str:
    """The device, or the sentence why it cannot be given out."""
    attributes = pynvml.nvmlDeviceGetAttributes(handle)
    name = re.search(r" MIG (\S+)$", pynvml.nvmlDeviceGetName(handle))
    if attributes.computeInstanceSliceCount < attributes.gpuInstanceSliceCount:
        # Two such devices share one instance's memory, and neither can be charged for it.
        return (
            "it is a part of an instance's compute and shares its memory with others. Make one "
            "compute instance as wide as its GPU instance."
        )
    if geometry is None:
        return (
            "the MIG geometry of this product is not known. Report it with 'nvidia-smi mig -lgip'."
        )
    profile = profile_of(
        geometry,
        name.group(1) if name else None,
        attributes.gpuInstanceSliceCount,
        attributes.memorySizeMB,
        gpu_memory_mib,
    )
    if profile is None:
        return (
            f"no profile of {geometry.model} has {attributes.gpuInstanceSliceCount} compute "
            "slices. Report it with 'nvidia-smi mig -lgip'."
        )
    return MigDevice(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        profile=name.group(1) if name else profile.name,
        compute_slices=attributes.gpuInstanceSliceCount,
        memory_slices=profile.memory_slices,
        memory_mib=attributes.memorySizeMB,
        start=_start_of(gpu, pynvml.nvmlDeviceGetGpuInstanceId(handle)),
    )


def profile_of(
    geometry: Geometry,
    name: str | None,
    compute_slices: int,
    memory_mib: int,
    gpu_memory_mib: int,
) -> Profile | None:
    """The profile that an instance is of: by its name, or by what it has, since drivers
    rename profiles (``3g.40gb`` was ``3g.39gb``). None when no profile is as wide."""
    named = geometry.profiles.get(name or "")
    if named is not None and named.compute_slices == compute_slices:
        return named

    def distance(profile: Profile) -> int:
        slots = geometry.memory_slots
        size = profile.memory_mib or gpu_memory_mib * profile.memory_slices // slots
        return abs(size - memory_mib)

    as_wide = (p for p in geometry.profiles.values() if p.compute_slices == compute_slices)
    return min(as_wide, key=distance, default=None)


def _start_of(gpu: Handle, gpu_instance_id: int) -> int | None:
    """The instance's first memory slot; None to a process that may not know."""
    instance = _unless_refused(pynvml.nvmlDeviceGetGpuInstanceById, gpu, gpu_instance_id)
    if instance is None:
        return None
    info = _unless_refused(pynvml.nvmlGpuInstanceGetInfo, instance)
    return None if info is None else info.placement.start


def _unless_refused(call: Callable[..., Answer], *arguments: object) -> Answer | None:
    """The answer, or None where this GPU, driver or user has none to give."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        refused = (
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_NO_PERMISSION,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_NOT_FOUND,
        )
        if _code(error) not in refused:
            raise
        return None


def _code(error: pynvml.NVMLError) -> int:
    return error.value  # pyright: ignore[reportAttributeAccessIssue]
