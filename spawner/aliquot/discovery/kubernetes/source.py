"""The source that watches a Kubernetes cluster.

A thread of its own keeps the state of the cluster; ``read`` takes from it what is known at
once, and says when that was last proven. Nothing here reads a clock of the cluster: a server
whose clock is wrong changes nothing.

The inventory is as old as the oldest of its parts. When the API server cannot be reached it
grows old, and after a minute it is no longer given out: what others took meanwhile is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aliquot.discovery.kubernetes.failures import ApiFailure, Forbidden, NotServed
from aliquot.discovery.kubernetes.state import TOLERATED, ClusterState, Facts, Kind
from aliquot.discovery.kubernetes.watch import (
    LOOK_AGAIN_SECONDS,
    RESOURCES,
    Patience,
    Requests,
    Watch,
)
from aliquot.discovery.source import GpuStateUnreadable
from aliquot.domain.engines import Engine
from aliquot.domain.inventory import Inventory
from aliquot.domain.kubernetes_values import rows

log = logging.getLogger(__name__)

FIRST_LIST_SECONDS = 20.0
STALE_SECONDS = 60.0
KAI_PATH = "/apis/scheduling.run.ai/v2"
_STOP_SECONDS = 5.0


class KubernetesSource:
    """The GPUs of the cluster that the hub runs in, or that ``KUBECONFIG`` names.

    ``binding`` is ``auto`` or the one engine whose GPUs are given out; ``ledger_mark`` tells
    pods of this deployment (``deployment_mark``); ``tolerated`` are the keys of taints that
    notebooks tolerate. The thread starts at the first read and ends with the process, or with
    ``close``; a fork starts its own.
    """

    def __init__(
        self,
        *,
        binding: str = "auto",
        ledger_mark: str = "",
        tolerated: Collection[str] = TOLERATED,
        first_list_seconds: float = FIRST_LIST_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._binding = None if binding == "auto" else Engine(binding)
        self._ledger_mark = ledger_mark
        self._tolerated = frozenset(tolerated)
        self._first_list_seconds = first_list_seconds
        self._stale_seconds = stale_seconds
        self._start_lock = threading.Lock()
        self._follower: _Follower | None = None
        # A lock that another thread held at the fork would stay locked in the child.
        _forget_after_fork(weakref.ref(self))

    @property
    def requests(self) -> Counter[str]:
        """How many requests were sent to the API server, by path."""
        follower = self._follower
        return Counter() if follower is None else follower.requests

    def read(self) -> Inventory:
        """At once, but for the first time, which waits for the first lists.

        Raises GpuStateUnreadable.
        """
        with self._start_lock:
            if self._follower is None:
                state = ClusterState(
                    binding=self._binding,
                    ledger_mark=self._ledger_mark,
                    tolerated=self._tolerated,
                )
                self._follower = _Follower(state)
                # At the end of the process, or of this object: whichever comes first.
                weakref.finalize(self, self._follower.stop)
                self._follower.start()
            follower = self._follower
        return follower.read(self._first_list_seconds, self._stale_seconds)

    def close(self) -> None:
        """Stop watching; a later read starts anew."""
        with self._start_lock:
            follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop()

    def _after_fork(self) -> None:
        self._start_lock = threading.Lock()
        self._follower = None


def _forget_after_fork(source: weakref.ref[KubernetesSource]) -> None:
    def in_child() -> None:
        alive = source()
        if alive is not None:
            alive._after_fork()

    os.register_at_fork(after_in_child=in_child)


@dataclass(slots=True)
class _Known:
    """What is known of the freshness of one part."""

    proven_at: float | None = None
    failure: ApiFailure | None = None


@dataclass
class _Follower:
    """The thread, and what it shares with the readers: all under ``_lock``."""

    _state: ClusterState
    requests: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Condition()
        self._known = {kind: _Known() for kind in Kind}
        self._kai = _Known()
        self._fault: str | None = None
        self._changes = 0
        self._made: tuple[int, float, Inventory] | None = None
        self._started_at = time.monotonic()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="aliquot-kubernetes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._stopping = True
            loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(main.cancel)
        if self._thread is not threading.current_thread():
            self._thread.join(_STOP_SECONDS)

    # For the readers.

    def read(self, first_list_seconds: float, stale_seconds: float) -> Inventory:
        deadline = self._started_at + first_list_seconds
        with self._lock:
            while (why := self._why_incomplete()) is not None:
                left = deadline - time.monotonic()
                if left <= 0 or self._is_final():
                    raise GpuStateUnreadable(why)
                self._lock.wait(left)
            now = time.monotonic()
            oldest = min(known.proven_at or 0.0 for known in self._known.values())
            if now - oldest > stale_seconds or self._forbidden():
                raise GpuStateUnreadable(self._why_stale(now - oldest))
            if self._made is None or self._made[:2] != (self._changes, oldest):
                read_at = datetime.now(UTC) - timedelta(seconds=now - oldest)
                self._made = self._changes, oldest, self._state.inventory(read_at)
            return self._made[2]

    def _parts(self) -> list[tuple[str, _Known]]:
        return [
            *((kind.value, known) for kind, known in self._known.items()),
            ("the Queues of KAI", self._kai),
        ]

    def _why_incomplete(self) -> str | None:
        missing = [(name, known) for name, known in self._parts() if known.proven_at is None]
        if self._fault is None and not missing:
            return None
        if self._fault is not None:
            return f"The GPUs of the cluster cannot be read: {self._fault}"
        told = [known.failure for _, known in missing if known.failure is not None]
        told.sort(key=lambda failure: not isinstance(failure, Forbidden))
        if told:
            return _sentence(told[0])
        names = ", ".join(name for name, _ in missing)
        return (
            f"The GPUs of the cluster are not known yet: the API server has not listed {names}. "
            "Wait a moment; if that lasts, look at the API server's load."
        )

    def _forbidden(self) -> Forbidden | None:
        for known in self._known.values():
            if isinstance(known.failure, Forbidden):
                return known.failure
        return None

    def _is_final(self) -> bool:
        """Waiting does not help."""
        return self._fault is not None or self._forbidden() is not None

    def _why_stale(self, age_seconds: float) -> str:
        forbidden = self._forbidden()
        if forbidden is not None:
            return _sentence(forbidden)
        oldest = min(self._known.values(), key=lambda known: known.proven_at or 0.0)
        if oldest.failure is not None:
            return _sentence(oldest.failure)
        return (
            f"The API server has said nothing about the cluster's GPUs for {age_seconds:.0f} s. "
            "GPU starts go on when it answers; check its load and the network to it."
        )

    # For the thread: a Sink of the watches.

    def facts(self, kind: Kind, obj: Mapping[str, Any]) -> tuple[str, Facts | None]:
        return self._state.facts(kind, obj)

    def listed(self, kind: Kind, objects: Mapping[str, Facts], asked_at: float) -> None:
        with self._lock:
            self._state.replace_all(kind, objects)
            self._changes += 1
            self._known[kind] = _Known(asked_at)
            self._lock.notify_all()

    def changed(self, kind: Kind, name: str, facts: Facts | None) -> None:
        with self._lock:
            self._state.put(kind, name, facts)
            self._changes += 1

    def proven(self, kind: Kind) -> None:
        with self._lock:
            self._known[kind] = _Known(time.monotonic())

    def failed(self, kind: Kind, failure: ApiFailure) -> None:
        with self._lock:
            self._note_failure(self._known[kind], failure)

    def _note_failure(self, known: _Known, failure: ApiFailure) -> None:
        if known.failure is None:
            log.warning("The API server %s", failure)
        known.failure = failure
        self._lock.notify_all()

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except asyncio.CancelledError:
            pass
        except ImportError as error:
            self._end(
                f"the Kubernetes client is not installed ({error}). Install 'aliquot[kubernetes]'."
            )
        except Exception as error:
            # The thread's border: a reader must not wait for a thread that has ended.
            log.exception("the watch on the cluster has ended")
            self._end(f"the watch on it has ended ({error!r}). Restart the hub and report this.")

    def _end(self, fault: str) -> None:
        with self._lock:
            self._fault = fault
            self._lock.notify_all()

    async def _follow(self) -> None:
        # Here and not above: without Kubernetes, the client need not be installed.
        from aliquot.discovery.kubernetes.api import Api

        with self._lock:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            if self._stopping:
                return
        api = Api()
        self.requests = api.requests
        try:
            async with asyncio.TaskGroup() as tasks:
                for resource in RESOURCES:
                    tasks.create_task(Watch(api, resource, self).run())
                tasks.create_task(self._look_for_kai(api))
        finally:
            await api.close()

    async def _look_for_kai(self, api: Requests) -> None:
        """Whether KAI's Queues exist; asked again and again, since an admin may install it."""
        patience = Patience()
        while True:
            try:
                served = await api.get(KAI_PATH, {})
                installed = any(row.get("name") == "queues" for row in rows(served, "resources"))
            except NotServed:
                installed = False
            except ApiFailure as failure:
                with self._lock:
                    self._note_failure(self._kai, failure)
                await asyncio.sleep(patience.wait_seconds(failure.retry_after_seconds))
                continue
            patience.forget()
            with self._lock:
                self._state.put_kai(installed)
                self._changes += 1
                self._kai = _Known(time.monotonic())
                self._lock.notify_all()
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _sentence(failure: ApiFailure) -> str:
    if isinstance(failure, Forbidden):
        return f"The API server {failure}"
    return (
        f"The GPUs of the cluster cannot be read: the API server {failure}. GPU starts go on "
        "when it answers; check the network to it and the hub's configuration."
    )
