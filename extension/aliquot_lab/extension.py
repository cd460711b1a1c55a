"""Extension: how a Jupyter server loads this package, and how it lets it go.

Loading only registers doors. Sampling and the receipt's check begin when the server
already answers, so that a start waits for nothing of it.
"""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from aliquot_lab.handlers import SETTING, handlers
from aliquot_lab.telemetry import Telemetry

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def load(server: ServerApp) -> None:
    telemetry = Telemetry(os.environ, server.log)
    server.web_app.settings[SETTING] = telemetry
    server.web_app.add_handlers(".*$", handlers(server.web_app.settings["base_url"]))

    async def start() -> None:
        telemetry.start()

    server.io_loop.add_callback(start)
    atexit.register(telemetry.stop)
