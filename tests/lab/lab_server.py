"""A real Jupyter server on loopback, with the extension loaded, for the tests of this room."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from jupyter_client.blocking.client import BlockingKernelClient

START_SECONDS = 40


@dataclass
class LabServer:
    port: int
    token: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def get(self, path: str, **parameters: Any) -> Any:
        answer = requests.get(self.base + path, params=parameters, headers=self.headers, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def usage(self, **parameters: Any) -> dict[str, Any]:
        return self.get("aliquot/api/usage", **parameters)

    def receipt(self, **parameters: Any) -> dict[str, Any]:
        return self.get("aliquot/api/receipt", **parameters)

    def usage_when(
        self, is_reached: Callable[[dict[str, Any]], bool], within_seconds: float = 15
    ) -> dict[str, Any]:
        return wait_for(self.usage, is_reached, within_seconds)

    def receipt_when_made(self) -> dict[str, Any]:
        return wait_for(self.receipt, lambda receipt: receipt["checked_at"] is not None, 30)

    def stream_url(self, **parameters: Any) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"ws://127.0.0.1:{self.port}/aliquot/api/stream?{query}"

    def log(self) -> str:
        return (self.directory / "server.log").read_text()

    def start_kernel(self) -> Kernel:
        answer = requests.post(self.base + "api/kernels", json={}, headers=self.headers, timeout=60)
        answer.raise_for_status()
        return Kernel(self, answer.json()["id"])

    def end_kernels(self) -> None:
        """Whatever a page has started. A cell in a loop is interrupted first."""
        for kernel in self.get("api/kernels"):
            end_kernel(self, kernel["id"])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Kernel:
    """A kernel of a server, and a client that speaks to it directly."""

    def __init__(self, server: LabServer, kernel_id: str) -> None:
        self._server = server
        self._id = kernel_id
        connection_file = server.directory / "runtime" / f"kernel-{kernel_id}.json"
        self.client = BlockingKernelClient(connection_file=str(connection_file))
        self.client.load_connection_file()
        # Two cores and a dozen test servers: a second without a beat is no death.
        self.client.hb_channel.time_to_dead = 30.0
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, timeout_seconds: float = 60) -> dict[str, Any]:
        """Run a cell; the printed text and the rich outputs that it gave."""
        outputs: dict[str, Any] = {"text": "", "displays": []}

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                outputs["text"] += content["text"]
            elif message["msg_type"] in ("execute_result", "display_data"):
                outputs["displays"].append(content["data"])

        reply = self.client.execute_interactive(code, output_hook=take, timeout=timeout_seconds)[
            "content"
        ]
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", [str(reply)]))
        return outputs

    def run_on(self, code: str) -> None:
        """Start a cell and do not wait for its end."""
        self.client.execute(code)

    def end(self) -> None:
        self.client.stop_channels()
        end_kernel(self._server, self._id)


def end_kernel(server: LabServer, kernel_id: str) -> None:
    address = f"{server.base}api/kernels/{kernel_id}"
    # Interrupted first: a cell in a loop would use up the server's patience, and a core.
    requests.post(address + "/interrupt", headers=server.headers, timeout=60)
    requests.delete(address, headers=server.headers, timeout=60)


def wait_for(
    read: Callable[[], dict[str, Any]],
    is_reached: Callable[[dict[str, Any]], bool],
    within_seconds: float,
) -> dict[str, Any]:
    end_at = time.monotonic() + within_seconds
    while True:
        value = read()
        if is_reached(value):
            return value
        assert time.monotonic() < end_at, f"not reached in {within_seconds} s: {value}"
        time.sleep(0.1)


def start_lab_server(
    directory: Path,
    lease: str | None,
    environment: Mapping[str, str] | None = None,
    *,
    jupyterlab: bool = False,
) -> LabServer:
    """`lease` is the text of ALIQUOT_LEASE; None starts a server without GPU.

    Without `jupyterlab` only the extension under test is loaded: JupyterLab itself takes a
    second.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "ServerApp": {
            "open_browser": False,
            "jpserver_extensions": {
                "aliquot_lab": True,
                "jupyterlab": jupyterlab,
                "jupyter_lsp": False,
                "notebook_shim": jupyterlab,
                "jupyter_server_terminals": False,
            },
        },
    }
    (directory / "jupyter_server_config.json").write_text(json.dumps(config))
    # Whatever lease the tests themselves run under is none of the server's.
    inherited = {name: v for name, v in os.environ.items() if not name.startswith("ALIQUOT_")}
    inherited.pop("JUPYTERHUB_API_TOKEN", None)
    token, port = secrets.token_hex(16), _free_port()
    environ = {
        **inherited,
        "HOME": str(directory),
        "JUPYTER_CONFIG_DIR": str(directory),
        "JUPYTER_DATA_DIR": str(directory / "data"),
        "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
        "LC_ALL": "C.UTF-8",
        **(environment or {}),
    }
    if lease is not None:
        environ["ALIQUOT_LEASE"] = lease
    with open(directory / "server.log", "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--allow-root",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
                f"--ServerApp.root_dir={directory}",
            ],
            env=environ, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    server = LabServer(port, token, directory, process)
    try:
        _wait_until_ready(server)
    except BaseException:
        server.stop()
        raise
    return server


def _wait_until_ready(server: LabServer) -> None:
    end_at = time.monotonic() + START_SECONDS
    while time.monotonic() < end_at:
        assert server.process.poll() is None, server.log()
        try:
            server.get("api/status")
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError(f"no answer in {START_SECONDS} s: {server.log()}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def slice_piece(
    gpu_uuid: str, mig_uuid: str, profile: str, memory_mib: int, model: str, blocks: int = 15
) -> dict[str, Any]:
    return {
        "gpu_uuid": gpu_uuid, "gpu_model": model, "mig_uuid": mig_uuid, "profile": profile,
        "blocks": blocks, "memory_mib": memory_mib, "whole": False,
    }  # fmt: skip


def block_piece(gpu_uuid: str, blocks: int, memory_mib: int, model: str) -> dict[str, Any]:
    return {
        "gpu_uuid": gpu_uuid, "gpu_model": model, "mig_uuid": None, "profile": None,
        "blocks": blocks, "memory_mib": memory_mib, "whole": False,
    }  # fmt: skip


def whole_piece(gpu_uuid: str, memory_mib: int, model: str) -> dict[str, Any]:
    return {**block_piece(gpu_uuid, 100, memory_mib, model), "whole": True}


def lease_text(
    *pieces: dict[str, Any],
    kind: str,
    by: str,
    memory: str,
    compute: str,
    simulated: bool = False,
    thread_percentage: int | None = None,
    notes: Sequence[str] = (),
) -> str:
    """ALIQUOT_LEASE as a binding writes it."""
    return json.dumps(
        {
            "version": 1,
            "lease_id": "0123456789abcdef0123456789abcdef",
            "group": "vision",
            "kind": kind,
            "blocks": sum(piece["blocks"] for piece in pieces),
            "memory_mib": sum(piece["memory_mib"] for piece in pieces),
            "pieces": pieces,
            "enforcement": {"memory": memory, "compute": compute, "by": by},
            "thread_percentage": thread_percentage,
            "since": "2026-11-23T05:00:00Z",
            "until": None,
            "simulated": simulated,
            "notes": list(notes),
        },
        separators=(",", ":"),
    )
