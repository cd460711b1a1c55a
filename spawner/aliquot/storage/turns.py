"""Turns: writers of one process that wait at the same moment share a transaction.

Nearly all of a reservation's time is the disk's, at the commit. When a class of sixty starts
its notebooks at once, whoever has the write lock therefore does the work of all that wait,
one after the other in the order in which they came, and commits once. Each still decides on
what the ones before it have written, and none is answered before the commit. Who comes when
nobody writes does its own at once.

If one of them fails, all is undone and each gets a transaction to itself: a fault of one is
never another's. An operation may hence run twice, and changes nothing but its transaction.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from aliquot.storage.transactions import WriteTransaction

Operation = Callable[[WriteTransaction], Any]

# Bounds how long one commit keeps the first of them waiting.
MOST_AT_ONCE = 64


class _Turn:
    """One operation, and what came of it. ``woken`` is let go once: when it is done, or when
    it is this one's turn to lead."""

    __slots__ = ("error", "is_done", "leads", "operation", "result", "woken")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.result: Any = None
        self.error: Exception | None = None
        self.is_done = False
        self.leads = False
        self.woken = threading.Lock()
        self.woken.acquire()


class Turns:
    """``run_all`` is given a list of operations and commits them together or raises. It is
    called with ``lock`` held, which others may hold for writes of their own."""

    def __init__(
        self, lock: threading.Lock, run_all: Callable[[list[Operation]], list[Any]]
    ) -> None:
        self._lock = lock
        self._run_all = run_all
        self._mutex = threading.Lock()
        # The first in the line leads, from the moment when nobody else does.
        self._line: deque[_Turn] = deque()
        self._has_leader = False

    def take(self, operation: Operation, wait_seconds: float) -> Any:
        """Do it, with those of others. Raises TimeoutError when the lock was not to be had."""
        if not self._has_leader and self._lock.acquire(blocking=False):
            # Nobody waits and nobody writes. Who comes meanwhile makes the line.
            try:
                return self._run_all([operation])[0]
            finally:
                self._lock.release()
        deadline = time.monotonic() + wait_seconds
        turn = _Turn(operation)
        with self._mutex:
            self._line.append(turn)
            turn.leads = not self._has_leader
            self._has_leader = True
        if not turn.leads and not turn.woken.acquire(timeout=wait_seconds):
            with self._mutex:
                is_waiting = turn in self._line and not turn.leads
                if is_waiting:
                    self._line.remove(turn)
            if is_waiting:
                raise TimeoutError
            # Somebody is at it, or has just made us lead.
            turn.woken.acquire()
        if not turn.is_done:
            self._lead(turn, deadline)
        if turn.error is not None:
            raise turn.error
        return turn.result

    def _lead(self, mine: _Turn, deadline: float) -> None:
        turns: list[_Turn] = [mine]
        try:
            if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                with self._mutex:
                    self._line.popleft()
                raise TimeoutError
            try:
                with self._mutex:
                    turns = [
                        self._line.popleft() for _ in range(min(len(self._line), MOST_AT_ONCE))
                    ]
                self._work(turns)
            finally:
                self._lock.release()
        finally:
            self._hand_on([turn for turn in turns if turn is not mine])

    def _hand_on(self, others: list[_Turn]) -> None:
        """Wake those whose work is done, and the next to lead."""
        with self._mutex:
            # Some are not done if we were interrupted (Ctrl-C): they keep their place.
            self._line.extendleft(turn for turn in reversed(others) if not turn.is_done)
            if self._line:
                self._line[0].leads = True
                self._line[0].woken.release()
            else:
                self._has_leader = False
        for turn in others:
            if turn.is_done:
                turn.woken.release()

    def _work(self, turns: list[_Turn]) -> None:
        if len(turns) > 1:
            try:
                results = self._run_all([turn.operation for turn in turns])
            except Exception:
                pass  # whose fault it is shows when each has a transaction to itself
            else:
                for turn, result in zip(turns, results, strict=True):
                    turn.result, turn.is_done = result, True
                return
        for turn in turns:
            try:
                (turn.result,) = self._run_all([turn.operation])
            except Exception as error:
                turn.error = error
            turn.is_done = True
