"""The doors behind a real Hub and proxy, for a person signed in by cookie."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from tests.lab.lab_server import block_piece, lease_text

LEASE = lease_text(
    block_piece("GPU-sim-0", 30, 24467, "NVIDIA H100 80GB HBM3"),
    kind="blocks",
    by="simulated",
    memory="none",
    compute="none",
    simulated=True,
)

CONFIG = f"""
c.Spawner.environment["ALIQUOT_LEASE"] = {LEASE!r}
# Both ways by which the Hub hears of activity, each second instead of every five minutes.
c.Spawner.environment["JUPYTERHUB_ACTIVITY_INTERVAL"] = "1"
c.JupyterHub.last_activity_interval = 1
c.JupyterHub.last_activity_resolution = 0
"""


@pytest.fixture(scope="module")
def hub(start_module_hub) -> Any:
    hub = start_module_hub(CONFIG)
    for user in ("ada", "lin"):
        hub.add_user(user)
    hub.start_server("ada")
    return hub


def signed_in(hub: Any, user: str) -> Any:
    browser = hub.login(user)
    browser.open("user/ada/lab")
    return browser


def stream_request(hub: Any, browser: Any) -> HTTPRequest:
    cookies = {
        cookie.name: cookie.value
        for cookie in sorted(browser.cookies, key=lambda cookie: len(cookie.path))
        if "/user/ada/".startswith(cookie.path)
    }
    url = hub.url.replace("http:", "ws:") + "user/ada/aliquot/api/stream"
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return HTTPRequest(url, headers={"Cookie": cookie, "Origin": hub.url.rstrip("/")})


def test_the_owner_s_page_reads_figures_with_its_cookie(hub):
    browser = signed_in(hub, "ada")
    deadline = time.monotonic() + 20
    # The server answers before the sampler's first figures are in.
    while True:
        answer = browser.fetch("GET", "user/ada/aliquot/api/usage?lang=ko")
        assert answer.status_code == 200
        if answer.json()["devices"] or time.monotonic() > deadline:
            break
        time.sleep(0.1)

    assert answer.json()["devices"][0]["piece"] == "30 블록"


def test_a_page_of_another_site_reads_nothing_with_the_owner_s_cookie(hub):
    browser = signed_in(hub, "ada")
    answer = browser.get(
        hub.url + "user/ada/aliquot/api/usage",
        headers={"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"},
        allow_redirects=False,
    )

    assert answer.status_code == 403


def test_another_user_reads_nothing(hub):
    answer = signed_in(hub, "lin").fetch("GET", "user/ada/aliquot/api/usage", allow_redirects=False)

    assert answer.status_code == 403


async def test_another_user_gets_no_stream(hub):
    with pytest.raises(HTTPClientError) as refused:
        await websocket_connect(stream_request(hub, signed_in(hub, "lin")))

    assert refused.value.code == 403


async def test_an_open_panel_is_no_activity_to_the_hub(hub):
    stream = await websocket_connect(stream_request(hub, signed_in(hub, "ada")))
    messages: list[dict[str, Any]] = []

    async def read(seconds: float) -> None:
        end_at = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end_at:
            messages.append(json.loads(await stream.read_message() or "null"))

    await read(4)  # Opening the page was activity; let the Hub hear of it first.
    before = hub.server("ada")["last_activity"]
    await read(5)
    after = hub.server("ada")["last_activity"]
    stream.close()

    assert len(messages) >= 8
    assert after == before

    # The Hub does hear of somebody at work, or the line above would prove nothing.
    signed_in(hub, "ada").fetch("GET", "user/ada/api/contents")
    await asyncio.sleep(3)
    assert hub.server("ada")["last_activity"] > before
