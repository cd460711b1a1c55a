"""The Hub's own spawn page around a picker, and a small server that browsers can open.

The page comes from the templates of the installed JupyterHub, with its style and scripts, so
that what is checked is what a user sees. No Hub runs: a form that is sent is kept and shown
in ``sent``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mimetypes import guess_type
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

from jinja2 import Environment, FileSystemLoader
from tornado.httputil import parse_body_arguments

SHARE = Path(sys.prefix) / "share" / "jupyterhub"
SPAWN_PATH = "/hub/spawn/ada"


def hub_spawn_page(form: str, error: str = "") -> str:
    """JupyterHub's spawn.html with the form in it, as its handler renders it."""
    templates = Environment(loader=FileSystemLoader(SHARE / "templates"), autoescape=True)
    user = SimpleNamespace(
        name="ada", json_escaped_name="ada", spawner=SimpleNamespace(options_form=True)
    )
    return templates.get_template("spawn.html").render(
        spawner_options_form=form,
        error_message=error,
        url=f"{SPAWN_PATH}?_xsrf=a-token",
        user=user,
        for_user=user,
        base_url="/hub/",
        prefix="/",
        xsrf_token="a-token",
        static_url=lambda path, include_version=True: f"/hub/static/{path}",
        parsed_scopes={},
        services=[],
        logout_url="/hub/logout",
        login_url="/hub/login",
    )


@dataclass
class PageServer:
    """``page`` is what SPAWN_PATH answers with; ``sent`` the forms that came back."""

    url: str = ""
    page: str = ""
    sent: list[dict[str, list[str]]] = field(default_factory=list)
    asked_with: list[str] = field(default_factory=list)


@contextmanager
def serve_pages() -> Iterator[PageServer]:
    server = PageServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path == "/hub/logo":
                path = "/hub/static/images/jupyterhub-80.png"
            static = (SHARE / "static" / path.removeprefix("/hub/static/")).resolve()
            if path == SPAWN_PATH:
                server.asked_with.append(self.headers.get("X-Aliquot-Consider", ""))
                self._answer(server.page.encode(), "text/html; charset=utf-8")
            elif static.is_relative_to(SHARE) and static.is_file():
                kind = guess_type(static.name)[0] or "application/octet-stream"
                self._answer(static.read_bytes(), kind)
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arguments: dict[str, list[bytes]] = {}
            parse_body_arguments(self.headers["Content-Type"], body, arguments, {})
            server.sent.append(
                {key: [value.decode() for value in values] for key, values in arguments.items()}
            )
            self._answer(b"<title>sent</title>", "text/html")

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}{SPAWN_PATH}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
