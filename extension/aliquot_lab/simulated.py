"""Simulated source: figures for machines without GPUs, from what this server really does.

A demonstration must move when its user works and rest when he rests, and must never pass
for a measurement. So memory is the resident memory of this server's kernels and terminals
(at most the piece), load is their processor time as percent of one core (at most 100), and
every figure is marked simulated. Several pieces share memory in proportion to their size.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil

from aliquot_lab.figures import Busy, Card, DeviceFigures, Memory, Processes, ProcessMemory
from aliquot_lab.lease import Lease
from aliquot_lab.own_processes import Session
from aliquot_lab.wording import say

_MIB = 1024 * 1024
_FIND_SECONDS = 3.0


@dataclass(slots=True)
class _Seen:
    """One process and the processor time that it had used at the reading before."""

    process: psutil.Process
    cpu_seconds: float


class SimulatedSource:
    """Figures of the processes in which the user's code runs."""

    simulated = True

    def __init__(self, lease: Lease, session: Session) -> None:
        self._lease = lease
        self._session = session
        self._seen: dict[int, _Seen] = {}
        self._read_at: float | None = None
        self._found_at: float | None = None

    def open(self) -> None:
        self._seen, self._read_at, self._found_at = {}, None, None

    def close(self) -> None:
        self._seen = {}

    def read(self, *, slow: bool) -> list[DeviceFigures]:
        del slow  # Nothing here is slow.
        now = time.monotonic()
        if self._found_at is None or now - self._found_at >= _FIND_SECONDS:
            self._find()
            self._found_at = now
        cpu_seconds, memory = self._use()
        percent = None
        if self._read_at is not None and now > self._read_at:
            percent = min(100, round(100 * cpu_seconds / (now - self._read_at)))
        self._read_at = now
        return self._figures(percent, memory)

    def _find(self) -> None:
        pids = set(self._session.workers())
        for pid in pids - self._seen.keys():
            try:
                process = psutil.Process(pid)
                self._seen[pid] = _Seen(process, _cpu_seconds(process))
            except psutil.Error:
                continue
        for pid in self._seen.keys() - pids:
            del self._seen[pid]

    def _use(self) -> tuple[float, dict[int, int]]:
        """Processor seconds since the reading before, and resident bytes by process."""
        spent, memory = 0.0, {}
        for pid, seen in list(self._seen.items()):
            try:
                cpu_seconds = _cpu_seconds(seen.process)
                memory[pid] = seen.process.memory_info().rss
            except psutil.Error:
                del self._seen[pid]
                continue
            spent += max(0.0, cpu_seconds - seen.cpu_seconds)
            seen.cpu_seconds = cpu_seconds
        return spent, memory

    def _figures(self, percent: int | None, memory: dict[int, int]) -> list[DeviceFigures]:
        total_mib = sum(piece.memory_mib for piece in self._lease.pieces) or 1
        used_mib = sum(memory.values()) // _MIB
        rows = tuple(ProcessMemory(pid, size // _MIB) for pid, size in sorted(memory.items()))
        return [
            DeviceFigures(
                piece,
                Memory(
                    min(piece.memory_mib, used_mib * piece.memory_mib // total_mib),
                    piece.memory_mib,
                    piece.scope,
                ),
                Busy(
                    percent,
                    piece.scope,
                    None if percent is None else "simulated",
                    say("warming_up") if percent is None else None,
                ),
                Card(None, None, say("simulated_card")),
                Processes(rows),
            )
            for piece in self._lease.pieces
        ]


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
