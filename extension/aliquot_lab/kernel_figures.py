"""Kernel figures: figures read in the notebook's own kernel.

For `%gpu`, for the snapshot in a saved notebook, and for a widget whose page cannot reach
the server extension (VS Code, Colab). The page asks for them and keeps asking; nobody asks,
nothing runs: figures that a kernel sends count as the kernel's activity.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from aliquot_lab.lease import Lease, LeaseFault, read_lease
from aliquot_lab.own_processes import session_of_kernel
from aliquot_lab.sampler import Sampler, Snapshot
from aliquot_lab.sources import LazySource
from aliquot_lab.usage_message import snapshot_without_source, usage_message

_PERIOD_SECONDS = 1.0


def read_message(language: str) -> dict[str, Any]:
    """One message, read now; takes about 0.2 s because load needs two readings."""
    lease = read_lease(os.environ)
    if not isinstance(lease, Lease):
        return _without_source(lease, language)
    sampler = _sampler(lease)
    try:
        return usage_message(lease, sampler.read_now(), (), language)
    finally:
        sampler.close()


def _sampler(lease: Lease, on_tick: Callable[[], None] | None = None) -> Sampler:
    source = LazySource(lease, session_of_kernel(os.environ))
    return Sampler(source, period_seconds=_PERIOD_SECONDS, on_tick=on_tick)


def _without_source(lease: LeaseFault | None, language: str) -> dict[str, Any]:
    return usage_message(lease, snapshot_without_source(lease), (), language)


class Pump:
    """Gives `deliver` a message a second for as long as `ask` is repeated.

    `deliver` is called in the sampler's thread.
    """

    def __init__(self, language: str, deliver: Callable[[dict[str, Any]], None]) -> None:
        self._language = language
        self._deliver = deliver
        self._lock = threading.Lock()
        self._sampler: Sampler | None = None
        self._lease: Lease | LeaseFault | None = None
        self._until = 0.0

    def ask(self, seconds: float) -> None:
        """Pump for `seconds` more."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)
            if self._sampler:
                return
            self._lease = read_lease(os.environ)
            if isinstance(self._lease, Lease):
                self._sampler = _sampler(self._lease, self._ticked)
                self._sampler.look()
                self._sampler.start()
                return
        self._deliver(_without_source(self._lease, self._language))

    def stop(self) -> None:
        with self._lock:
            sampler, self._sampler = self._sampler, None
            self._until = 0.0
        if sampler:
            sampler.stop(wait_seconds=0)

    def _ticked(self) -> None:
        with self._lock:
            sampler, is_over = self._sampler, time.monotonic() >= self._until
        if sampler is None:
            return
        if is_over:
            self.stop()
            return
        sampler.look()
        snapshot: Snapshot = sampler.snapshot()
        self._deliver(usage_message(self._lease, snapshot, (), self._language))
