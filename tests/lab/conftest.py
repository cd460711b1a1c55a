"""Servers and kernels for this room's tests, one per scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.lab_server import Kernel, LabServer, start_lab_server


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LabServer]]:
    """start_server(lease, environment): a server that lives as long as the module's tests."""
    started: list[LabServer] = []

    def start(lease: str | None, environment: dict[str, str] | None = None) -> LabServer:
        directory: Path = tmp_path_factory.mktemp("server")
        started.append(start_lab_server(directory, lease, environment))
        return started[-1]

    yield start
    for server in started:
        server.process.terminate()
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
