"""Watch: the objects of one kind, listed once and followed from there.

A list comes in pages, an event is one line. The stream is asked to end after half a minute and
is resumed where it ended; before that the server sends a bookmark. So a stream that is dead
without saying so is noticed soon, and a quiet cluster still proves that it is quiet.

When the server has forgotten where a stream ended (410), everything is listed anew. After any
failure, and when a stream ends early, the next attempt waits: longer each time, with jitter,
never less than the server asks. So a server in trouble gets a bounded number of requests.

Source: Kubernetes API concepts, "Efficient detection of changes", "Watch bookmarks",
"Retrieving large results sets in chunks".
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aliquot.discovery.kubernetes.failures import ApiFailure, Gone, NotServed
from aliquot.discovery.kubernetes.state import Facts, Kind
from aliquot.domain.kubernetes_values import mapping, text

STREAM_SECONDS = 30
# Beyond its end by so much, a silent stream is dead.
SILENCE_SECONDS = STREAM_SECONDS + 12.0
# What happened while a stream was away comes at once when it is resumed; after so long of an
# open stream it has come.
SETTLED_SECONDS = 1.0
PAGE_OBJECTS = 250
# A stream that lasted so long is no failure, however it ends.
STEADY_SECONDS = 10.0
# A kind that the server does not serve is looked for so often.
LOOK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind is served. ``may_be_absent``: an older cluster without it is no fault."""

    kind: Kind
    path: str
    selector: str = ""
    may_be_absent: bool = False


_DRA = "/apis/resource.k8s.io/v1/"
# Pods that are over hold nothing. Those that are not bound yet are needed: ours among them.
RESOURCES = (
    Resource(Kind.NODES, "/api/v1/nodes"),
    Resource(Kind.PODS, "/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed"),
    Resource(Kind.SLICES, _DRA + "resourceslices", may_be_absent=True),
    Resource(Kind.CLAIMS, _DRA + "resourceclaims", may_be_absent=True),
    Resource(Kind.CLASSES, _DRA + "deviceclasses", may_be_absent=True),
)


class Requests(Protocol):
    """The part of ``Api`` that is used here."""

    async def get(self, path: str, query: dict[str, str]) -> dict[str, Any]: ...

    async def page(
        self, path: str, query: dict[str, str], take: Callable[[Any], None]
    ) -> dict[str, Any]: ...

    def lines(self, path: str, query: dict[str, str], silence_seconds: float) -> Any: ...


class Sink(Protocol):
    """Who is told. Every call is short."""

    def facts(self, kind: Kind, obj: Mapping[str, Any]) -> tuple[str, Facts | None]: ...

    def listed(self, kind: Kind, objects: Mapping[str, Facts], asked_at: float) -> None:
        """All there was at ``asked_at`` (monotonic seconds), or later."""
        ...

    def changed(self, kind: Kind, name: str, facts: Facts | None) -> None: ...

    def proven(self, kind: Kind) -> None:
        """What is known of the kind is what there is now."""
        ...

    def failed(self, kind: Kind, failure: ApiFailure) -> None: ...


@dataclass
class Patience:
    """How long to wait after a failure: twice as long each time, up to ten seconds."""

    first_seconds: float = 0.5
    most_seconds: float = 10.0
    most_asked_seconds: float = 60.0
    _failures: int = field(default=0, init=False)

    def forget(self) -> None:
        self._failures = 0

    def wait_seconds(self, asked_seconds: float | None = None) -> float:
        grown = min(self.most_seconds, self.first_seconds * 2 ** min(self._failures, 16))
        self._failures += 1
        # Several watches, and several hubs, shall not come back in step.
        wait = grown * random.uniform(0.5, 1.0)
        return max(wait, min(asked_seconds or 0.0, self.most_asked_seconds))


class Watch:
    """Keeps a sink up to date about one kind, until it is cancelled."""

    def __init__(self, api: Requests, resource: Resource, sink: Sink) -> None:
        self._api = api
        self._resource = resource
        self._sink = sink
        # Where the stream continues; None when everything must be listed.
        self._version: str | None = None

    async def run(self) -> None:
        patience = Patience()
        while True:
            asked_seconds = None
            began = time.monotonic()
            try:
                if self._version is None:
                    self._version = await self._list()
                    began = time.monotonic()
                await self._follow(self._version)
            except NotServed as failure:
                self._version = None
                if self._resource.may_be_absent:
                    self._sink.listed(self._resource.kind, {}, began)
                    patience.forget()
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
                    continue
                self._sink.failed(self._resource.kind, failure)
            except Gone:
                self._version = None
            except ApiFailure as failure:
                asked_seconds = failure.retry_after_seconds
                if failure.status not in (None, 429, 503):
                    self._version = None
                self._sink.failed(self._resource.kind, failure)
            if time.monotonic() - began >= STEADY_SECONDS:
                patience.forget()
                if asked_seconds is None:
                    continue
            await asyncio.sleep(patience.wait_seconds(asked_seconds))

    def _query(self, **more: str) -> dict[str, str]:
        selector = self._resource.selector
        return {**({"fieldSelector": selector} if selector else {}), **more}

    async def _list(self) -> str:
        """All objects, page by page; returns the version that they are of."""
        kind, asked_at = self._resource.kind, time.monotonic()
        found: dict[str, Facts] = {}

        def take(obj: Any) -> None:
            name, facts = self._sink.facts(kind, obj)
            if facts is not None:
                found[name] = facts

        page = ""
        while True:
            query = self._query(limit=str(PAGE_OBJECTS), **({"continue": page} if page else {}))
            answer = await self._api.page(self._resource.path, query, take)
            metadata = mapping(answer, "metadata")
            page = text(metadata, "continue")
            if not page:
                break
        version = text(metadata, "resourceVersion")
        if not version:
            raise ApiFailure(f"listed {kind.value} without a resourceVersion")
        self._sink.listed(kind, found, asked_at)
        return version

    async def _follow(self, version: str) -> None:
        """One stream of changes, until it ends."""
        kind = self._resource.kind
        query = self._query(
            watch="1",
            allowWatchBookmarks="true",
            timeoutSeconds=str(STREAM_SECONDS),
            resourceVersion=version,
        )
        async with self._api.lines(self._resource.path, query, SILENCE_SECONDS) as lines:
            settled = asyncio.get_running_loop().call_later(
                SETTLED_SECONDS, self._sink.proven, kind
            )
            try:
                async for line in lines:
                    self._take(line)
                    self._sink.proven(kind)
            finally:
                settled.cancel()

    def _take(self, line: bytes) -> None:
        """Raises ApiFailure for what is no event: one may be missing then."""
        kind = self._resource.kind
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        obj = mapping(event, "object")
        match text(event, "type"):
            case "ADDED" | "MODIFIED":
                self._sink.changed(kind, *self._sink.facts(kind, obj))
            case "DELETED":
                self._sink.changed(kind, self._sink.facts(kind, obj)[0], None)
            case "BOOKMARK":
                pass
            case "ERROR" if obj.get("code") == 410:
                raise Gone(text(obj, "message"))
            case "ERROR":
                code = obj.get("code")
                raise ApiFailure(
                    f"ended the watch on {kind.value}: {text(obj, 'message')[:200]}",
                    code if isinstance(code, int) else 500,
                )
            case _:
                raise ApiFailure(f"sent something on {kind.value} that is no event", 500)
        version = text(mapping(obj, "metadata"), "resourceVersion")
        if version:
            self._version = version
