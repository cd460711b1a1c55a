"""API: requests to the API server, raw JSON in and failures as values of our own.

Typed models of the client library take seconds for a large cluster, so only its
configuration, its tokens and its connection pool are used. This module alone imports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config

from aliquot.discovery.kubernetes.failures import ApiFailure, Forbidden, Gone, NotServed
from aliquot.discovery.kubernetes.list_page import read_page

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0


class Api:
    """One connection pool. ``requests`` counts what was sent, by path, failed ones included."""

    def __init__(self) -> None:
        self._client: ApiClient | None = None
        self._credentials_are_old = False
        self.requests: Counter[str] = Counter()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            # TLS connections end a moment after aiohttp's session says so (its documentation,
            # "Graceful shutdown"); a loop that ends before leaves them open.
            await asyncio.sleep(0.25)

    async def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """An answer's object. Raises ApiFailure."""
        items: list[Any] = []
        found = await self.page(path, query, items.append)
        return {**found, "items": items}

    async def page(
        self, path: str, query: dict[str, str], take: Callable[[Any], None]
    ) -> dict[str, Any]:
        """Call ``take`` with each object of a list; returns the list's other fields.

        Raises ApiFailure.
        """
        timeout = aiohttp.ClientTimeout(
            total=ANSWER_SECONDS, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS
        )
        async with self._answer(path, query, timeout) as answer:
            body = await answer.read()
        try:
            return read_page(body, take)
        except (ValueError, RecursionError) as error:
            raise ApiFailure(f"answered {path} with something that is no JSON object") from error

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, query: dict[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on. Raises ApiFailure, also while they are read;
        after so long a silence as well."""
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=CONNECT_SECONDS,
            sock_connect=CONNECT_SECONDS,
            sock_read=silence_seconds,
        )
        async with self._answer(path, query, timeout) as answer:
            yield _lines(answer)

    @contextlib.asynccontextmanager
    async def _answer(
        self, path: str, query: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.requests[path] += 1
        try:
            client = await self._connected()
            answer: Any = await client.call_api(
                path,
                "GET",
                query_params=list(query.items()),
                header_params={"Accept": "application/json"},
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
            async with answer:
                if answer.status != 200:
                    await self._refused(answer, path)
                yield answer
        except TimeoutError as error:
            raise ApiFailure("did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiFailure(f"cannot be reached ({_said(error)})") from error

    async def _refused(self, answer: aiohttp.ClientResponse, path: str) -> None:
        resource = path.rpartition("/")[2]
        said = _message(await answer.content.read(4096))
        if answer.status == 401:
            # They may have been renewed where they came from.
            self._credentials_are_old = True
            raise ApiFailure("does not accept the hub's credentials (401)", answer.status)
        if answer.status == 403:
            raise Forbidden(resource, said)
        if answer.status == 404:
            raise NotServed(resource)
        if answer.status == 410:
            raise Gone(said)
        after = answer.headers.get("Retry-After", "")
        raise ApiFailure(
            f"answered {answer.status} to {resource}" + (f": {said}" if said else ""),
            answer.status,
            float(after) if after.isascii() and after.isdigit() and len(after) < 5 else None,
        )

    async def _connected(self) -> ApiClient:
        if self._client is None or self._credentials_are_old:
            configuration = Configuration()
            await configure(configuration)
            self._credentials_are_old = False
            if self._client is None:
                self._client = ApiClient(configuration)
            # The pool stays: streams of others are open in it.
            self._client.configuration = configuration
        return self._client


async def configure(configuration: Configuration) -> None:
    """As KubeSpawner does it: the cluster around the hub, else what KUBECONFIG names. Raises
    ApiFailure."""
    try:
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            # Named, since the library reads the variable once, when it is imported.
            place = os.environ.get("KUBECONFIG")
            await load_kube_config(config_file=place, client_configuration=configuration)
    except (ConfigException, OSError, KeyError, TypeError, ValueError) as error:
        named = os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ApiFailure(
            f"is not known: the hub runs in no cluster, and {named} cannot be used ({_said(error)})"
        ) from error


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    # Not the reader's own lines: one object may be longer than they may be.
    rest = b""
    async for chunk in answer.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _message(body: bytes) -> str:
    """What a Status object says, shortened."""
    with contextlib.suppress(ValueError, RecursionError):
        status = json.loads(body)
        if isinstance(status, dict) and isinstance(status.get("message"), str):
            return status["message"][:200]
    return ""


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
