"""Following a starting pod: what Kubernetes says of it, in sentences, and when to give up.

Everything is read from what KubeSpawner watches anyway, so following costs no request. A
follower belongs to one attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aliquot.domain.pending import PendingReason, Told, dead_end, tell, waiting_for
from aliquot.domain.refusals import Number
from aliquot.domain.wording import say, say_told

LOOK_SECONDS = 1.0
_ROOM_SECONDS = 10.0
# KubeSpawner deletes and makes a pod anew when its first answer was lost.
_LOOKS_WITHOUT_POD = 5

Seen = tuple[Mapping[str, Any] | None, Iterable[Mapping[str, Any]]]


class PodFollower:
    """``look`` gives the attempt's own pod, if it is there, and that pod's own events;
    ``read_room`` the numbers of ``pending_room``, and blocks."""

    def __init__(
        self, look: Callable[[], Seen], read_room: Callable[[], Mapping[str, Number]], language: str
    ) -> None:
        self._look = look
        self._read_room = read_room
        self._language = language
        self._room: Mapping[str, Number] = {}
        self._room_read_at = float("-inf")

    async def sentences(self) -> list[str]:
        """What is to be told now, oldest first; what still holds is told again."""
        return [await self._sentence(told) for told in tell(*self._look())]

    async def until_dead_end(self) -> str:
        """Wait until the pod has no way to run any more; the sentence that says why."""
        missing = 0
        seen = False
        while True:
            pod, events = self._look()
            if (end := dead_end(tell(pod, events))) is not None:
                return say("start.ended", self._language, why=await self._sentence(end))
            seen = seen or pod is not None
            missing = missing + 1 if seen and pod is None else 0
            if missing > _LOOKS_WITHOUT_POD:
                return say("start.pod_deleted", self._language)
            await asyncio.sleep(LOOK_SECONDS)

    async def gave_up(self, start_seconds: int) -> str | None:
        """Why the pod did not run in time; None when Kubernetes has said nothing of it."""
        waiting = waiting_for(tell(*self._look()))
        if waiting is None:
            return None
        why = await self._sentence(waiting)
        return say("start.gave_up", self._language, start_seconds=start_seconds, why=why)

    async def _sentence(self, told: Told) -> str:
        if told.what is PendingReason.NO_FREE_GPU:
            now = time.monotonic()
            if now - self._room_read_at > _ROOM_SECONDS:
                self._room_read_at = now
                self._room = await asyncio.to_thread(self._read_room)
        return say_told(told, self._room, self._language)
