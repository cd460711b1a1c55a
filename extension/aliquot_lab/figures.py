"""Figures: what was measured of a lease's pieces at one moment.

Frozen values that sources make and doors print. A figure that could not be measured is
None, never 0, and has its reason beside it.

A *scope* says what a figure belongs to: the slice, the share, or the whole card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from aliquot_lab.lease import Piece, Scope
from aliquot_lab.wording import Sentence

BusySource = Literal["gpm", "nvml", "simulated"]


@dataclass(frozen=True, slots=True)
class Memory:
    """`scope` holds for both numbers; `reason` also says why a scope is wider than the piece."""

    used_mib: int | None
    limit_mib: int | None
    scope: Scope
    reason: Sentence | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """Load in percent of what `scope` names.

    From "gpm": the share of SMs with work, averaged since the reading before. From "nvml":
    the time in which any kernel ran. From "simulated": processor time, of one core.
    """

    percent: int | None
    scope: Scope
    source: BusySource | None = None
    reason: Sentence | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """Slow values of the whole card. `temperature` is that of the GPU's core."""

    power_watts: int | None
    temperature_celsius: int | None
    reason: Sentence | None = None


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    pid: int
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class Processes:
    """Who uses the piece.

    `pids` are the driver's, which inside a container are not the container's own. Of a
    shared card only this server's processes are listed; `others` counts the rest, None
    if they cannot be told apart.
    """

    listed: tuple[ProcessMemory, ...] | None
    others: int | None = None
    reason: Sentence | None = None


@dataclass(frozen=True, slots=True)
class DeviceFigures:
    piece: Piece
    memory: Memory
    busy: Busy
    card: Card
    processes: Processes


class SourceLost(Exception):
    """The source gives nothing at all; the sampler shows the last figures as stale and retries."""

    def __init__(self, reason: Sentence) -> None:
        super().__init__(reason.text())
        self.reason = reason


class Source(Protocol):
    """Where figures come from.

    Every method is called by one thread. `open` and `read` raise SourceLost when nothing
    can be read; `read` returns one DeviceFigures per piece, in the lease's order, and
    reads the slow values (card, processes) only when asked, repeating the last ones
    otherwise. `close` never raises and may be followed by `open`.
    """

    simulated: bool

    def open(self) -> None: ...

    def read(self, *, slow: bool) -> Sequence[DeviceFigures]: ...

    def close(self) -> None: ...
