"""Sampler: one thread that keeps a server's figures fresh.

NVML can block for milliseconds, and for half a minute when a driver is ill, so nothing of
it ever runs on the server's event loop. The thread reads memory and load once a second,
and the slow values only while somebody looks. It keeps the newest figures and a ring of
rows; readers take them under a lock that is never held during a reading.

When the source is lost the last figures stay, called stale, and the source is opened again
after growing pauses. The log gets one line when figures stop and one when they return.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from aliquot_lab.figures import DeviceFigures, Source, SourceLost
from aliquot_lab.wording import Sentence, say

State = Literal["live", "stale", "no_gpu", "unavailable"]

HISTORY_ROWS = 300
_STALE_SECONDS = 5.0
_WATCHED_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """One tick of history; the tuples follow the lease's pieces."""

    sequence: int
    at: datetime
    memory_used_mib: tuple[int | None, ...]
    busy_percent: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest figures, and how much they are worth. `sequence` 0 means none yet."""

    state: State
    state_reason: Sentence | None
    sequence: int = 0
    sampled_at: datetime | None = None
    age_seconds: float | None = None
    devices: tuple[DeviceFigures, ...] = ()


class Sampler:
    """Reads `source` every `period_seconds` in a daemon thread of its own.

    `on_tick` is called in that thread after every attempt, successful or not; it must be
    quick and not raise.
    """

    def __init__(
        self,
        source: Source,
        *,
        period_seconds: float = 1.0,
        slow_seconds: float = 5.0,
        unwatched_slow_seconds: float = 60.0,
        log: logging.Logger | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._period_seconds = period_seconds
        self._slow_seconds = slow_seconds
        self._unwatched_slow_seconds = unwatched_slow_seconds
        self._log = log or logging.getLogger(__name__)
        self._on_tick = on_tick or (lambda: None)
        self._lock = threading.Lock()
        self._rows: deque[Row] = deque(maxlen=HISTORY_ROWS)
        self._devices: tuple[DeviceFigures, ...] = ()
        self._sequence = 0
        self._sampled_at: datetime | None = None
        self._sampled_clock = 0.0
        self._lost: Sentence | None = None
        self._is_open = False
        self._slow_read_at: float | None = None
        self._watched_until = 0.0
        self._watchers = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; without effect when it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="aliquot-sampler", daemon=True)
            self._thread.start()

    def stop(self, wait_seconds: float = 1.0) -> None:
        """Ask the thread to end and wait a little; a driver call that hangs is left behind."""
        self._stopping = True
        self._wake.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(wait_seconds)

    def look(self) -> None:
        """Somebody reads the figures: slow values are worth their cost for a while."""
        was_watched = self._is_watched(time.monotonic())
        self._watched_until = time.monotonic() + _WATCHED_SECONDS
        if not was_watched:
            self._slow_read_at = None

    def watch(self) -> None:
        """Somebody looks until `unwatch`."""
        self.look()
        self._watchers += 1

    def unwatch(self) -> None:
        self._watchers -= 1

    def snapshot(self) -> Snapshot:
        with self._lock:
            devices, sequence, lost = self._devices, self._sequence, self._lost
            sampled_at, sampled_clock = self._sampled_at, self._sampled_clock
        if sampled_at is None:
            return Snapshot("unavailable", lost or say("first_figures"))
        age = max(0.0, time.monotonic() - sampled_clock)
        if lost is None and age > _STALE_SECONDS:
            # The thread hangs in the driver: nobody else can say so.
            lost = say("late", seconds=int(age))
        return Snapshot("stale" if lost else "live", lost, sequence, sampled_at, age, devices)

    def rows_after(self, sequence: int) -> list[Row]:
        """The rows newer than `sequence`, oldest first; at most the ring's length.

        A sequence that was not reached yet is of a server before this one: all rows are new.
        """
        with self._lock:
            if sequence == self._sequence:
                return []
            if sequence > self._sequence:
                sequence = 0
            return [row for row in self._rows if row.sequence > sequence]

    def read_now(self, gap_seconds: float = 0.15) -> Snapshot:
        """Read twice in the caller's thread, for a sampler that was never started.

        Load is measured between two readings, hence the gap.
        """
        self.look()
        if self._attempt():
            time.sleep(gap_seconds)
            self._attempt()
        return self.snapshot()

    def close(self) -> None:
        """Give the source back; for a sampler that was never started."""
        self._source.close()
        self._is_open = False

    def _run(self) -> None:
        pause_seconds = self._period_seconds
        next_at = time.monotonic()
        while not self._stopping:
            if self._attempt():
                pause_seconds = self._period_seconds
                # Hold the rhythm, but never catch up with readings missed in a long call.
                next_at = max(next_at + self._period_seconds, time.monotonic())
            else:
                next_at = time.monotonic() + pause_seconds
                pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * pause_seconds)
            self._on_tick()
            self._wake.wait(max(0.0, next_at - time.monotonic()))
        self._source.close()

    def _attempt(self) -> bool:
        try:
            if not self._is_open:
                self._source.open()
                self._is_open = True
                self._slow_read_at = None
            is_slow = self._slow_is_due()
            devices = self._source.read(slow=is_slow)
        except SourceLost as lost:
            self._lose(lost.reason)
            return False
        except Exception as error:
            # Whatever a driver or a library of another version does, the thread lives on.
            self._lose(say("sampler_fault", fault=f"{type(error).__name__}: {error}"))
            return False
        if is_slow:
            self._slow_read_at = time.monotonic()
        self._keep(devices)
        return True

    def _keep(self, devices: Sequence[DeviceFigures]) -> None:
        now = datetime.now(UTC)
        with self._lock:
            returned, self._lost = self._lost, None
            self._devices = tuple(devices)
            self._sequence += 1
            self._sampled_at, self._sampled_clock = now, time.monotonic()
            self._rows.append(
                Row(
                    self._sequence,
                    now,
                    tuple(device.memory.used_mib for device in devices),
                    tuple(device.busy.percent for device in devices),
                )
            )
        if returned:
            self._log.info("GPU figures are back")

    def _lose(self, reason: Sentence) -> None:
        with self._lock:
            is_news = self._lost is None
            self._lost = reason
        self._source.close()
        self._is_open = False
        if is_news:
            self._log.warning("GPU figures stopped: %s", reason.text())

    def _slow_is_due(self) -> bool:
        now = time.monotonic()
        every = self._slow_seconds if self._is_watched(now) else self._unwatched_slow_seconds
        return self._slow_read_at is None or now - self._slow_read_at >= every

    def _is_watched(self, now: float) -> bool:
        return self._watchers > 0 or now < self._watched_until
