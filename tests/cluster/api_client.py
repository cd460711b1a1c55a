"""API client: a small, blocking client of the Kubernetes API for tests.

Paths and JSON in, JSON out, nothing hidden: what a test sends can be read in the test. The
product talks through kubernetes_asyncio; this one only prepares the world and looks at it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

Json = dict[str, Any]

PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """The API server said no. ``code`` is the HTTP status, ``reason`` Kubernetes' word."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class ApiClient:
    """One identity at one API server. Safe to use from one thread at a time."""

    def __init__(self, url: str, token: str, ca_file: Path) -> None:
        self.url = url
        self.session = requests.Session()
        # Proxies of the machine's environment must not see loopback.
        self.session.trust_env = False
        self.session.verify = str(ca_file)
        self.session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """One request.

        Raises:
            ApiError: Any status from 400 on.
            requests.ConnectionError: The API server is not there.
        """
        headers = more.pop("headers", {})
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        answer = self.session.request(
            method, self.url + path, data=None if body is None else json.dumps(body),
            headers=headers, timeout=more.pop("timeout", 30), **more,
        )
        if answer.status_code >= 400:
            try:
                status = answer.json()
            except ValueError:
                status = {"message": answer.text[:300]}
            raise ApiError(answer.status_code, status.get("reason", ""), status.get("message", ""))
        return answer.json() if answer.content[:1] in (b"{", b"[") else {"text": answer.text}

    def get(self, path: str, **query: Any) -> Json:
        return self.request("GET", path, params=query)

    def find(self, path: str) -> Json | None:
        """The object, or None when there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, path: str, **query: Any) -> list[Json]:
        return self.get(path, **query)["items"]

    def post(self, path: str, body: Any, **query: Any) -> Json:
        return self.request("POST", path, body, params=query)

    def put(self, path: str, body: Any) -> Json:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = "merge", **query: Any) -> Json:
        """``kind`` is merge, strategic, json or apply."""
        return self.request(
            "PATCH", path, body, params=query, headers={"Content-Type": PATCHES[kind]}
        )

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Ask for deletion. What is already gone is fine."""
        query = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        try:
            self.request("DELETE", path, params=query)
        except ApiError as error:
            if error.code != 404:
                raise

    def watch(self, path: str, *, seconds: int, version: str = "", **query: Any) -> Iterator[Json]:
        """Events of a list from ``version`` on, until the server ends it after ``seconds``."""
        query |= {"watch": "true", "timeoutSeconds": seconds, "resourceVersion": version}
        with self.session.get(
            self.url + path, params=query, stream=True, timeout=(10, seconds + 10)
        ) as answer:
            if answer.status_code >= 400:
                raise ApiError(answer.status_code, "", answer.text[:300])
            for line in answer.iter_lines(chunk_size=None):
                if line:
                    yield json.loads(line)

    def wait_until(
        self, path: str, holds: Callable[[Json], Any], *, seconds: float = 30
    ) -> Json:
        """Read one object until ``holds`` is true of it, and return it.

        An object that does not exist is passed as an empty dict.

        Raises:
            TimeoutError: It never was; the text ends with the object's status.
        """
        give_up_at = time.monotonic() + seconds
        while True:
            seen = self.find(path) or {}
            if holds(seen):
                return seen
            if time.monotonic() > give_up_at:
                status = json.dumps(seen.get("status", seen))[:1500]
                raise TimeoutError(f"{path} after {seconds:g} s is still: {status}")
            time.sleep(0.05)
