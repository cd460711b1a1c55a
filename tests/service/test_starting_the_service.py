"""The service as a process of its own: what it needs, its port, and a Hub that is not there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from aliquot.settings import ENVIRONMENT, Settings
from tests.fixtures.hub import free_port


def environment(folder: Path, port: int) -> dict[str, str]:
    """What a Hub would give; nothing answers at its API."""
    settings = Settings(database_url=f"sqlite:///{folder}/books.sqlite", gpu_source="simulated")
    return {
        **os.environ,
        ENVIRONMENT: settings.to_json(),
        "JUPYTERHUB_API_TOKEN": "a-token",
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{free_port()}/hub/api",
        "JUPYTERHUB_CLIENT_ID": "service-aliquot",
        "JUPYTERHUB_SERVICE_NAME": "aliquot",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/aliquot/",
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    }


@contextmanager
def service(env: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "aliquot.service", *words],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def health(port: int, seconds: float = 40) -> requests.Response:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return requests.get(f"http://127.0.0.1:{port}/services/aliquot/health", timeout=10)
        except requests.ConnectionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def test_without_what_a_hub_gives_it_says_what_is_missing(tmp_path):
    env = {k: v for k, v in environment(tmp_path, 1).items() if k != "JUPYTERHUB_API_TOKEN"}

    done = subprocess.run(
        [sys.executable, "-m", "aliquot.service"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert "JUPYTERHUB_API_TOKEN not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_waits_for_a_port_that_is_still_held(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with service(environment(tmp_path, port)) as process:
            time.sleep(5)
            waited = process.poll() is None
            holder.close()
            answer = health(port)

    assert waited
    assert answer.status_code == 200


def test_without_a_hub_it_is_degraded_and_tells_no_addresses(tmp_path):
    port = free_port()
    with service(environment(tmp_path, port), "--external") as process:
        found = health(port).json()
        login_needed = requests.get(
            f"http://127.0.0.1:{port}/services/aliquot/api/sizes",
            headers={"Authorization": "token something"},
            timeout=20,
        )
        assert process.poll() is None

    assert found["status"] == "degraded"
    assert found["database"]["ok"] is True
    assert found["reconciliation"]["ok"] is False
    assert "127.0.0.1" not in str(found)
    # Who asks cannot be known: that is the Hub's fault and not the caller's.
    assert (login_needed.status_code, login_needed.json()["reason"]) == (502, "hub_unreachable")


@pytest.mark.parametrize("kind", ["gone", "not a database"])
def test_with_broken_books_it_still_answers_and_says_so(tmp_path, kind):
    port = free_port()
    books = tmp_path / "books.sqlite"
    with service(environment(tmp_path, port)):
        assert health(port).status_code == 200
        for file in tmp_path.glob("books.sqlite*"):
            file.unlink()
        if kind != "gone":
            books.write_bytes(b"no database, but long enough to look at: " * 40)
        answer = health(port)

    assert answer.status_code == 503
    assert answer.json()["database"] == {
        "ok": False,
        "message": "the ledger cannot be read; the service's log says why",
    }
    assert str(tmp_path) not in answer.text
