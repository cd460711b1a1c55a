"""NVML source: figures of a lease's pieces, read from the driver.

Only the lease's pieces are read, found by UUID where the Hub knows it: what else the machine
has is nobody's business here. Memory and load are read at every tick; power, temperature and
process lists cost milliseconds in the driver and hold its lock, so they are read only when
asked.

What can be measured depends on the piece:

- a slice: its own memory; its own load on Hopper and newer (GPM), on Ampere none at all;
- a share of a card: its own memory where the driver keeps a limit for this cgroup (MPS of
  driver 615 and newer), where HAMi-core answers for the driver, or where the card's processes
  can be told apart, otherwise the card's memory, called so; the load is the whole card's;
- a whole GPU: everything.

One GPU of several that fails has no figures and a reason, and is looked for again after a
while; MIG slices come and go, and a GPU that was reset needs new handles. If none answers,
SourceLost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pynvml

from aliquot.domain.receipt_report import bare_uuid
from aliquot_lab.figures import (
    Busy,
    Card,
    DeviceFigures,
    Memory,
    Processes,
    ProcessMemory,
    SourceLost,
)
from aliquot_lab.gpm import GpmMeter
from aliquot_lab.lease import Lease, Piece, Scope
from aliquot_lab.nvml_faults import LASTING, code_of, is_gone, reason_of
from aliquot_lab.own_processes import Session, driver_pids_are_ours
from aliquot_lab.wording import Sentence, say

_MIB = 1024 * 1024
# nvidia-ml-py has had them since driver 615; older ones are allowed.
_BINDING_HAS_SHARE_LIMITS = hasattr(pynvml, "nvmlDeviceGetMemoryLimits_v1")
_NOT_ASKED = Processes(None, reason=say("processes_on_request"))


@dataclass(slots=True)
class _Device:
    """A piece and what was opened for it. `absent` says why a piece has no handle."""

    piece: Piece
    handle: object = None
    card: object = None
    meter: GpmMeter | None = None
    absent: Sentence | None = None
    memory_version: int | None = pynvml.nvmlMemory_v2
    has_share_limits: bool = _BINDING_HAS_SHARE_LIMITS
    card_values: Card = field(default_factory=lambda: Card(None, None, say("card_on_request")))
    processes: Processes = _NOT_ASKED


class _Shown:
    """The devices that the driver shows here, each to be taken once.

    In a pod some engines tell no UUIDs (NVIDIA's device plugin, KAI), and the lease has names
    of the Hub's own. The container shows no devices but the pod's, so a piece of such a name is
    the next device of its profile.
    """

    def __init__(self) -> None:
        self._left: list[tuple[object, str | None]] | None = None

    def take(self, piece: Piece) -> object | None:
        """None when nothing like it is left. Raises NVMLError."""
        if bare_uuid(piece.uuid):
            return pynvml.nvmlDeviceGetHandleByUUID(piece.uuid)
        if self._left is None:
            self._left = list(_visible())
        for entry in self._left:
            if entry[1] == piece.profile:
                self._left.remove(entry)
                return entry[0]
        return None


def _visible() -> Iterator[tuple[object, str | None]]:
    """Each device with its MIG profile, None for a whole card."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        card = pynvml.nvmlDeviceGetHandleByIndex(index)
        if not _is_in_mig_mode(card):
            yield card, None
            continue
        for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(card)):
            try:
                found = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card, place)
            except pynvml.NVMLError as error:
                if is_gone(error):
                    raise
                continue  # an empty place, or somebody else's
            name = pynvml.nvmlDeviceGetName(found)
            yield found, name.partition(" MIG ")[2] or None


def _is_in_mig_mode(card: object) -> bool:
    try:
        return pynvml.nvmlDeviceGetMigMode(card)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError as error:
        if is_gone(error):
            raise
        return False  # cards before Ampere have no such mode


class NvmlSource:
    """The pieces of `lease`. On a shared card the processes of `session` are the lease's own."""

    simulated = False

    def __init__(self, lease: Lease, session: Session, *, find_again_seconds: float = 30.0) -> None:
        self._lease = lease
        self._by_hami = lease.enforcement.by == "hami"
        self._find_again_seconds = find_again_seconds
        self._find_again_at = 0.0
        self._session = session
        self._devices: list[_Device] = []
        self._is_open = False

    def open(self) -> None:
        self.close()
        try:
            pynvml.nvmlInit()
            self._is_open = True
            shown = _Shown()
            self._devices = [self._find(piece, shown) for piece in self._lease.pieces]
            self._find_again_at = time.monotonic() + self._find_again_seconds
        except pynvml.NVMLError as error:
            self.close()
            raise SourceLost(reason_of(code_of(error))) from error

    def close(self) -> None:
        if not self._is_open:
            return
        for device in self._devices:
            if device.meter:
                device.meter.close()
        self._devices = []
        self._is_open = False
        # It may be down already, with the driver.
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    def _find(self, piece: Piece, shown: _Shown) -> _Device:
        device = _Device(piece)
        try:
            device.handle = shown.take(piece)
            if device.handle is None:
                device.absent = say("device_not_here", uuid=piece.uuid)
                return device
            instance = None
            if piece.mig_uuid:
                device.card = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device.handle)
                instance = pynvml.nvmlDeviceGetGpuInstanceId(device.handle)
            else:
                device.card = device.handle
            device.meter = GpmMeter(device.card, instance)
        except pynvml.NVMLError as error:
            if is_gone(error):
                raise
            if code_of(error) == pynvml.NVML_ERROR_NOT_FOUND:
                device.absent = say("device_not_here", uuid=piece.uuid)
            else:
                device.absent = reason_of(code_of(error))
        return device

    def read(self, *, slow: bool) -> list[DeviceFigures]:
        figures, losses = [], []
        for device in self._devices:
            try:
                figures.append(self._read_device(device, slow))
            except pynvml.NVMLError as error:
                losses.append(reason_of(code_of(error)))
                figures.append(_without_figures(device.piece, losses[-1]))
        if losses and len(losses) == len(figures):
            raise SourceLost(losses[0])
        is_partial = bool(losses) or any(device.absent for device in self._devices)
        if is_partial and time.monotonic() >= self._find_again_at:
            self.open()
        return figures

    def _read_device(self, device: _Device, slow: bool) -> DeviceFigures:
        if device.absent:
            return _without_figures(device.piece, device.absent)
        if slow:
            device.processes = self._processes(device)
            device.card_values = _card_values(device.card)
        return DeviceFigures(
            device.piece, self._memory(device), _busy(device), device.card_values, device.processes
        )

    def _memory(self, device: _Device) -> Memory:
        scope = device.piece.scope
        if scope == "share":
            return (
                _share_limits(device)
                or (self._by_hami and _hami_memory(device))
                or _sum_of_own(device)
                or _handle_memory(device, "card", say("memory_is_the_cards"))
            )
        return _handle_memory(device, scope, None)

    def _processes(self, device: _Device) -> Processes:
        try:
            listed = _listed_processes(device.handle)
        except pynvml.NVMLError as error:
            if is_gone(error):
                raise
            return Processes(None, reason=reason_of(code_of(error)))
        rows = tuple(ProcessMemory(pid, mib) for pid, mib in sorted(listed.items()))
        if device.piece.scope != "share":
            return Processes(rows)
        if not driver_pids_are_ours(listed):
            return Processes(None, reason=say("processes_of_others"))
        own = self._session.members()
        mine = tuple(row for row in rows if row.pid in own)
        return Processes(mine, others=len(rows) - len(mine))


def _listed_processes(handle: object) -> dict[int, int | None]:
    """MiB by PID of all processes that compute there.

    Clients of MPS have a list of their own, and may stand in both.
    """
    listed: dict[int, int | None] = {}
    for ask in (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses,
    ):
        try:
            for process in ask(handle):
                listed[process.pid] = _mib(process.usedGpuMemory)
        except pynvml.NVMLError as error:
            if ask is pynvml.nvmlDeviceGetComputeRunningProcesses or code_of(error) not in LASTING:
                raise
    return listed


def _handle_memory(device: _Device, scope: Scope, reason: Sentence | None) -> Memory:
    try:
        try:
            info = pynvml.nvmlDeviceGetMemoryInfo(device.handle, version=device.memory_version)
        except pynvml.NVMLError as error:
            # Drivers before 510 have only the first version, which counts the driver's
            # own reserve as used.
            if device.memory_version is None or code_of(error) not in LASTING:
                raise
            device.memory_version = None
            info = pynvml.nvmlDeviceGetMemoryInfo(device.handle)
    except pynvml.NVMLError as error:
        # Every device tells its memory. Unless that is forbidden, a failure means that the
        # device is not there any more, whichever code the driver has for it.
        if code_of(error) != pynvml.NVML_ERROR_NO_PERMISSION:
            raise
        return Memory(None, None, scope, reason_of(code_of(error)))
    return Memory(_mib(info.used), _mib(info.total), scope, reason)


def _share_limits(device: _Device) -> Memory | None:
    """What the driver itself counts for this server's cgroup; None where it keeps no limit.

    Source: nvml.h of driver 615, nvmlDeviceGetMemoryLimits_v1 (unprivileged read).
    """
    if not device.has_share_limits:
        return None
    limits = pynvml.c_nvmlGetMemoryLimits_v1_t()
    limits.nameSpace = _own_cgroup().encode()
    try:
        pynvml.nvmlDeviceGetMemoryLimits_v1(device.handle, limits)
    except pynvml.NVMLError as error:
        if is_gone(error):
            raise
        device.has_share_limits = code_of(error) not in LASTING
        return None
    if limits.hardLimit == pynvml.NVML_DEVICE_MEMORY_LIMIT_MAX:
        return None
    return Memory(_mib(limits.currentUsed), _mib(limits.hardLimit), "share")


def _hami_memory(device: _Device) -> Memory | None:
    """What HAMi-core says in the driver's place: its limit as the total, and what this
    container uses. None where the whole card shows, so HAMi-core is not at work.

    Source: HAMi-core 156b508, src/nvml/hook.c (_nvmlDeviceGetMemoryInfo).
    """
    memory = _handle_memory(device, "share", None)
    if memory.limit_mib is None or memory.limit_mib > device.piece.memory_mib:
        return None
    return memory


def _own_cgroup() -> str:
    """The directory of this process's cgroup (version 2)."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return "/sys/fs/cgroup" + line.removeprefix("0::").rstrip("/")
    except OSError:
        pass
    return "/sys/fs/cgroup"


def _sum_of_own(device: _Device) -> Memory | None:
    """The memory of this server's processes on a shared card, as old as the process list."""
    listed = device.processes.listed
    if listed is None or any(process.memory_mib is None for process in listed):
        return None
    used = sum(process.memory_mib or 0 for process in listed)
    return Memory(used, device.piece.memory_mib, "share")


def _busy(device: _Device) -> Busy:
    piece, meter = device.piece, device.meter
    scope = "slice" if piece.mig_uuid else "card"
    measured = meter.read() if meter else say("not_supported")
    if not isinstance(measured, Sentence):
        return Busy(round(measured), scope, "gpm")
    if piece.mig_uuid:
        return Busy(None, scope, reason=_slice_reason(measured, meter))
    if measured.key in ("warming_up", "busy_no_value"):
        # One card's load never changes its meaning from one tick to the next.
        return Busy(None, scope, reason=measured)
    try:
        percent = pynvml.nvmlDeviceGetUtilizationRates(device.card).gpu
    except pynvml.NVMLError as error:
        if is_gone(error):
            raise
        return Busy(None, scope, reason=reason_of(code_of(error)))
    return Busy(int(percent), scope, "nvml")


def _slice_reason(measured: Sentence, meter: GpmMeter | None) -> Sentence:
    if meter and meter.is_absent:
        old_driver = measured.key == "not_supported_by_driver"
        return measured if old_driver else say("busy_not_on_ampere_mig")
    return say("busy_gpm_not_permitted") if measured.key == "no_permission" else measured


def _card_values(card: object) -> Card:
    power = _or_reason(lambda: round(pynvml.nvmlDeviceGetPowerUsage(card) / 1000))
    temperature = _or_reason(
        lambda: int(pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU))
    )
    reason = next((v for v in (power, temperature) if isinstance(v, Sentence)), None)
    return Card(
        power if isinstance(power, int) else None,
        temperature if isinstance(temperature, int) else None,
        reason,
    )


def _or_reason(reading: Callable[[], int]) -> int | Sentence:
    try:
        return reading()
    except pynvml.NVMLError as error:
        if is_gone(error):
            raise
        return reason_of(code_of(error))


def _without_figures(piece: Piece, reason: Sentence) -> DeviceFigures:
    scope = piece.scope
    return DeviceFigures(
        piece,
        Memory(None, None, scope, reason),
        Busy(None, "slice" if piece.mig_uuid else "card", reason=reason),
        Card(None, None, reason),
        Processes(None, reason=reason),
    )


def _mib(size_bytes: Any) -> int | None:
    """Bytes to MiB; None where the driver had no value."""
    return None if size_bytes is None else int(size_bytes) // _MIB
