"""Sources: which source a lease's figures come from, made late.

Importing the driver's binding takes tens of milliseconds, which belong neither into a
server's start nor onto its event loop; so a source is made when it is first opened, in the
sampler's thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from aliquot_lab.figures import DeviceFigures, Source, SourceLost
from aliquot_lab.lease import Lease
from aliquot_lab.own_processes import Session
from aliquot_lab.wording import say


def source_of(lease: Lease, session: Session) -> Source:
    """The source for a lease; SourceLost if its Python package is not installed."""
    if lease.simulated:
        from aliquot_lab.simulated import SimulatedSource

        return SimulatedSource(lease, session)
    try:
        from aliquot_lab.nvml_source import NvmlSource
    except ModuleNotFoundError as error:
        if error.name != "pynvml":
            raise
        raise SourceLost(say("nvml_package_missing")) from error
    return NvmlSource(lease, session)


class LazySource:
    """The lease's source, made when it is first opened."""

    def __init__(self, lease: Lease, session: Session) -> None:
        self.simulated = lease.simulated
        self._lease = lease
        self._session = session
        self._source: Source | None = None

    def open(self) -> None:
        if self._source is None:
            self._source = source_of(self._lease, self._session)
        self._source.open()

    def read(self, *, slow: bool) -> Sequence[DeviceFigures]:
        assert self._source is not None, "opened first"
        return self._source.read(slow=slow)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
