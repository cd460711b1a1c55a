"""Handlers: the doors of the server extension, under `<base_url>aliquot/api/`.

All need the server's own login. None counts as activity: a panel that is only looked at
must not keep an idle server, and its GPU, from being culled.
"""

from __future__ import annotations

import json
from typing import Any

from jupyter_server.auth.decorator import authorized, ws_authenticated
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.websocket import WebSocketHandler

from aliquot_lab.telemetry import Stream, Telemetry
from aliquot_lab.wording import language_of

SETTING = "aliquot_telemetry"
AUTH_RESOURCE = "aliquot"


class _UsageHandler(APIHandler):
    auth_resource = AUTH_RESOURCE
    _track_activity = False

    @web.authenticated
    @authorized
    def get(self) -> None:
        telemetry: Telemetry = self.settings[SETTING]
        language = language_of(self.get_query_argument("lang", None))
        self.finish(telemetry.usage(language, _since(self)))


class _ReceiptHandler(APIHandler):
    auth_resource = AUTH_RESOURCE
    _track_activity = False

    @web.authenticated
    @authorized
    def get(self) -> None:
        telemetry: Telemetry = self.settings[SETTING]
        language = language_of(self.get_query_argument("lang", None))
        self.finish(json.dumps(telemetry.receipts.document(language)))


class _StreamHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):  # type: ignore[misc]
    """Pushes the usage message after each tick; the first one carries the history."""

    auth_resource = AUTH_RESOURCE
    _track_activity = False
    _stream: Stream | None = None

    @property
    def ping_interval(self) -> int:
        # A browser answers a ping by itself, and the Hub's proxy takes the answer for
        # activity: with pings an open tab would keep the server alive for ever.
        return 0

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> Any:
        if not await _is_allowed(self):
            raise web.HTTPError(403)
        return await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        super().open(*args, **kwargs)
        language = language_of(self.get_query_argument("lang", None))
        self._stream = Stream(language, self.write_message)
        self.settings[SETTING].add(self._stream, _since(self))

    def on_message(self, message: str | bytes) -> None:
        """Clients have nothing to say; whatever comes is dropped."""

    def on_close(self) -> None:
        if self._stream:
            self.settings[SETTING].remove(self._stream)

    def get_compression_options(self) -> None:
        """No compression: a message is a kilobyte, and a deflate window costs 300 per client."""


async def _is_allowed(handler: JupyterHandler) -> bool:
    answer = handler.authorizer.is_authorized(
        handler,
        handler.current_user,
        "read",
        handler.auth_resource,  # type: ignore[attr-defined]
    )
    return bool(await answer if hasattr(answer, "__await__") else answer)  # type: ignore[misc]


def _since(handler: JupyterHandler) -> int:
    """The last sequence that the client has; nonsense means none."""
    written = handler.get_query_argument("since", "0")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 16 else 0


def handlers(base_url: str) -> list[tuple[str, type]]:
    def path(name: str) -> str:
        return url_path_join(base_url, "aliquot", "api", name)

    return [
        (path("usage"), _UsageHandler),
        (path("receipt"), _ReceiptHandler),
        (path("stream"), _StreamHandler),
    ]
