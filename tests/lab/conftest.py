"""Servers and kernels for this room's tests, one per scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab_server import Kernel, LabServer, start_lab_server

StartServer = Callable[..., LabServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """start_server(lease, environment): a server that ends with the test."""
    yield from _servers_in(tmp_path)


@pytest.fixture(scope="module")
def start_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """The same for a server that a module's tests share."""
    yield from _servers_in(tmp_path_factory.mktemp("servers"))


def _servers_in(folder: Path) -> Iterator[StartServer]:
    started: list[LabServer] = []

    def start(lease: str | None, environment: dict[str, str] | None = None) -> LabServer:
        started.append(start_lab_server(folder / f"server{len(started)}", lease, environment))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def kernel_of() -> Iterator[Callable[[LabServer], Kernel]]:
    """kernel_of(server): a new kernel of that server, ended with the test."""
    kernels: list[Kernel] = []

    def start(server: LabServer) -> Kernel:
        kernels.append(server.start_kernel())
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.end()
