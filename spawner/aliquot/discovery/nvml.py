"""The source that asks NVIDIA's driver, through NVML.

Every read initialises NVML, looks, and shuts it down: a driver that was reloaded, or an
instance that was made a minute ago, is then seen as it is.

A driver in trouble may not return at all. The reading runs in a thread of its own; after a
while it is left alone, and until it comes back every further read says so at once.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

import pynvml

from aliquot.discovery.mps import look_for_daemon
from aliquot.discovery.nvml_reading import read_machine
from aliquot.discovery.source import GpuStateUnreadable, NoDriver
from aliquot.domain.inventory import Inventory

log = logging.getLogger(__name__)

# Without persistence mode a driver wakes each GPU first, which takes seconds.
ANSWER_WITHIN_SECONDS = 15.0


class NvmlSource:
    """Safe to call from several threads; one of them reads, the others wait for theirs."""

    def __init__(
        self,
        *,
        mps_pipe_directory: str,
        allow_advisory_blocks: bool = False,
        answer_within_seconds: float = ANSWER_WITHIN_SECONDS,
    ) -> None:
        self._mps_pipe_directory = mps_pipe_directory
        self._allow_advisory_blocks = allow_advisory_blocks
        self._answer_within_seconds = answer_within_seconds
        self._lock = threading.Lock()
        self._last: _Attempt | None = None

    def read(self) -> Inventory:
        """Raises NoDriver without a driver, GpuStateUnreadable when it does not answer."""
        with self._lock:
            if self._last is not None and self._last.thread.is_alive():
                raise GpuStateUnreadable(_silent_since(self._last.waited_seconds))
            attempt = self._last = _Attempt()
            attempt.thread = threading.Thread(
                target=self._run, args=(attempt,), name="aliquot-nvml", daemon=True
            )
            attempt.thread.start()
            attempt.thread.join(self._answer_within_seconds)
            if attempt.thread.is_alive():
                raise GpuStateUnreadable(_silent_since(attempt.waited_seconds))
        if attempt.inventory is None:
            assert attempt.error is not None
            raise attempt.error
        return attempt.inventory

    def _run(self, attempt: _Attempt) -> None:
        try:
            attempt.inventory = self._read()
        except pynvml.NVMLError as error:
            attempt.error = translated(error)
        except Exception as error:
            # Whatever it is, the waiting thread must hear of it, or it would wait in vain.
            attempt.error = error

    def _read(self) -> Inventory:
        mps = look_for_daemon(self._mps_pipe_directory)
        pynvml.nvmlInit()
        try:
            return read_machine(mps, allow_advisory_blocks=self._allow_advisory_blocks)
        finally:
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                log.debug("NVML did not shut down: %s", error)


@dataclass
class _Attempt:
    """One reading, filled in by its thread."""

    started: float = field(default_factory=time.monotonic)
    thread: threading.Thread = field(default_factory=threading.Thread)
    inventory: Inventory | None = None
    error: Exception | None = None

    @property
    def waited_seconds(self) -> float:
        return time.monotonic() - self.started


def _silent_since(seconds: float) -> str:
    return (
        f"The GPUs cannot be read: the NVIDIA driver has not answered for {seconds:.0f} s. "
        "Look at 'nvidia-smi' and the kernel log on this machine; a driver that hangs needs a "
        "reboot."
    )


_NO_DRIVER = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "NVIDIA's library libnvidia-ml.so.1 is not installed",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
}

_WHY: dict[int, tuple[str, str]] = {
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "this process may not use the NVIDIA driver",
        "Let the hub's user read and write /dev/nvidiactl and /dev/nvidia*.",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA library and the loaded driver are of different versions",
        "The driver was updated under way: reload it, or reboot.",
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: (
        "a GPU has fallen off the bus",
        "Look for 'Xid' in the kernel log; the machine needs a reboot.",
    ),
    pynvml.NVML_ERROR_RESET_REQUIRED: (
        "a GPU needs a reset",
        "Stop what uses it and run 'nvidia-smi --gpu-reset', or reboot.",
    ),
}


def translated(error: pynvml.NVMLError) -> GpuStateUnreadable:
    """What an NVML failure means to an admin."""
    code = error.value  # pyright: ignore[reportAttributeAccessIssue]
    if code in _NO_DRIVER:
        return NoDriver(
            f"No GPUs here: {_NO_DRIVER[code]}. Install or load the driver if this machine "
            "has NVIDIA GPUs."
        )
    why, remedy = _WHY.get(
        code, (f"the NVIDIA driver answered '{error}'", "Look at 'nvidia-smi' on this machine.")
    )
    return GpuStateUnreadable(f"The GPUs cannot be read: {why}. {remedy}")
