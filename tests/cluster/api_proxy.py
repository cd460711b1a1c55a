"""API proxy: stands between a client and a real API server, and makes trouble when told.

Requests go through with their own token; every one is written down. It can cut the streams
that are open, close the door (connections are refused, as by a server that is gone), answer
instead of the server, and set the server's clock wrong: every time in what it says is moved.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

_TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d+)?Z)"')
_PASSED_ON = ("Authorization", "Content-Type", "Accept")


@dataclass(frozen=True, slots=True)
class Seen:
    at: float
    path: str
    query: Mapping[str, str]
    method: str = "GET"

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query


@dataclass
class Instead:
    """An answer of the proxy's own: to each of the next ``times`` requests that match."""

    matches: Callable[[Seen], bool]
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1


class ApiProxy:
    """Listens on loopback, without TLS. ``seen`` are all requests so far; ``skew_seconds`` is
    how far the API server's clock is ahead, in what it answers from now on."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self._upstream = url
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self.seen: list[Seen] = []
        self.instead: list[Instead] = []
        self.skew_seconds = 0
        self._open: set[asyncio.BaseTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._do(self._begin())
        self.open_door()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self, place: Path, token: str) -> Path:
        """A kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "hub", "user": {"token": token}}],
            "contexts": [{"name": "hub", "context": {"cluster": "proxy", "user": "hub"}}],
            "current-context": "hub",
        }
        place.write_text(json.dumps(config))
        return place

    def since(self, at: float) -> list[Seen]:
        return [seen for seen in self.seen if seen.at >= at]

    def cut(self) -> None:
        """End all open connections in the middle of whatever they carry."""
        self._do(self._cut())

    def close_door(self) -> None:
        self._do(self._stop_listening())
        self.cut()

    def open_door(self) -> None:
        self._do(self._listen())

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _begin(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        self._client = aiohttp.ClientSession(connector=connector)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = self.port or self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        await self._site.stop()
        # What waits for the client's next request would still be served.
        server = self._runner.server
        for connection in server.connections if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()  # type: ignore[attr-defined]

    async def _cut(self) -> None:
        for transport in list(self._open):
            transport.abort()  # type: ignore[attr-defined]

    async def _end(self) -> None:
        await self._cut()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._client.close()
        # TLS connections end a moment later.
        await asyncio.sleep(0.25)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(time.monotonic(), request.path, dict(request.query), request.method)
        self.seen.append(seen)
        for instead in self.instead:
            if instead.times > 0 and instead.matches(seen):
                instead.times -= 1
                return web.Response(
                    status=instead.status, body=instead.body, headers=dict(instead.headers)
                )
        assert request.transport is not None
        self._open.add(request.transport)
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        try:
            # No timeout: a watch is silent for as long as nothing happens.
            async with self._client.request(
                request.method,
                self._upstream + request.path_qs,
                data=await request.read(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as upstream:
                kind = upstream.headers.get("Content-Type", "application/json")
                answer = web.StreamResponse(status=upstream.status, headers={"Content-Type": kind})
                await answer.prepare(request)
                # A client that is cut off is what this is for.
                with contextlib.suppress(ConnectionError):
                    rest = b""
                    async for chunk in upstream.content.iter_any():
                        # By lines, so that no time is split.
                        whole, end, rest = (rest + chunk).rpartition(b"\n")
                        if end:
                            await answer.write(self._skewed(whole + end))
                    if rest:
                        await answer.write(self._skewed(rest))
                return answer
        finally:
            self._open.discard(request.transport)

    def _skewed(self, said: bytes) -> bytes:
        def moved(match: re.Match[bytes]) -> bytes:
            at = datetime.fromisoformat(match[1].decode()) + timedelta(seconds=self.skew_seconds)
            return b'"' + at.isoformat().encode() + match[2] + b'"'

        return _TIME.sub(moved, said) if self.skew_seconds else said
