"""The service: a tornado application beside the Hub, at ``/services/aliquot/``.

Started by the Hub as a managed service (``python -m aliquot.service``), or by the admin's own
supervisor with the same environment and ``--external``. It needs what the Hub gives every
service (``JUPYTERHUB_…``) and ``ALIQUOT_SETTINGS``.

A managed service ends with its Hub, and at start it waits for a port that the service of the
Hub before has not let go yet.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import secrets
import signal
import time
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler

from aliquot.allocator import Allocator
from aliquot.service.base import NotFoundHandler, ServiceHandler
from aliquot.service.endpoints import ENDPOINTS
from aliquot.service.hub_servers import HubApi, live_servers
from aliquot.service.models import NoQuery
from aliquot.service.openapi import document
from aliquot.service.pages import HomeHandler
from aliquot.service.parent import end_with_parent, watch_parent
from aliquot.service.reconciling import Reconciler
from aliquot.service.state import ServiceState
from aliquot.settings import ENVIRONMENT, Settings

log = logging.getLogger(__name__)

PORT_WAIT_SECONDS = 15.0
_MAX_BODY_BYTES = 1024 * 1024


class OpenApiHandler(ServiceHandler):
    """The document, with this service's own address as its server."""

    needs_login = False

    async def get(self) -> None:
        self.query(NoQuery)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document(self.settings["prefix"]), ensure_ascii=False))


class LoginHandler(HubOAuthCallbackHandler):
    """Where the Hub sends a browser back to; the Hub's own, with our headers."""

    set_default_headers = ServiceHandler.set_default_headers


class StaticHandler(StaticFileHandler):
    set_default_headers = ServiceHandler.set_default_headers


def make_application(state: ServiceState, prefix: str) -> Application:
    """The routes. ``prefix`` is the service's path, with slashes at both ends."""
    shared = {"state": state}
    routes: list[Any] = [
        (f"{prefix}?", HomeHandler, shared),
        (f"{prefix}oauth_callback", LoginHandler),
        (f"{prefix}api/openapi\\.json", OpenApiHandler, shared),
        (
            f"{prefix}static/(.*)",
            StaticHandler,
            {"path": str(files("aliquot.service").joinpath("static"))},
        ),
        *((prefix + endpoint.pattern, endpoint.handler, shared) for endpoint in ENDPOINTS),
    ]
    return Application(
        routes,
        default_handler_class=NotFoundHandler,
        default_handler_args=shared,
        prefix=prefix,
        # Signs the state of a login that is under way; a login that meets a restart of the
        # service begins again.
        cookie_secret=secrets.token_bytes(32),
        log_function=_log_request,
    )


def _log_request(handler: Any) -> None:
    """Faults only. The address is logged without its query, which can carry tokens."""
    status = handler.get_status()
    if status >= 500:
        request = handler.request
        log.error("%s %s answered %s", request.method, request.path, status)


class Service:
    """One running service."""

    def __init__(self, settings: Settings, environ: dict[str, str]) -> None:
        url = urlsplit(environ["JUPYTERHUB_SERVICE_URL"])
        self._address = url.hostname or "127.0.0.1"
        self._port = url.port or 80
        allocator = Allocator.from_settings(settings)
        hub = HubApi(environ["JUPYTERHUB_API_URL"], environ["JUPYTERHUB_API_TOKEN"])
        self._reconciler = Reconciler(
            allocator, lambda: live_servers(hub), settings.reconcile_seconds
        )
        state = ServiceState(
            allocator,
            self._reconciler,
            environ.get("ALIQUOT_OPEN_METRICS_ON_LOOPBACK") == "1",
        )
        self._application = make_application(state, environ["JUPYTERHUB_SERVICE_PREFIX"])
        self._ended = asyncio.Event()

    def end(self) -> None:
        self._ended.set()

    async def run(self, parent: int | None) -> None:
        """Until ``end``; ``parent`` is the process to end with, None for none."""
        server = HTTPServer(self._application, max_body_size=_MAX_BODY_BYTES)
        server.add_sockets(await self._sockets())
        log.info("the service answers on %s:%s", self._address, self._port)
        loops = [asyncio.create_task(self._reconciler.run())]
        if parent is not None:
            loops.append(asyncio.create_task(watch_parent(parent, self.end)))
        await self._ended.wait()
        for loop in loops:
            loop.cancel()
        server.stop()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _sockets(self):
        """Raises OSError when somebody else keeps the port."""
        deadline = time.monotonic() + PORT_WAIT_SECONDS
        while True:
            try:
                return bind_sockets(self._port, self._address)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.25)


async def _serve(external: bool) -> None:
    loop = asyncio.get_running_loop()
    parent = None if external else os.getppid()
    service = Service(Settings.from_environment(), dict(os.environ))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.end)
    if parent is not None:
        end_with_parent(parent)
    await service.run(parent)


def main(external: bool = False) -> None:
    logging.basicConfig(
        level=logging.INFO, format="[%(levelname)1.1s %(asctime)s %(name)s] %(message)s"
    )
    # The Hub's authentication tells every login and cookie there.
    logging.getLogger("tornado.application").setLevel(logging.WARNING)
    missing = [
        name
        for name in (
            ENVIRONMENT,
            "JUPYTERHUB_API_TOKEN",
            "JUPYTERHUB_API_URL",
            "JUPYTERHUB_SERVICE_PREFIX",
            "JUPYTERHUB_SERVICE_URL",
        )
        if not os.environ.get(name)
    ]
    if missing:
        raise SystemExit(
            f"The service cannot start: {', '.join(missing)} not set. The Hub sets them for a "
            "service that setup_aliquot(c) adds; an external one needs the same values."
        )
    try:
        asyncio.run(_serve(external))
    except OSError as error:
        raise SystemExit(
            f"The service cannot listen at {os.environ['JUPYTERHUB_SERVICE_URL']}: "
            f"{error.strerror}. Stop what holds the port, or give the service another url."
        ) from error
