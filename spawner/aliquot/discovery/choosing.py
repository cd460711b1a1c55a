"""Which source an admin's setting means."""

from __future__ import annotations

from datetime import UTC, datetime

from aliquot.discovery.kubernetes.source import KubernetesSource
from aliquot.discovery.mps import default_pipe_directory
from aliquot.discovery.nvml import NvmlSource
from aliquot.discovery.simulated import SimulatedSource
from aliquot.discovery.source import InventorySource, NoDriver
from aliquot.domain.inventory import Inventory


def source_for(
    name: str,
    *,
    simulated_machine: str = "",
    mps_pipe_directory: str = "",
    allow_advisory_blocks: bool = False,
    binding: str = "auto",
    ledger_mark: str = "",
) -> InventorySource:
    """The source called ``auto``, ``nvml``, ``simulated`` or ``kubernetes``. An empty string
    leaves the default: the machine that ships, and where CUDA itself would look for MPS.

    ``binding`` and ``ledger_mark`` are for Kubernetes: the one engine that may be used, and the
    mark of this deployment's pods. Raises ValueError for another name.
    """
    if name == "kubernetes":
        return KubernetesSource(binding=binding, ledger_mark=ledger_mark)
    if name == "simulated":
        return SimulatedSource(simulated_machine or None)
    nvml = NvmlSource(
        mps_pipe_directory=mps_pipe_directory or default_pipe_directory(),
        allow_advisory_blocks=allow_advisory_blocks,
    )
    if name == "nvml":
        return nvml
    if name == "auto":
        return NvmlIfDriver(nvml)
    raise ValueError(f"no source of GPUs is called {name!r}: auto, nvml, simulated or kubernetes")


class NvmlIfDriver:
    """NVML; a machine without a driver has no GPUs, and says so in a note.

    Once GPUs were seen, a missing driver is a fault: it was unloaded or broke, and leases
    hang on what it drove.
    """

    def __init__(self, nvml: InventorySource) -> None:
        self._nvml = nvml
        self._gpus_were_seen = False

    def read(self) -> Inventory:
        try:
            inventory = self._nvml.read()
        except NoDriver as reason:
            if self._gpus_were_seen:
                raise
            return Inventory((), "nvml", datetime.now(UTC), notes=(str(reason),))
        self._gpus_were_seen |= bool(inventory.gpus)
        return inventory
