"""Telemetry: what one server knows of its GPUs, and who is told.

Brings lease, source, sampler and receipt together and hands out messages. It lives on the
server's event loop; only the sampler's thread touches the driver.

Streams are pushed to, never asked: a push does not count as activity, so an open panel
does not keep an idle server alive. A stream whose client reads too slowly loses the oldest
messages, never the newest.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aliquot_lab.lease import Lease, LeaseFault, read_lease
from aliquot_lab.own_processes import session_of_server
from aliquot_lab.receipt import ReceiptKeeper
from aliquot_lab.sampler import Sampler
from aliquot_lab.sources import LazySource
from aliquot_lab.usage_message import snapshot_without_source, usage_message

_QUEUE_MESSAGES = 4
# A server's first second belongs to the person who waits for it.
_START_DELAY_SECONDS = 1.0
_SILENCE_SECONDS = 3.0


class Stream:
    """One client of the push: a short queue and a task that empties it."""

    def __init__(self, language: str, send: Callable[[str], Awaitable[Any]]) -> None:
        self.language = language
        self._send = send
        self._waiting: deque[str] = deque(maxlen=_QUEUE_MESSAGES)
        self._task: asyncio.Task[None] | None = None

    def put(self, message: str) -> None:
        self._waiting.append(message)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._empty())

    async def _empty(self) -> None:
        while self._waiting:
            try:
                await self._send(self._waiting.popleft())
            except Exception:
                # The client is gone; its handler's on_close removes this stream.
                self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()
        if self._task:
            self._task.cancel()


class Telemetry:
    def __init__(self, environ: Mapping[str, str], log: logging.Logger) -> None:
        self._log = log
        self.lease: Lease | LeaseFault | None = read_lease(environ)
        self._streams: set[Stream] = set()
        self._sampler: Sampler | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._silence: asyncio.TimerHandle | None = None
        known = self.lease if isinstance(self.lease, Lease) else None
        if known:
            self._sampler = Sampler(
                LazySource(known, session_of_server()), log=log, on_tick=self._ticked
            )
        elif isinstance(self.lease, LeaseFault):
            log.warning("aliquot: %s", self.lease.reason.text())
        self.receipts = ReceiptKeeper(known, environ, log)

    def start(self) -> None:
        """Begin to sample and to check the binding; called on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.receipts.start()
        if self._sampler:
            self._loop.call_later(_START_DELAY_SECONDS, self._sampler.start)

    def stop(self) -> None:
        self._loop = None
        self.receipts.stop()
        if self._silence:
            self._silence.cancel()
        if self._sampler:
            self._sampler.stop()

    def usage(self, language: str, since: int = 0, *, with_history: bool = True) -> dict[str, Any]:
        """The usage message; looking also asks the sampler for the slow values."""
        if self._sampler is None:
            fault = self.lease if isinstance(self.lease, LeaseFault) else None
            return usage_message(self.lease, snapshot_without_source(fault), (), language)
        self._sampler.look()
        rows = self._sampler.rows_after(since) if with_history else ()
        return usage_message(self.lease, self._sampler.snapshot(), rows, language)

    def add(self, stream: Stream, since: int = 0) -> None:
        """Push to `stream` from now on, beginning with the history it lacks."""
        self._streams.add(stream)
        if self._sampler:
            self._sampler.watch()
            self._watch_for_silence()
        stream.put(json.dumps(self.usage(stream.language, since)))

    def remove(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.discard(stream)
            stream.close()
            if self._sampler:
                self._sampler.unwatch()

    def _ticked(self) -> None:
        """In the sampler's thread: have the event loop push."""
        loop = self._loop
        if loop and self._streams:
            # The loop may close between the look and the call: the server is stopping.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._push)

    def _push(self) -> None:
        messages: dict[str, str] = {}
        for stream in list(self._streams):
            if stream.language not in messages:
                usage = self.usage(stream.language, with_history=False)
                messages[stream.language] = json.dumps(usage)
            stream.put(messages[stream.language])
        self._watch_for_silence()

    def _watch_for_silence(self) -> None:
        """Push an ageing message when the sampler hangs in the driver and does not tick."""
        if self._silence:
            self._silence.cancel()
        self._silence = None
        if self._streams and self._loop:
            self._silence = self._loop.call_later(_SILENCE_SECONDS, self._push)
