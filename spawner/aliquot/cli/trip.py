"""The trip: what two users do in a browser, over HTTP, step by step.

Log in, pick 30 blocks and a ``1g.10gb``, wait for JupyterLab, run a cell that prints what the
widget would show, be refused once, stop, and find the books at zero. Each step prints a line
with its time; the first that goes wrong ends the trip.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from urllib.parse import quote, urljoin

import requests
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

_CELL_SECONDS = 60
_CELL = "%load_ext aliquot_lab\n%gpu"


class TripFailed(Exception):
    """A step went wrong; the text is a sentence that names it."""


class Trip:
    """``say`` gets one line a step."""

    def __init__(self, address: str, password: str, say: Callable[[str], object]) -> None:
        self.address = address
        self.password = password
        self.say = say

    def run(self) -> None:
        """Raises TripFailed at the first step that goes wrong."""
        began = time.monotonic()
        with self._step("ada logs in"):
            ada = Visitor(self.address, "ada", self.password)
        with self._step("grace logs in"):
            grace = Visitor(self.address, "grace", self.password)
        sizes = ada.offered()
        slice_ = "1g.10gb" if "1g.10gb" in sizes else None
        part = "30 blocks" if ada.would_start("30 blocks") else "100 blocks"
        with self._step(f"ada starts JupyterLab with {part}"):
            ada.start(share=part)
            ada.wait_until_ready()
        with self._step("ada's cell prints her usage") as note:
            note(ada.run_cell(_CELL))
        if slice_ is not None:
            with self._step(f"grace starts JupyterLab with {slice_}"):
                grace.start(share=slice_)
                grace.wait_until_ready()
            with self._step("grace's cell prints her usage") as note:
                note(grace.run_cell(_CELL))
        with self._step("lin is refused more than the group has") as note:
            lin = Visitor(self.address, "lin", self.password)
            note(lin.refused(share="custom", amount="190", unit="blocks", group="vision"))
        with self._step("both stop"):
            ada.stop()
            grace.stop()
        with self._step("the books are at zero"):
            held = [lease for visitor in (ada, grace) for lease in visitor.leases()]
            if held:
                raise TripFailed(f"{len(held)} leases are still held.")
        self.say(f"The whole trip took {time.monotonic() - began:.1f} s.")

    @contextmanager
    def _step(self, what: str) -> Iterator[Callable[[str], None]]:
        notes: list[str] = []
        began = time.monotonic()
        try:
            yield notes.append
        except (requests.RequestException, KeyError, ValueError, OSError) as error:
            raise TripFailed(f"Failed: {what}: {error!r}.") from error
        except TripFailed as error:
            raise TripFailed(f"Failed: {what}: {error}") from error
        self.say(f"{time.monotonic() - began:6.2f} s  {what}")
        for note in notes:
            for line in note.splitlines():
                self.say(f"          {line}")


class Visitor:
    """One user with a browser's cookies. ``start_seconds`` is how long a start may take."""

    start_seconds = 90

    def __init__(self, address: str, name: str, password: str) -> None:
        self.address = address
        self.name = name
        self.session = requests.Session()
        self.session.get(urljoin(address, "hub/login"), timeout=30).raise_for_status()
        answer = self.session.post(
            urljoin(address, "hub/login"),
            data={"username": name, "password": password, "_xsrf": self._xsrf("/hub/")},
            timeout=30,
        )
        if "/hub/login" in answer.url:
            raise TripFailed(f"{name} could not log in.")

    def _xsrf(self, path: str) -> str:
        """The token that a page under ``path`` would send: of the cookie set for it."""
        fitting = [c for c in self.session.cookies if c.name == "_xsrf" and path.startswith(c.path)]
        return max(fitting, key=lambda c: len(c.path)).value or "" if fitting else ""

    def _get(self, path: str) -> requests.Response:
        """A page, or JSON as a page's script would fetch it."""
        headers = {"X-XSRFToken": self._xsrf("/" + path)}
        answer = self.session.get(urljoin(self.address, path), headers=headers, timeout=30)
        answer.raise_for_status()
        return answer

    def _form(self) -> tuple[str, str]:
        page = self.session.get(urljoin(self.address, f"hub/spawn/{self.name}"), timeout=30)
        form = _SpawnForm()
        form.feed(page.text)
        if form.action is None:
            raise TripFailed(
                f"the spawn page of {self.name} has no form (status {page.status_code})."
            )
        return urljoin(page.url, form.action), page.text

    def offered(self) -> list[str]:
        """The sizes on the spawn page."""
        form = _SpawnForm()
        form.feed(self._form()[1])
        return form.shares

    def _submit(self, **fields: str) -> requests.Response:
        action, _ = self._form()
        files = {name: (None, value) for name, value in fields.items()}
        return self.session.post(action, files=files, timeout=60)

    def start(self, **fields: str) -> None:
        said = self.ask(**fields)
        if said is not None:
            raise TripFailed(f"start was refused: {said}")

    def refused(self, **fields: str) -> str:
        """Press Start and expect a no; returns its sentence from the page."""
        said = self.ask(**fields)
        if said is None:
            raise TripFailed("expected a refusal, and the server starts.")
        return said

    def ask(self, **fields: str) -> str | None:
        """Press Start; the sentence of a refusal, or None when the server starts."""
        answer = self._submit(**fields)
        form = _SpawnForm()
        form.feed(answer.text)
        if answer.status_code == 409 and form.error:
            return " ".join(form.error.split())
        if not answer.ok or ("spawn-pending" not in answer.url and "/user/" not in answer.url):
            raise TripFailed(f"start was answered with status {answer.status_code}.")
        return None

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            server = self._get(f"hub/api/users/{self.name}").json()["servers"].get("")
            if server is None:
                raise TripFailed("the server ended while starting.")
            if server["ready"]:
                # Follows the login redirects of the notebook server and gets its cookies.
                self._get(f"user/{self.name}/lab")
                return
            time.sleep(0.2)
        raise TripFailed(f"the server was not ready after {self.start_seconds} s.")

    def stop(self) -> None:
        url = urljoin(self.address, f"hub/api/users/{self.name}/server")
        token = {"X-XSRFToken": self._xsrf("/hub/")}
        self.session.delete(url, headers=token, timeout=60).raise_for_status()
        deadline = time.monotonic() + 30
        while self._get(f"hub/api/users/{self.name}").json()["servers"]:
            if time.monotonic() > deadline:
                raise TripFailed("the server did not stop in 30 s.")
            time.sleep(0.1)

    def would_start(self, share: str) -> bool:
        """The service's verdict; its page is opened first, which logs in."""
        self._get("services/aliquot/")
        answer = self._get(f"services/aliquot/api/availability?share={quote(share)}").json()
        return answer["answer"]["state"] == "now"

    def leases(self) -> list[dict]:
        self._get("services/aliquot/")
        return self._get("services/aliquot/api/leases/mine").json()["items"]

    def run_cell(self, code: str) -> str:
        """Start a kernel in the person's server and return what the code prints."""
        base = f"user/{self.name}/"
        token = {"X-XSRFToken": self._xsrf(f"/{base}")}
        url = urljoin(self.address, f"{base}api/kernels")
        answer = self.session.post(url, json={"name": "python3"}, headers=token, timeout=60)
        answer.raise_for_status()
        kernel = answer.json()["id"]
        channels = urljoin(self.address, f"{base}api/kernels/{kernel}/channels")
        cookies = "; ".join(
            f"{c.name}={c.value}" for c in self.session.cookies if f"/{base}".startswith(c.path)
        )
        request = HTTPRequest(
            channels.replace("http", "ws", 1) + f"?_xsrf={token['X-XSRFToken']}",
            headers={"Cookie": cookies},
        )
        return asyncio.run(asyncio.wait_for(_printed(request, code), _CELL_SECONDS))


async def _printed(request: HTTPRequest, code: str) -> str:
    """What a kernel prints for a cell. Raises TripFailed when the cell raises."""
    channel = await websocket_connect(request)
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "trip",
        "session": uuid.uuid4().hex,
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    request_message = {
        "channel": "shell",
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "buffers": [],
    }
    await channel.write_message(json.dumps(request_message))
    printed: list[str] = []
    while True:
        text = await channel.read_message()
        if text is None:
            raise TripFailed("the kernel closed the connection.")
        message = json.loads(text)
        if message["parent_header"].get("msg_id") != message_id:
            continue
        match message["msg_type"]:
            case "stream":
                printed.append(message["content"]["text"])
            case "error":
                raise TripFailed(f"the cell raised {message['content']['evalue']}.")
            case "status" if message["content"]["execution_state"] == "idle":
                channel.close()
                return "".join(printed)


class _SpawnForm(HTMLParser):
    """What the trip needs of the spawn page: where the form goes, its sizes, its error."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.shares: list[str] = []
        self.error = ""
        self._in_error = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form" and given.get("id") == "spawn_form":
            self.action = given.get("action")
        if tag == "input" and given.get("name") == "share":
            self.shares.append(given.get("value") or "")
        if "spawn-error-msg" in (given.get("class") or ""):
            self._in_error = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._in_error = False

    def handle_data(self, data: str) -> None:
        if self._in_error:
            self.error += data
